"""The loss of an encoder-decoder, whose logits are never held all at once.

transformers computes logits of all target positions, padding included, and holds them, their
softmax and their gradients. Here the decoder's states of labels that count go through the head in
chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqLMOutput

from longwatt.models.attention.loss import linear_cross_entropy
from longwatt.models.family import IGNORED, Batch
from longwatt.models.losses.label_loss import FLOAT32_NOISE, LINEAR, put_in_place

# Arguments of `forward` that this loss takes; with any other the model's own is called.
ENCODER_ARGUMENTS = {"input_ids", "attention_mask", "labels"}
PROBED_TOKENS = 3


def attach_decoder_loss(model: Any) -> bool:
    """Let a model's `forward` compute the loss of labels in chunks.

    Calling the model stays the way to its loss, so that what wraps a model (several devices, mixed
    precision, adapters) keeps its hold on it. Without labels all is as transformers has it.

    Returns:
        False where a batch of a few tokens shows that the model's loss is another, or that there
        is more between its decoder and its logits. Its own then stays in use.
    """
    if not _is_equal(model):
        return False
    stock = type(model).forward

    def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if value is not None}
        known = "labels" in given and set(given) <= ENCODER_ARGUMENTS
        if args or not known or type(model.get_output_embeddings()) not in LINEAR:
            return stock(model, *args, **kwargs)  # adapters may be in the head since
        return Seq2SeqLMOutput(loss=_loss(model, given))

    put_in_place(model, forward)
    return True


def _loss(model: Any, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the labels that count."""
    labels = batch["labels"]
    counted, seen = labels != IGNORED, list[Tensor]()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    started = model.prepare_decoder_input_ids_from_labels(labels=labels)
    with _no_logits(model, seen.append):
        type(model).forward(model, **inputs, decoder_input_ids=started, use_cache=False)
    head, added = model.get_output_embeddings(), getattr(model, "final_logits_bias", None)
    bias = head.bias if added is None else added.flatten() + (0 if head.bias is None else head.bias)
    return linear_cross_entropy(seen[0][counted], head.weight, labels[counted], bias)


@contextmanager
def _no_logits(model: Any, keep: Callable[[Tensor], None]) -> Iterator[None]:
    """Keep the states that a model hands to its head, and hand it none."""

    def hook(part: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        keep(args[0])
        return (args[0][:, :0],)

    handle = model.get_output_embeddings().register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _is_equal(model: Any) -> bool:
    """Check on a small batch that a model's own loss is the one computed here."""
    if type(model.get_output_embeddings()) not in LINEAR:
        return False
    batch, training = _small_batch(model), model.training
    model.eval()
    try:
        own = float(type(model).forward(model, **batch).loss)
        found = float(_loss(model, batch))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False  # it needs other inputs; a training says what, in its own words
    finally:
        model.train(training)
    return math.isclose(own, found, rel_tol=FLOAT32_NOISE)


def _small_batch(model: Any) -> Batch:
    """Make two rows, with a label that does not count."""
    most = model.get_output_embeddings().weight.shape[0] - 1
    ids = torch.arange(1, 2 * PROBED_TOKENS + 1, device=model.device).view(2, PROBED_TOKENS)
    labels = (ids * max(1, most // 7)).clamp(max=most)
    labels[1, -1] = IGNORED
    return {"input_ids": ids.clamp(max=most), "attention_mask": torch.ones_like(ids),
            "labels": labels}  # fmt: skip
