"""Decoders in the manner of BART over packed targets, and the loss of their labels.

Everything but attention runs on real target tokens only. A row's keys are those of its document.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from longwatt.models.attention.linear import apply
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.projections import around, embedded, feed_forward, project, through
from longwatt.models.family import IGNORED

FEW_DOCUMENTS = 8  # documents up to which one call for each beats padding their keys


@dataclass(frozen=True)
class Encoded:
    """Encoded documents: packed hidden states (tokens, width)."""

    states: Tensor
    packing: Packing


def target_packing(labels: Tensor) -> Packing:
    """Pack targets (rows, most tokens) up to their last label, one token at least."""
    places = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    lengths = (places * (labels != IGNORED)).amax(1).clamp(min=1)
    return Packing(tuple(lengths.tolist()), labels.shape[1], labels.device)


def decode_packed(
    decoder: Any, input_ids: Tensor, packing: Packing, encoded: Encoded, norm_first: bool
) -> Tensor:
    """Decode packed targets under their own earlier tokens.

    Args:
        decoder: transformers' decoder of LED or BigBird-Pegasus.
        input_ids: of the real tokens (tokens), beginning with the start token.
        norm_first: whether layers normalise their input (BigBird-Pegasus) or their output (LED).

    Returns:
        The last hidden states (tokens, width).
    """
    hidden = embedded(decoder, input_ids, packing, norm_first)
    for layer in decoder.layers:
        work = partial(_layer, layer, packing, encoded.packing, norm_first)
        hidden = through(layer, work, hidden, encoded.states)
    return decoder.layernorm_embedding(hidden) if norm_first else hidden


def _layer(
    layer: Any, packing: Packing, keys: Packing, norm_first: bool, hidden: Tensor, states: Tensor
) -> Tensor:
    within = partial(around, layer, norm_first)
    own, cross = layer.self_attn, layer.encoder_attn
    seen = partial(_self_attention, own, packing)
    hidden = within(layer.self_attn_layer_norm, seen, hidden)
    read = partial(_cross_attention, cross, packing, states, keys)
    hidden = within(layer.encoder_attn_layer_norm, read, hidden)
    inner = partial(feed_forward, layer, layer.activation_dropout)
    return within(layer.final_layer_norm, inner, hidden)


def _dense(
    heads: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Attend from padded queries (rows, queries, width) to padded keys (rows, keys, width)."""
    query, key, value = (
        part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value)
    )
    seen = functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
    return seen.transpose(1, 2).flatten(2)


def _self_attention(attention: Any, packing: Packing, hidden: Tensor) -> Tensor:
    qkv = packing.pad(project(hidden, attention.q_proj, attention.k_proj, attention.v_proj))
    query, key, value = qkv.chunk(3, -1)
    # Padding follows real tokens, so none of them sees it.
    seen = _dense(attention.num_heads, query, key, value, causal=True)
    return apply(attention.out_proj, packing.pack(seen))


def _cross_attention(
    attention: Any, packing: Packing, states: Tensor, keys: Packing, hidden: Tensor
) -> Tensor:
    query = apply(attention.q_proj, hidden)
    key, value = project(states, attention.k_proj, attention.v_proj).chunk(2, -1)
    seen = attend_all(attention.num_heads, packing, query, key, value, keys)
    return apply(attention.out_proj, seen)


def attend_all(
    heads: int, packing: Packing, query: Tensor, key: Tensor, value: Tensor, keys: Packing
) -> Tensor:
    """Attend from each token to all keys of its document.

    Args:
        query: (tokens, width), laid by `packing`.
        key, value: (keys, width), laid by `keys`.

    Returns:
        Outputs of all heads (tokens, width).
    """
    if keys.is_even or keys.rows > FEW_DOCUMENTS:
        padded = (packing.pad(query), keys.pad(key), keys.pad(value))
        mask = keys.padding_mask(key.dtype)
        mask = None if mask is None else mask[:, None]
        return packing.pack(_dense(heads, *padded, mask=mask))
    parts, lengths = (query, key, value), (packing.lengths, keys.lengths, keys.lengths)
    split = [torch.split(part, list(n)) for part, n in zip(parts, lengths, strict=True)]
    rows = zip(*split, strict=True)
    return torch.cat([_dense(heads, *(part[None] for part in row))[0] for row in rows])


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """Return the logits of chosen hidden states (tokens, vocabulary)."""
    logits = apply(model.lm_head, hidden)
    biased: Tensor = logits + model.final_logits_bias
    return biased
