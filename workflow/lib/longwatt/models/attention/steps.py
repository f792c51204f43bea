"""Decode one more token of every row, with weights made ready and keys and values kept.

All rows read the same place at a time. Rows of a document (its beams) stand together, and their
queries meet its keys in one product, so that nothing of a document is repeated for them. A row
that is done leaves: the last row takes its place, and the caches remain views of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longwatt.models.attention.decoder import Encoded
from longwatt.models.attention.kernel import MASKED
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.projections import Fused, computed_dtype


class StepDecoder:
    """The decoder of one batch at one place; to transformers, a cache of keys and values.

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
        self._bias, packing = model.final_logits_bias, encoded.packing
        dtype = computed_dtype(encoded.states)
        self._head = Fused.of(dtype, model.lm_head)
        states, layers = encoded.states.to(dtype), self._decoder.layers
        rows = packing.rows * beams
        self._layers = [_Layer(one, norm_first, states, packing, rows, most) for one in layers]
        self._mask = _padding_mask(packing, layers[0].encoder_attn.num_heads, dtype)

    def logits(self, tokens: Tensor) -> Tensor:
        """Let every row read its newest token (rows), and score the next (rows, vocabulary)."""
        decoder = self._decoder
        hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[self.place]
        if not self._norm_first:
            hidden = decoder.layernorm_embedding(hidden)
        for layer in self._layers:
            hidden = layer.step(hidden, self.place, self._mask)
        if self._norm_first:
            hidden = decoder.layernorm_embedding(hidden)
        self.place += 1
        return self._head(hidden) + self._bias

    def keep(self, going: Sequence[bool]) -> list[int]:
        """Let rows leave that are done, where each document has one row.

        Returns:
            The places so far of the rows that stay, in their new order.
        """
        move = _Move.of(going)
        for layer in self._layers:
            layer.keep(move, self.place)
        self._mask = None if self._mask is None else move.rows(self._mask)
        return move.order()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens were read, as transformers asks a cache."""
        return self.place

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row go on from another of its document, as transformers asks a cache."""
        for layer in self._layers:
            layer.own.reorder(beam_idx, self.place)


@dataclass(frozen=True)
class _Move:
    """Rows that take the places of rows that left: the first `count` places hold all that stay."""

    count: int
    holes: list[int]
    movers: list[int]

    @classmethod
    def of(cls, going: Sequence[bool]) -> _Move:
        count = sum(going)
        holes = [row for row in range(count) if not going[row]]
        movers = [row for row in range(count, len(going)) if going[row]]
        return cls(count, holes, movers)

    def order(self) -> list[int]:
        taken = dict(zip(self.holes, self.movers, strict=True))
        return [taken.get(row, row) for row in range(self.count)]

    def rows(self, tensor: Tensor) -> Tensor:
        if self.holes:
            tensor[self.holes] = tensor[self.movers]
        return tensor[: self.count]


class _Layer:
    """A layer of the decoder, ready for one token of each row."""

    def __init__(
        self, layer: Any, norm_first: bool, states: Tensor, packing: Packing, rows: int, most: int
    ) -> None:
        self._layer, self._norm_first = layer, norm_first
        self.own = _OwnAttention(layer.self_attn, states, rows, most)
        self._documents = _DocumentAttention(layer.encoder_attn, states, packing)
        self._inner = Fused.of(states.dtype, layer.fc1)
        self._outer = Fused.of(states.dtype, layer.fc2)

    def step(self, hidden: Tensor, place: int, mask: Tensor | None) -> Tensor:
        """Take the newest tokens (rows, width) through this layer."""
        layer, around = self._layer, self._around
        hidden = around(layer.self_attn_layer_norm, partial(self.own.read, place=place), hidden)
        read = partial(self._documents.read, mask=mask)
        hidden = around(layer.encoder_attn_layer_norm, read, hidden)
        return around(layer.final_layer_norm, self._feed_forward, hidden)

    def _around(self, norm: Any, work: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        if self._norm_first:
            return hidden + work(norm(hidden))
        found: Tensor = norm(hidden + work(hidden))
        return found

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        return self._outer(self._layer.activation_fn(self._inner(hidden)))

    def keep(self, move: _Move, place: int) -> None:
        """Drop the rows that are done."""
        self.own.keep(move, place)
        self._documents.keep(move)


class _OwnAttention:
    """Attention of a row's newest token to all that the row has read.

    Its cache holds keys and values (2, rows, heads, most tokens, size of a head).
    """

    def __init__(self, attention: Any, states: Tensor, rows: int, most: int) -> None:
        heads, size, dtype = attention.num_heads, attention.head_dim, states.dtype
        query = Fused.of(dtype, attention.q_proj, scale=size**-0.5)
        rest = Fused.of(dtype, attention.k_proj, attention.v_proj)
        self._qkv, self._out = query.beside(rest), Fused.of(dtype, attention.out_proj)
        self._cache = states.new_empty(2, rows, heads, most, size)

    def read(self, hidden: Tensor, place: int) -> Tensor:
        """Attend from new tokens (rows, width), and keep their keys and values."""
        rows, heads, _, size = self._cache.shape[1:]
        qkv = self._qkv(hidden).view(rows, 3, heads, size)
        self._cache[:, :, :, place] = qkv[:, 1:].transpose(0, 1)
        query = qkv[:, 0].reshape(rows * heads, 1, size)
        keys, values = self._cache.flatten(1, 2)[:, :, : place + 1].unbind(0)
        return self._out(_attend(query, keys.transpose(1, 2), values).view(rows, -1))

    def keep(self, move: _Move, place: int) -> None:
        """Drop the rows that are done."""
        if move.holes:
            self._cache[:, move.holes, :, :place] = self._cache[:, move.movers, :, :place]
        self._cache = self._cache[:, : move.count]

    def reorder(self, order: Tensor, place: int) -> None:
        """Give each row what another has read."""
        read = self._cache[:, :, :, :place]
        read.copy_(read.index_select(1, order))


class _DocumentAttention:
    """Attention of newest tokens to their row's document.

    It holds keys and values (documents, heads, size of a head, longest). The keys' bias would move
    all scores of a query alike, so they have none.
    """

    def __init__(self, attention: Any, states: Tensor, packing: Packing) -> None:
        heads, size, dtype = attention.num_heads, attention.head_dim, states.dtype
        self._query = Fused.of(dtype, attention.q_proj, scale=size**-0.5)
        self._out = Fused.of(dtype, attention.out_proj)
        key, value = Fused.of(dtype, attention.k_proj), Fused.of(dtype, attention.v_proj)
        self._keys = _by_document(key.weight, states, packing).unflatten(1, (heads, size))
        values = _by_document(value.weight, states, packing)
        if value.bias is not None:
            values += value.bias[:, None]
        self._values = values.unflatten(1, (heads, size))

    def read(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from new tokens (rows, width), documents' rows one after another."""
        documents, heads, size, _ = self._keys.shape
        query = self._query(hidden).view(documents, -1, heads, size).transpose(1, 2)
        query = query.reshape(documents * heads, -1, size)
        keys, values = self._keys.flatten(0, 1), self._values.flatten(0, 1).transpose(1, 2)
        seen = _attend(query, keys, values, mask)
        seen = seen.view(documents, heads, -1, size).transpose(1, 2)
        return self._out(seen.reshape(hidden.shape))

    def keep(self, move: _Move) -> None:
        """Drop the documents of the rows that are done."""
        self._keys, self._values = move.rows(self._keys), move.rows(self._values)


def _by_document(weight: Tensor, states: Tensor, packing: Packing) -> Tensor:
    """Map packed states, tokens last, so that products with one query read them in order.

    Returns:
        (documents, width, longest), zeros behind shorter documents.
    """
    make = states.new_empty if packing.is_even else states.new_zeros
    found = make(packing.rows, len(weight), packing.longest)
    for row, document in enumerate(states.split(packing.lengths)):
        torch.mm(weight, document.t(), out=found[row, :, : len(document)])
    return found


def _padding_mask(packing: Packing, heads: int, dtype: torch.dtype) -> Tensor | None:
    """Return what is added to scores (documents, heads, 1, longest), or None without padding."""
    if packing.is_even:
        return None
    mask = torch.zeros(packing.rows, heads, 1, packing.longest, dtype=dtype, device=packing.device)
    return mask.masked_fill_(~packing.real(packing.longest)[:, None, None], MASKED)


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend from scaled queries (sets, queries, size) to keys (sets, size, keys)."""
    if mask is None:
        scores = torch.bmm(query, keys)
    else:
        scores = torch.baddbmm(mask.flatten(0, 1), query, keys)
    return torch.bmm(scores.softmax(-1), values)
