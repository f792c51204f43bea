"""Linear maps of several weights in one product, and layers under activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


def project(hidden: Tensor, *layers: nn.Linear) -> Tensor:
    """Apply layers of one input side by side (..., sum of their outputs)."""
    weight = torch.cat([layer.weight for layer in layers])
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return functional.linear(hidden, weight, torch.cat(biases) if biases else None)


def dropped(hidden: Tensor, rate: float, training: bool) -> Tensor:
    """Apply dropout where there is any."""
    return functional.dropout(hidden, rate) if training and rate else hidden


def through(layer: Any, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Do the work of a layer, kept or computed again in the backward pass as it was told."""
    if layer.gradient_checkpointing and layer.training:
        found: Tensor = layer._gradient_checkpointing_func(work, *inputs)
        return found
    return work(*inputs)


def computed_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type in which products with a tensor are computed: autocast's, or its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


class Fused(NamedTuple):
    """Linear maps of one input in one product, their weights put together once."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, dtype: torch.dtype, *layers: nn.Linear, scale: float = 1.0) -> Fused:
        """Put layers side by side that all have a bias or none, their outputs scaled."""
        weight = _scaled([layer.weight for layer in layers], scale, dtype)
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return cls(weight, _scaled(biases, scale, dtype) if biases else None)

    def beside(self, other: Fused) -> Fused:
        """Put other maps behind these."""
        weight = torch.cat((self.weight, other.weight))
        if self.bias is None or other.bias is None:
            return Fused(weight, None)
        return Fused(weight, torch.cat((self.bias, other.bias)))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Apply the maps (..., sum of their outputs)."""
        return functional.linear(hidden, self.weight, self.bias)


def _scaled(parts: Sequence[Tensor], scale: float, dtype: torch.dtype) -> Tensor:
    whole = parts[0].detach() if len(parts) == 1 else torch.cat(list(parts)).detach()
    return (whole if scale == 1 else whole * scale).to(dtype)
