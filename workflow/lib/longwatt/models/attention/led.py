"""LED's encoder over packed tokens, by the weights of transformers' own module."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from longwatt.models.attention.band import Band, band_attention
from longwatt.models.attention.flex import flex_band_attention
from longwatt.models.attention.kernel import MASKED
from longwatt.models.attention.linear import apply
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.projections import around, embedded, feed_forward, project, through


def encode(encoder: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    """Encode packed documents, the first token of each global.

    Args:
        encoder: transformers' LEDEncoder.
        input_ids: of real tokens (tokens).

    Returns:
        The last hidden states (tokens, width).
    """
    hidden = embedded(encoder, input_ids, packing, norm_first=False)
    bands: dict[int, Band] = {}
    for layer in encoder.layers:
        reach = layer.self_attn.longformer_self_attn.one_sided_attn_window_size
        band = bands.setdefault(reach, Band(packing, reach))
        hidden = through(layer, partial(_layer, layer, band), hidden)
    return hidden


def _layer(layer: Any, band: Band, hidden: Tensor) -> Tensor:
    within = partial(around, layer, False)
    hidden = within(layer.self_attn_layer_norm, partial(_self_attention, layer, band), hidden)
    inner = partial(feed_forward, layer, layer.activation_dropout)
    return within(layer.final_layer_norm, inner, hidden)


def _self_attention(layer: Any, band: Band, hidden: Tensor) -> Tensor:
    attention = layer.self_attn.longformer_self_attn
    qkv = project(hidden, attention.query, attention.key, attention.value)
    first = global_rows(attention, hidden, band.packing)
    attend = band_attention if hidden.device.type == "cpu" else flex_band_attention
    return apply(layer.self_attn.output, attend(qkv, first, band, attention.num_heads))


def global_rows(attention: Any, hidden: Tensor, packing: Packing) -> Tensor:
    """Attend from each document's first token to all of it, by the global projections.

    The key's and the value's projection are applied to the one query and its result instead of to
    all tokens: `(q W_k) x` in place of `q (W_k x)`.

    Returns:
        Outputs of all heads (documents, width).
    """
    heads, size = attention.num_heads, attention.head_dim
    documents = packing.pad(hidden)
    query = attention.query_global(documents[:, 0]).unflatten(-1, (heads, size)) * size**-0.5
    keys, values = attention.key_global, attention.value_global
    per_head = (heads, size, -1)
    seeker = torch.einsum("bhk,hkd->bhd", query, keys.weight.view(per_head))
    scores = seeker @ documents.transpose(1, 2)
    # The key's bias moves all scores alike. It stays, so that it has a gradient.
    scores = scores + (query * keys.bias.view(heads, size)).sum(-1, keepdim=True)
    if not packing.is_even:
        scores = scores.masked_fill(~packing.real(documents.shape[1])[:, None], MASKED)
    found = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    mixed = found.to(documents.dtype) @ documents
    out = torch.einsum("bhd,hkd->bhk", mixed, values.weight.view(per_head)).flatten(1)
    rows: Tensor = out + values.bias
    return rows
