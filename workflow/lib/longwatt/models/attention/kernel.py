"""Softmax attention of a block of queries over given keys, with its log-sum-exp.

torch's fused kernel for CPUs reads strided views, so that neighbouring blocks may overlap without
a copy. Its log-sum-exp lets a softmax be put together from parts: a part's backward pass is exact
if it gets the output and the log-sum-exp of the whole.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

MASKED = -math.inf  # added to the score of a key that a query does not see


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend from each query to all keys of its block.

    Args:
        query: (blocks, heads, queries, size of a head).
        key, value: (blocks, heads, keys, size of a head).
        mask: added to the scores, 0 or MASKED, broadcast to (blocks, heads, queries, keys).

    Returns:
        Outputs (blocks, heads, queries, size of a head), and log-sum-exps of the scores in
        float32 or wider (blocks, heads, queries).
    """
    scale = query.shape[-1] ** -0.5
    out, lse = _forward(query, key, value, 0.0, False, attn_mask=mask, scale=scale)
    return out, lse


def attend_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value.

    Args:
        grad: gradient of the whole output, in the queries' shape.
        out, lse: output and log-sum-exp of the whole softmax, of which these keys may be a part.
    """
    scale = query.shape[-1] ** -0.5
    inputs = (grad, query, key, value, out, lse.contiguous(), 0.0, False)
    found: tuple[Tensor, Tensor, Tensor] = _backward(*inputs, attn_mask=mask, scale=scale)
    return found
