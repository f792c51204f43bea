"""Parts of a layer: products, dropout, activations, and activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation


def project(hidden: Tensor, *layers: nn.Linear) -> Tensor:
    """Apply layers of one input side by side (..., sum of their outputs)."""
    weight = torch.cat([layer.weight for layer in layers])
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return functional.linear(hidden, weight, torch.cat(biases) if biases else None)


def dropped(hidden: Tensor, rate: float, training: bool) -> Tensor:
    """Apply dropout where there is any."""
    return functional.dropout(hidden, rate) if training and rate else hidden


def activated(function: nn.Module, hidden: Tensor) -> Tensor:
    """Apply an activation, in one operation where transformers has it in eight."""
    if isinstance(function, NewGELUActivation):
        return functional.gelu(hidden, approximate="tanh")
    found: Tensor = function(hidden)
    return found


def through(layer: Any, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Do the work of a layer, kept or computed again in the backward pass as it was told."""
    if layer.gradient_checkpointing and layer.training:
        found: Tensor = layer._gradient_checkpointing_func(work, *inputs)
        return found
    return work(*inputs)
