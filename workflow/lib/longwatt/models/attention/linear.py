"""Linear maps in float32 by oneDNN, which computes them faster than torch's default on CPUs.

torch hands float32 products to MKL, which uses no AVX-512 on AMD's processors: on one of them it
computed 105 GFLOP/s where oneDNN, which torch brings too, computed 230. The results differ in
their last digits only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Multiplications and additions from which a product pays for the code that oneDNN makes for each
# new shape (about 0.3 ms).
WORTH_IT = 5e7


def has_onednn() -> bool:
    """Check whether this torch can hand a product to oneDNN."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map (rows, from) to (rows, to), as torch's own function of this name does."""
    if not _pays(inputs, weight):
        return functional.linear(inputs, weight, bias)
    found: Tensor = _Linear.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
    return found


def apply(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Apply a layer of a model (rows, from) to (rows, to)."""
    return linear(inputs, layer.weight, layer.bias)


class FastLinear(nn.Linear):
    """A linear layer whose products go to oneDNN where that pays."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., from) to (..., to)."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        return linear(rows, self.weight, self.bias).view(*inputs.shape[:-1], -1)


def speed_up(model: nn.Module) -> None:
    """Make all plain linear layers of a model FastLinear, under their names."""
    for part in model.modules():
        if type(part) is nn.Linear:
            part.__class__ = FastLinear


def _pays(inputs: Tensor, weight: Tensor) -> bool:
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or inputs.dim() != 2:
        return False
    mixed = torch.is_autocast_enabled("cpu") or weight.dtype != torch.float32
    return not mixed and 2.0 * inputs.numel() * len(weight) >= WORTH_IT and has_onednn()


def product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply (rows, inner) with the transpose of (columns, inner), without gradient."""
    return _product(left, right) if _pays(left, right) else left @ right.t()


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    """A linear map whose three products all go to oneDNN."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `linear`."""
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of those of inputs, weight and bias that need one."""
        inputs, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        grad = grad.contiguous()  # a sum's gradient has no strides of its own
        return (
            _product(grad, weight.t()) if wanted[0] else None,
            _weight_gradient(inputs, grad) if wanted[1] else None,
            grad.sum(0) if wanted[2] else None,
        )


def _weight_gradient(inputs: Tensor, grad: Tensor) -> Tensor:
    """Return the weight's gradient (to, from), the narrower operand read row by row.

    This way round was the faster one in all shapes measured, by up to twice.
    """
    if inputs.shape[1] < grad.shape[1]:
        return _product(inputs.t().contiguous(), grad.t()).t()
    return _product(grad.t().contiguous(), inputs.t())
