"""BigBird-Pegasus' encoder over packed tokens, by the weights of transformers' own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longwatt.models.attention.block_sparse import Drawn, Layout, Pattern, sparse_attention
from longwatt.models.attention.decoder import attend_all
from longwatt.models.attention.flex import SparseCounts, flex_block_attention
from longwatt.models.attention.linear import apply
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.projections import around, embedded, feed_forward, project, through
from longwatt.models.bigbird_regimes import (
    FULL,
    OLD_PLAN,
    OLD_PLAN_END,
    SPARSE,
    longest_full,
)

# Computes a layer's attention: (its attention module, qkv (tokens, 3 x width)) -> (tokens, width).
Attend = Callable[[Any, Tensor], Tensor]
_DRAWN: dict[tuple[int, ...], Tensor] = {}  # by everything that random blocks hang on


def encode(encoder: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    """Encode packed documents.

    Args:
        encoder: transformers' BigBirdPegasusEncoder.
        input_ids: of real tokens (tokens).

    Returns:
        The last hidden states (tokens, width).
    """
    hidden = embedded(encoder, input_ids, packing, norm_first=True)
    attend = _attention(encoder, packing)
    for layer in encoder.layers:
        hidden = through(layer, partial(_layer, layer, attend), hidden)
    found: Tensor = encoder.layernorm_embedding(hidden)
    return found


def _attention(encoder: Any, packing: Packing) -> Attend:
    """Choose how layers attend to a batch. Full attention is for good, as in transformers."""
    random, size = encoder.config.num_random_blocks, encoder.block_size
    if encoder.attention_type == SPARSE and packing.width <= longest_full(random, size):
        encoder.set_attention_type(FULL)
    if encoder.attention_type == FULL:
        return partial(_full, packing)
    # In evaluation transformers sees the first block once more for each random block.
    layout = Layout(packing, size)
    return partial(_sparse, {True: Pattern(layout, 0), False: Pattern(layout, random)})


def _layer(layer: Any, attend: Attend, hidden: Tensor) -> Tensor:
    within = partial(around, layer, True)
    seen = partial(_self_attention, layer.self_attn, attend)
    hidden = within(layer.self_attn_layer_norm, seen, hidden)
    # transformers drops no activations in this encoder, whatever its configuration says.
    return within(layer.final_layer_norm, partial(feed_forward, layer, 0.0), hidden)


def _self_attention(attention: Any, attend: Attend, hidden: Tensor) -> Tensor:
    own = attention.self
    return apply(attention.output, attend(own, project(hidden, own.query, own.key, own.value)))


def _full(packing: Packing, attention: Any, qkv: Tensor) -> Tensor:
    query, key, value = qkv.chunk(3, -1)
    return attend_all(attention.num_attention_heads, packing, query, key, value, packing)


def _sparse(patterns: Mapping[bool, Pattern], attention: Any, qkv: Tensor) -> Tensor:
    pattern = patterns[attention.training]
    layout, heads, blocks = pattern.layout, attention.num_attention_heads, None
    if attention.training:
        blocks = random_blocks(attention, (layout.last + 1) * layout.size)
    if qkv.device.type != "cpu":
        counts = _counted(blocks, heads, layout.last + 1, pattern.repeated, layout.size, qkv.device)
        return flex_block_attention(qkv, layout.packing, counts, heads)
    drawn = None if blocks is None else Drawn.of(layout, blocks)
    return sparse_attention(qkv, pattern, drawn, heads)


@lru_cache(maxsize=64)  # `random_blocks` keeps its tensors, so that one plan is one tensor
def _counted(
    drawn: Tensor | None, heads: int, blocks: int, repeated: int, size: int, device: torch.device
) -> SparseCounts:
    """Count the blocks that a layer sees. Without drawn ones it repeats the first."""
    if drawn is None:
        drawn = torch.zeros(heads, blocks - 2, repeated, dtype=torch.long)
    return SparseCounts.of(drawn.to(device), size)


def random_blocks(attention: Any, width: int) -> Tensor:
    """Draw the blocks that transformers draws in training, and leave numpy's own state alone.

    Args:
        attention: transformers' BigBirdPegasusBlockSparseAttention, in training.
        width: tokens of a padded document, a multiple of the block's.

    Returns:
        Blocks for each head and each block but the first and the last (heads, blocks, drawn).
    """
    sizes = (attention.num_attention_heads, attention.num_random_blocks, attention.block_size)
    key = (attention.seed, attention.max_seqlen, width, *sizes)
    if key not in _DRAWN:
        before = np.random.get_state()
        try:
            np.random.seed(attention.seed)
            _DRAWN[key] = torch.from_numpy(np.stack(_draw(attention, width))).long()
        finally:
            np.random.set_state(before)
    return _DRAWN[key]


def _draw(attention: Any, width: int) -> list[Any]:
    heads, size = attention.num_attention_heads, attention.block_size
    drawn, blocks = attention.num_random_blocks, width // size
    if width in OLD_PLAN:
        longest = attention.max_seqlen
        old = partial(attention._bigbird_block_rand_mask, longest, longest, size, size, drawn)
        return [old(last_idx=OLD_PLAN_END)[: blocks - 2] for _ in range(heads)]
    ends, counts = attention._get_rand_attn_plan(width, size, drawn)
    by_head = attention._bigbird_block_rand_mask_with_head
    found: list[Any] = by_head(width, width, size, size, heads, ends, counts)
    return found
