"""The loss of a decoder-only model, by the hidden states that predict a label alone.

transformers computes logits for the whole sequence, prompt and padding included, and holds them all
in float32. Here only states that predict a label go through the head, and where the head is a
linear map their logits are never held all at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from longwatt.models.attention.linear import FastLinear
from longwatt.models.attention.loss import CHUNK, linear_cross_entropy
from longwatt.models.errors import ModelError
from longwatt.models.family import IGNORED

INPUTS = ("input_ids", "attention_mask", "position_ids")
# Arguments of `forward` that this loss takes; with any other the model's own is called.
TAKEN = {*INPUTS, "labels"}
LINEAR = (nn.Linear, FastLinear)
STATES = 300.0  # size of states by which a head shows whether it is linear
SAME = 1e-4  # of the largest value; float32 sums in another order differ by far less
LOSS_SCALE = "_label_logit_scale"  # attribute of a model: see `attach`
Given = Mapping[str, Tensor]


def attach(model: Any) -> None:
    """Let a model's `forward` compute the loss of labels by their own states.

    Calling the model stays the way to its loss, so that what wraps a model (several devices, mixed
    precision, adapters) keeps its hold on it. Without labels all is as transformers has it.

    Raises:
        ModelError: a token sees those after it.
    """
    stock, scale = type(model).forward, _probed_scale(model)

    def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if value is not None}
        if args or "labels" not in given or not set(given) <= TAKEN:
            return stock(model, *args, **kwargs)
        return CausalLMOutputWithPast(loss=_loss(model, given))

    # Without `__wrapped__`, by which libraries would unwrap it. Generation asks for arguments.
    forward.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    forward.__doc__ = stock.__doc__
    setattr(model, LOSS_SCALE, scale)
    model.forward = MethodType(forward, model)


def label_argmax(model: Any, batch: Given) -> list[list[int]]:
    """Predict each label from the gold tokens before it: token ids of each row.

    Args:
        model: a model that `attach` has seen, in evaluation mode.
        batch: with labels.
    """
    counted, best = batch["labels"][:, 1:] != IGNORED, list[Tensor]()
    if _is_linear(model):
        head, states = model.get_output_embeddings(), _label_states(model, batch)[0]
        step = max(1, CHUNK // len(head.weight))
        for first in range(0, len(states), step):
            best.append(head(states[first : first + step]).argmax(-1))
    else:
        best.append(_own_logits(model, batch)[0].argmax(-1))
    tokens = iter(torch.cat(best).tolist())
    return [[next(tokens) for _ in range(length)] for length in counted.sum(1).tolist()]


def _loss(model: Any, batch: Given) -> Tensor:
    """Return the mean cross-entropy of the labels that count."""
    if not _is_linear(model):
        logits, labels = _own_logits(model, batch)
        return nn.functional.cross_entropy(logits.float(), labels)
    states, labels = _label_states(model, batch)
    head, scale = model.get_output_embeddings(), getattr(model, LOSS_SCALE)
    states = states if scale == 1 else states * scale
    return linear_cross_entropy(states, head.weight, labels, head.bias)


def _is_linear(model: Any) -> bool:
    """Check whether logits are a multiple of the head's linear map of hidden states.

    Adapters may have been put into the head since `attach`.
    """
    linear = type(model.get_output_embeddings()) in LINEAR
    return linear and getattr(model, LOSS_SCALE) is not None


def _label_states(model: Any, batch: Given) -> tuple[Tensor, Tensor]:
    """Return the states (labels, width) that predict a label, and the labels."""
    output = model.base_model(**_inputs(batch))
    return _at_labels(output.last_hidden_state, batch["labels"])


def _own_logits(model: Any, batch: Given) -> tuple[Tensor, Tensor]:
    """Return logits (labels, vocabulary) by the model's own code after its layers, and labels."""
    stock = type(model).forward
    if model.base_model is model:
        return _at_labels(stock(model, **_inputs(batch)).logits, batch["labels"])

    def keep(hidden: Tensor) -> Tensor:
        return _at_labels(hidden, batch["labels"])[0][None]

    with _states_replaced(model, keep):
        logits = stock(model, **_inputs(batch)).logits[0]
    return logits, batch["labels"][:, 1:][batch["labels"][:, 1:] != IGNORED]


def _inputs(batch: Given) -> dict[str, Any]:
    given = {name: batch[name] for name in INPUTS if name in batch}
    return {**given, "use_cache": False, "return_dict": True}


def _at_labels(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the values (rows, length, ...) from which a label is predicted, and these labels."""
    counted = labels[:, 1:] != IGNORED
    return values[:, :-1][counted], labels[:, 1:][counted]


@contextmanager
def _states_replaced(model: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put other hidden states in place of those that a model's layers hand to its head."""

    def hook(part: nn.Module, args: Any, output: Any) -> Any:
        output.last_hidden_state = change(output.last_hidden_state)
        return output

    handle = model.base_model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _probed_scale(model: Any) -> float | None:
    """Return the factor between a linear head and the logits, None where there is more to them.

    Gemma caps its logits softly, Cohere and Granite scale them. A few tokens are enough to see it,
    and that no token sees those after it, which encoders would let it.
    """
    head, vocabulary, seen = model.get_output_embeddings(), model.config.vocab_size, []
    step = max(1, vocabulary // 5)
    rows = [[step, 2 * step, 3 * step], [step, 2 * step, 4 * step]]
    ids = torch.tensor(rows).clamp(max=vocabulary - 1).to(model.device)
    linear = model.base_model is not model and type(head) in LINEAR

    def look(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        places = torch.arange(hidden.numel(), device=hidden.device, dtype=hidden.dtype)
        return (places.sin() * STATES).view_as(hidden)

    training = model.training
    model.eval()
    try:
        with _states_replaced(model, look) if linear else _nothing():
            logits = type(model).forward(model, input_ids=ids, use_cache=False).logits
    finally:
        model.train(training)
    _check_causal(model, seen[0] if linear else logits)
    if not linear or getattr(model.config, "output_router_logits", False):
        return None
    plain = head(look(seen[0]))
    return next((scale for scale in _scales(model.config) if _same(plain * scale, logits)), None)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _check_causal(model: Any, values: Tensor) -> None:
    """Refuse a model whose first two tokens see the third."""
    if not _same(values[0, :2], values[1, :2]):
        raise ModelError(
            f"{type(model).__name__} lets tokens see those after them, so it cannot generate from "
            "a prompt; name a decoder-only model"
        )


def _scales(config: Any) -> list[float]:
    """List the factors that a configuration may put before logits."""
    own, divided = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    return [1.0, *([float(own)] if own else []), *([1 / divided] if divided else [])]


def _same(left: Tensor, right: Tensor) -> bool:
    largest = max(float(left.abs().max()), float(right.abs().max()))
    return float((left - right).abs().max()) <= SAME * largest
