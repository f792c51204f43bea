"""The loss of a decoder-only model, by the hidden states that predict a label alone.

transformers computes logits for the whole sequence, prompt and padding included, and holds them all
in float32. Here only states that predict a label go through the head, and where the head is a
linear map their logits are never held all at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from longwatt.models.attention.linear import FastLinear
from longwatt.models.attention.loss import CHUNK, linear_cross_entropy
from longwatt.models.errors import ModelError
from longwatt.models.family import IGNORED, Batch

LAYER_ARGUMENTS = ("input_ids", "attention_mask", "position_ids")
# Arguments of `forward` that this loss takes; with any other the model's own is called.
LOSS_ARGUMENTS = {*LAYER_ARGUMENTS, "labels"}
LINEAR = (nn.Linear, FastLinear)
STATE_SIZE = 300.0  # size of states by which a head shows whether it is linear
FLOAT32_NOISE = 1e-4  # of the largest value; float32 sums in another order differ by far less
HEAD_FORM = "_label_head_form"  # attribute of a model that `attach` sets


class HeadForm(NamedTuple):
    """Logits of a linear head, `cap * tanh(scale * map / cap)` or uncapped."""

    scale: float = 1.0
    cap: float | None = None


def attach(model: Any) -> None:
    """Let a model's `forward` compute the loss of labels by their own states.

    Calling the model stays the way to its loss, so that what wraps a model (several devices, mixed
    precision, adapters) keeps its hold on it. Without labels all is as transformers has it.

    Raises:
        ModelError: a token sees those after it.
    """
    stock, form = type(model).forward, _probed_form(model)

    def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if value is not None}
        if (
            args
            or "labels" not in given
            or not set(given) <= LOSS_ARGUMENTS
            or _has_more(model.config)
        ):
            return stock(model, *args, **kwargs)
        return CausalLMOutputWithPast(loss=_loss(model, given))

    setattr(model, HEAD_FORM, form)
    put_in_place(model, forward)


def put_in_place(model: Any, forward: Callable[..., Any]) -> None:
    """Let a model's `forward` be this function, which looks like that of its class."""
    stock = type(model).forward
    # Without `__wrapped__`, by which libraries would unwrap it. Generation asks for arguments.
    forward.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    forward.__doc__ = stock.__doc__
    model.forward = MethodType(forward, model)


def best_tokens(model: Any, batch: Batch) -> list[list[int]]:
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


def _loss(model: Any, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the labels that count."""
    if not _is_linear(model):
        logits, labels = _own_logits(model, batch)
        return nn.functional.cross_entropy(logits.float(), labels)
    states, labels = _label_states(model, batch)
    head, form = model.get_output_embeddings(), getattr(model, HEAD_FORM)
    weight, bias = head.weight, head.bias
    if form.scale != 1:
        states, bias = states * form.scale, None if bias is None else bias * form.scale
    return linear_cross_entropy(states, weight, labels, bias, form.cap)


def _is_linear(model: Any) -> bool:
    """Check whether logits follow from the head's linear map of hidden states, by a HeadForm.

    Adapters may have been put into the head since `attach`.
    """
    linear = type(model.get_output_embeddings()) in LINEAR
    return linear and getattr(model, HEAD_FORM) is not None


def _label_states(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the states (labels, width) that predict a label, and the labels."""
    output = model.base_model(**_inputs(batch))
    return _at_labels(output.last_hidden_state, batch["labels"])


def _own_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (labels, vocabulary) by the model's own code, and the labels."""
    labels, seen = batch["labels"], list[Tensor]()

    def keep(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return _at_labels(hidden, labels)[0][None]

    with _states_replaced(model, keep):
        logits = type(model).forward(model, **_inputs(batch)).logits
    if not seen:  # its head is no module, or computes elsewhere
        return _at_labels(logits, labels)
    return logits[0], labels[:, 1:][labels[:, 1:] != IGNORED]


def _inputs(batch: Batch) -> dict[str, Any]:
    given = {name: batch[name] for name in LAYER_ARGUMENTS if name in batch}
    return {**given, "use_cache": False, "return_dict": True}


def _at_labels(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the values (rows, length, ...) from which a label is predicted, and these labels."""
    counted = labels[:, 1:] != IGNORED
    return values[:, :-1][counted], labels[:, 1:][counted]


@contextmanager
def _states_replaced(model: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put other hidden states in place of those that a model hands to its head."""

    def hook(part: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (change(args[0]),)

    head = model.get_output_embeddings()
    handle = None if head is None else head.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@torch.no_grad()
def _probed_form(model: Any) -> HeadForm | None:
    """Return how logits follow from a linear head, None where there is more to them.

    Gemma 2 caps its logits softly, Cohere and Granite scale them. A few tokens are enough to see
    it, and that no token sees those after it, which encoders would let it.
    """
    head, seen = model.get_output_embeddings(), list[Tensor]()

    def look(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return _large_states(hidden)

    ids, training = _two_ends(model), model.training
    model.eval()
    try:
        with _states_replaced(model, look):
            logits = type(model).forward(model, **_inputs({"input_ids": ids})).logits
        _check_causal(model, seen[0] if seen else logits)
        if not seen or type(head) not in LINEAR:
            return None
        states = getattr(model.base_model(**_inputs({"input_ids": ids})), "last_hidden_state", None)
    finally:
        model.train(training)
    if states is None or not _same(states, seen[0]):
        return None  # something lies between the layers and the head
    return _form_of(model.config, head(_large_states(seen[0])), logits)


def _has_more(config: Any) -> bool:
    """Return whether transformers adds a loss of a mixture's routers to that of the labels."""
    return bool(getattr(config, "output_router_logits", False))


def _two_ends(model: Any) -> Tensor:
    """Return two rows of three tokens that differ in the last."""
    most = model.config.vocab_size - 1
    rows = [[1, 2, 3], [1, 2, 4]]
    ids: Tensor = (torch.tensor(rows) * max(1, most // 5)).clamp(max=most).to(model.device)
    return ids


def _large_states(like: Tensor) -> Tensor:
    """Make up states of a size at which a cap of logits shows."""
    places = torch.arange(like.numel(), device=like.device, dtype=like.dtype)
    states: Tensor = (places.sin() * STATE_SIZE).view_as(like)
    return states


def _check_causal(model: Any, values: Tensor) -> None:
    """Refuse a model whose first two tokens see the third."""
    moved, largest = (values[0, :2] - values[1, :2]).abs().max(), values.abs().max()
    if float(moved) > FLOAT32_NOISE * float(largest):
        raise ModelError(
            f"{type(model).__name__} lets tokens see those after them, so it cannot generate from "
            "a prompt; name a decoder-only model"
        )


def _form_of(config: Any, mapped: Tensor, logits: Tensor) -> HeadForm | None:
    """Find the form by which a configuration makes logits of what the head's map returns."""
    own, divided = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    scales = (1.0, *([float(own)] if own else []), *([1 / divided] if divided else []))
    caps = {None, getattr(config, "final_logit_softcapping", None)}
    for scale, cap in product(scales, caps):
        scaled = mapped * scale
        if _same(scaled if cap is None else torch.tanh(scaled / cap) * cap, logits):
            return HeadForm(scale, cap)
    return None


def _same(left: Tensor, right: Tensor) -> bool:
    largest = max(float(left.abs().max()), float(right.abs().max()))
    return float((left - right).abs().max()) <= FLOAT32_NOISE * largest
