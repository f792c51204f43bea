"""Decode one more token of every row, from keys and values that are kept.

All rows read the same place at a time. Rows of a document (its beams) stand together, and their
queries meet its keys in one product, so that nothing of a document is repeated for them. A row
that is done leaves: the last row takes its place, and the caches remain views of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longwatt.models.attention.decoder import Encoded
from longwatt.models.attention.documents import (
    DocumentAttention,
    Documents,
    Move,
    attend_newest,
    document_attention,
)
from longwatt.models.attention.projections import Fused, around, computed_dtype


class StepDecoder:
    """The decoder of one batch at one place, which transformers takes for a cache.

    Attributes:
        place: tokens that every row has read.
    """

    def __init__(
        self, model: Any, encoded: Encoded, norm_first: bool, most: int, beams: int = 1
    ) -> None:
        """Make the weights ready, and compute the keys and values of all documents.

        Args:
            model: transformers' model with its head, in evaluation mode.
            norm_first: whether layers normalise their input (BigBird-Pegasus) or output (LED).
            most: tokens that a row can read.
            beams: rows of a document.
        """
        self.place = 0
        self._decoder, self._norm_first = model.get_decoder(), norm_first
        dtype = computed_dtype(encoded.states)
        self._head, self._bias = Fused.of(dtype, model.lm_head), model.final_logits_bias
        self._documents = Documents.of(encoded, dtype)
        read = document_attention(self._decoder.layers[0].encoder_attn, most, beams)
        shape = (encoded.packing.rows * beams, most)
        self._layers = [
            _Layer(layer, norm_first, read(layer.encoder_attn, self._documents), dtype, shape)
            for layer in self._decoder.layers
        ]

    def logits(self, tokens: Tensor) -> Tensor:
        """Let every row read its newest token (rows), and score the next (rows, vocabulary)."""
        decoder = self._decoder
        hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[self.place]
        if not self._norm_first:
            hidden = decoder.layernorm_embedding(hidden)
        for layer in self._layers:
            hidden = layer.step(hidden, self.place, self._documents)
        if self._norm_first:
            hidden = decoder.layernorm_embedding(hidden)
        self.place += 1
        found: Tensor = self._head(hidden) + self._bias
        return found

    def keep(self, going: Sequence[bool]) -> list[int]:
        """Let rows leave that are done, where each document has one row.

        Returns:
            The places so far of the rows that stay, in their new order.
        """
        move = Move.of(going)
        self._documents.keep(move)
        for layer in self._layers:
            layer.keep(move, self.place)
        return move.order()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens were read, as transformers asks a cache."""
        return self.place

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row go on from another of its document, as transformers asks a cache."""
        for layer in self._layers:
            layer.own.reorder(beam_idx, self.place)


class _Layer:
    """A layer of the decoder, ready for one token of each row."""

    def __init__(
        self,
        layer: Any,
        norm_first: bool,
        cross: DocumentAttention,
        dtype: torch.dtype,
        shape: tuple[int, int],
    ) -> None:
        self._layer, self._norm_first, self._cross = layer, norm_first, cross
        self.own = _OwnAttention(layer.self_attn, dtype, *shape)
        self._inner, self._outer = Fused.of(dtype, layer.fc1), Fused.of(dtype, layer.fc2)

    def step(self, hidden: Tensor, place: int, documents: Documents) -> Tensor:
        """Take the newest tokens (rows, width) through this layer."""
        layer = self._layer
        within = partial(around, layer, self._norm_first)
        hidden = within(layer.self_attn_layer_norm, partial(self.own.read, place=place), hidden)
        read = partial(self._cross.read, documents=documents)
        hidden = within(layer.encoder_attn_layer_norm, read, hidden)
        return within(layer.final_layer_norm, self._feed_forward, hidden)

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        return self._outer(self._layer.activation_fn(self._inner(hidden)))

    def keep(self, move: Move, place: int) -> None:
        """Drop the rows that are done."""
        self.own.keep(move, place)
        self._cross.keep(move)


class _OwnAttention:
    """Attention of a row's newest token to all that the row has read.

    Its cache holds keys and values (2, rows, heads, most tokens, size of a head).
    """

    def __init__(self, attention: Any, dtype: torch.dtype, rows: int, most: int) -> None:
        heads, size = attention.num_heads, attention.head_dim
        query = Fused.of(dtype, attention.q_proj, scale=size**-0.5)
        rest = Fused.of(dtype, attention.k_proj, attention.v_proj)
        self._qkv, self._out = query.beside(rest), Fused.of(dtype, attention.out_proj)
        device = self._out.weight.device
        self._cache = torch.empty(2, rows, heads, most, size, dtype=dtype, device=device)

    def read(self, hidden: Tensor, place: int) -> Tensor:
        """Attend from new tokens (rows, width), and keep their keys and values."""
        rows, heads, _, size = self._cache.shape[1:]
        qkv = self._qkv(hidden).view(rows, 3, heads, size)
        self._cache[:, :, :, place] = qkv[:, 1:].transpose(0, 1)
        query = qkv[:, 0].reshape(rows * heads, 1, size)
        keys, values = self._cache.flatten(1, 2)[:, :, : place + 1].unbind(0)
        return self._out(attend_newest(query, keys.transpose(1, 2), values).view(rows, -1))

    def keep(self, move: Move, place: int) -> None:
        """Drop the rows that are done."""
        if move.holes:
            self._cache[:, move.holes, :, :place] = self._cache[:, move.movers, :, :place]
        self._cache = self._cache[:, : move.count]

    def reorder(self, order: Tensor, place: int) -> None:
        """Give each row what another has read."""
        read = self._cache[:, :, :, :place]
        read.copy_(read.index_select(1, order))
