"""Parts of a layer: products, dropout, activations, and activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation

from longwatt.models.attention.linear import apply, linear
from longwatt.models.attention.packing import Packing


def project(hidden: Tensor, *layers: nn.Linear) -> Tensor:
    """Apply layers side by side: (rows, from) to (rows, sum of their outputs)."""
    weight = torch.cat(tuple(layer.weight for layer in layers))
    biases = tuple(layer.bias for layer in layers if layer.bias is not None)
    return linear(hidden, weight, torch.cat(biases) if biases else None)


def dropped(hidden: Tensor, rate: float, training: bool) -> Tensor:
    """Apply dropout where there is any."""
    return functional.dropout(hidden, rate) if training and rate else hidden


def activated(function: nn.Module, hidden: Tensor) -> Tensor:
    """Apply an activation, in one operation where transformers has it in eight."""
    if isinstance(function, NewGELUActivation):
        return functional.gelu(hidden, approximate="tanh")
    found: Tensor = function(hidden)
    return found


def embedded(stack: Any, input_ids: Tensor, packing: Packing, norm_first: bool) -> Tensor:
    """Embed packed tokens in their places, as an encoder or a decoder begins (tokens, width)."""
    places = functional.embedding(packing.positions, stack.embed_positions.weight)
    hidden = stack.embed_tokens(input_ids) + places
    if not norm_first:
        hidden = stack.layernorm_embedding(hidden)
    return dropped(hidden, stack.dropout, stack.training)


def around(
    layer: Any, norm_first: bool, norm: Any, work: Callable[[Tensor], Tensor], hidden: Tensor
) -> Tensor:
    """Do a part of a layer between its residual and its norm."""
    found = dropped(work(norm(hidden) if norm_first else hidden), layer.dropout, layer.training)
    out: Tensor = hidden + found if norm_first else norm(hidden + found)
    return out


def feed_forward(layer: Any, rate: float, hidden: Tensor) -> Tensor:
    """Apply a layer's feed-forward block, with dropout of this rate inside."""
    inner = activated(layer.activation_fn, apply(layer.fc1, hidden))
    return apply(layer.fc2, dropped(inner, rate, layer.training))


def through(layer: Any, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Do the work of a layer, under activation checkpointing where it is on."""
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
    whole = parts[0].detach() if len(parts) == 1 else torch.cat(tuple(parts)).detach()
    return (whole if scale == 1 else whole * scale).to(dtype)
