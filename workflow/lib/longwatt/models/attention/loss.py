"""The mean cross-entropy of a vocabulary's logits, which are never held all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from longwatt.models.attention.linear import product

CHUNK = 1 << 22  # logits held at once (16 MiB in float32)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    cap: float | None = None,
) -> Tensor:
    """Return the mean cross-entropy of `hidden @ weight.T + bias`, a scalar with gradient.

    The gradients are computed beside the loss, chunk by chunk, so that memory hangs on the chunk
    and not on the number of labels. In mixed precision products run in its type, and the softmax
    in float32, as torch's own functions do.

    Args:
        hidden: states of the labels that count (labels, width).
        weight: of the head (vocabulary, width).
        labels: token ids (labels), at least one.
        bias: added to the logits; None for none.
        cap: bound of the logits, which become cap * tanh(logits / cap); None for none.
    """
    if not torch.is_grad_enabled():  # which a function with its own gradients is not told
        hidden, weight = hidden.detach(), weight.detach()
    if torch.is_autocast_enabled(hidden.device.type):
        kind = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(kind), weight.to(kind)
    found: Tensor = _CrossEntropy.apply(hidden, weight, labels, bias, cap)  # type: ignore[no-untyped-call]
    return found


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        bias: Tensor | None,
        cap: float | None,
    ) -> Tensor:
        """See `linear_cross_entropy`."""
        needed, wide = ctx.needs_input_grad, torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden, dtype=wide) if needed[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needed[1] else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and needed[3] else None
        for rows in _chunks(len(labels), len(weight)):
            logits = product(hidden[rows], weight).to(wide)
            logits = logits if bias is None else logits.add_(bias)
            slope = _capped_slope(logits, labels[rows], total, cap)
            if grad_bias is not None:
                grad_bias += slope.sum(0)
            slope = slope.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = product(slope, weight.t())
            if grad_weight is not None:
                grad_weight += product(slope.t(), hidden[rows].t())
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        kinds = (hidden.dtype, weight.dtype, wide if bias is None else bias.dtype)
        ctx.labels, ctx.dtypes = len(labels), kinds
        return total / len(labels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that were computed beside the loss.

        Their mean is made here, in float32: half precision would lose what the loss's own scale
        is there to keep.
        """
        hidden, weight, bias = (
            None if part is None else (part * (grad / ctx.labels)).to(kind)
            for part, kind in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return hidden, weight, None, bias, None


def _chunks(labels: int, vocabulary: int) -> Iterator[slice]:
    step = max(1, CHUNK // vocabulary)
    for first in range(0, labels, step):
        yield slice(first, first + step)


def _capped_slope(logits: Tensor, labels: Tensor, total: Tensor, cap: float | None) -> Tensor:
    """Return what `_slope` does, of logits before their cap."""
    if cap is None:
        return _slope(logits, labels, total)
    bent = logits.div_(cap).tanh_()
    return _slope(bent * cap, labels, total).mul_(bent.square_().neg_().add_(1))


def _slope(logits: Tensor, labels: Tensor, total: Tensor) -> Tensor:
    """Add the cross-entropies to `total`, and turn logits into their gradient in place."""
    places = labels[:, None]
    sums = logits.logsumexp(1, keepdim=True)
    total += (sums - logits.gather(1, places)).sum()
    slope = logits.sub_(sums).exp_()
    return slope.scatter_add_(1, places, slope.new_full(places.shape, -1.0))
