"""Attention of newest tokens to whole documents, for decoding token by token.

Either each layer keeps keys and values of all documents, or it reads the encoder's states as they
are: `(q W_k) x` in place of `q (W_k x)`, and the values likewise. The second needs no products over
whole documents and no memory, but each head reads all of a state's width instead of its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from longwatt.models.attention.decoder import Encoded
from longwatt.models.attention.linear import product
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.projections import Fused

# Queries of a document that read its states as fast as keys and values, which is a matter of
# memory. With more, computing counts.
FREE_QUERIES = 3
# Widths of a state that one more such query of one step costs, in products over whole documents.
WORTH = 0.6


@dataclass(frozen=True)
class Move:
    """Rows that take the places of rows that left.

    The first `count` places then hold all that stay.
    """

    count: int
    holes: list[int]
    movers: list[int]

    @classmethod
    def of(cls, going: Sequence[bool]) -> Move:
        """Choose the last rows that go on to fill the places of others."""
        count = sum(going)
        holes = [row for row in range(count) if not going[row]]
        movers = [row for row in range(count, len(going)) if going[row]]
        return cls(count, holes, movers)

    def order(self) -> list[int]:
        """List the places that the rows had so far."""
        taken = dict(zip(self.holes, self.movers, strict=True))
        return [taken.get(row, row) for row in range(self.count)]

    def rows(self, tensor: Tensor) -> Tensor:
        """Move rows of a tensor (rows, ...) in place, and view those that stay."""
        if self.holes:
            tensor[self.holes] = tensor[self.movers]
        return tensor[: self.count]


@dataclass
class Documents:
    """Encoded documents as every layer reads them.

    Attributes:
        packing: of all documents, also of those that left.
        states: padded (documents, longest, width).
        mask: added to scores (documents, 1, longest), None without padding.
    """

    packing: Packing
    states: Tensor
    mask: Tensor | None

    @classmethod
    def of(cls, encoded: Encoded, dtype: torch.dtype) -> Documents:
        """Pad documents, in the type computed in."""
        packing = encoded.packing
        return cls(packing, packing.pad(encoded.states.to(dtype)), packing.padding_mask(dtype))

    def keep(self, move: Move) -> None:
        """Drop the documents of rows that left."""
        self.states = move.rows(self.states)
        self.mask = None if self.mask is None else move.rows(self.mask)


class DocumentAttention(Protocol):
    """Attention of a layer to all documents."""

    def read(self, hidden: Tensor, documents: Documents) -> Tensor:
        """Attend from new tokens (rows, width), each document's rows one after another."""

    def keep(self, move: Move) -> None:
        """Drop the documents of rows that left."""


def document_attention(
    attention: Any, most: int, beams: int
) -> Callable[[Any, Documents], DocumentAttention]:
    """Choose how to attend by what it takes for so many steps and beams."""
    queries = attention.num_heads * beams - FREE_QUERIES
    return FromStates if most * queries < WORTH * attention.embed_dim else FromKeys


class FromKeys:
    """Attention by keys and values that are kept (documents, heads, size of a head, longest).

    The keys' bias would move all scores of a query alike, so they have none.
    """

    def __init__(self, attention: Any, documents: Documents) -> None:
        """Compute keys and values of all documents."""
        dtype, size = documents.states.dtype, attention.head_dim
        self._query = Fused.of(dtype, attention.q_proj, scale=size**-0.5)
        self._out = Fused.of(dtype, attention.out_proj)
        key, value = Fused.of(dtype, attention.k_proj), Fused.of(dtype, attention.v_proj)
        keys, values = (_tokens_last(one.weight, documents) for one in (key, value))
        if value.bias is not None:
            values += value.bias[:, None]
        shape = (len(keys), attention.num_heads, size, -1)
        self._keys, self._values = keys.view(shape), values.view(shape)

    def read(self, hidden: Tensor, documents: Documents) -> Tensor:
        """See `DocumentAttention.read`."""
        count, heads, size, _ = self._keys.shape
        query = self._query(hidden).view(count, -1, heads, size).transpose(1, 2)
        query = query.reshape(count * heads, -1, size)
        keys, values = self._keys.flatten(0, 1), self._values.flatten(0, 1).transpose(1, 2)
        seen = attend_newest(query, keys, values, documents.mask)
        return self._out(seen.view(count, heads, -1, size).transpose(1, 2).reshape(hidden.shape))

    def keep(self, move: Move) -> None:
        """See `DocumentAttention.keep`."""
        self._keys, self._values = move.rows(self._keys), move.rows(self._values)


class FromStates:
    """Attention by the states themselves, each head's query carried back to their width.

    Keys have no bias here either: it would move all scores of a query alike.
    """

    def __init__(self, attention: Any, documents: Documents) -> None:
        """Split the projections by head."""
        dtype, size = documents.states.dtype, attention.head_dim
        self._query = Fused.of(dtype, attention.q_proj, scale=size**-0.5)
        self._out = Fused.of(dtype, attention.out_proj)
        key, value = Fused.of(dtype, attention.k_proj), Fused.of(dtype, attention.v_proj)
        by_head = (attention.num_heads, size, -1)
        self._to_states = key.weight.view(by_head)
        self._to_values = value.weight.view(by_head).transpose(1, 2)
        self._bias = value.bias

    def read(self, hidden: Tensor, documents: Documents) -> Tensor:
        """See `DocumentAttention.read`."""
        states, (heads, size, width) = documents.states, self._to_states.shape
        query = self._query(hidden).view(-1, heads, size).transpose(0, 1)
        seeker = torch.bmm(query, self._to_states).transpose(0, 1)
        seeker = seeker.reshape(len(states), -1, width)
        mixed = attend_newest(seeker, states.transpose(1, 2), states, documents.mask)
        found = torch.bmm(mixed.view(-1, heads, width).transpose(0, 1), self._to_values)
        seen = found.transpose(0, 1).reshape(hidden.shape)
        return self._out(seen if self._bias is None else seen + self._bias)

    def keep(self, move: Move) -> None:
        """Do nothing: the states are everyone's."""


def _tokens_last(weight: Tensor, documents: Documents) -> Tensor:
    """Map all states, tokens last, so that products with one query read them in order.

    Returns:
        (documents, outputs, longest), zeros behind shorter documents.
    """
    packing, states = documents.packing, documents.states
    make = states.new_empty if packing.is_even else states.new_zeros
    found = make(packing.rows, len(weight), packing.longest)
    for row, length in enumerate(packing.lengths):
        found[row, :, :length] = product(weight, states[row, :length])
    return found


def attend_newest(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Attend from few newest tokens, whose products are too thin for a fused kernel.

    Args:
        query: scaled (sets, queries, size).
        keys, values: (sets, size, keys) and (sets, keys, size of a value).
        mask: added to scores (documents, 1, keys), each document's sets one after another.

    Returns:
        (sets, queries, size of a value).
    """
    scores = torch.bmm(query, keys)
    if mask is not None:
        scores.view(len(mask), -1, scores.shape[-1]).add_(mask)
    return torch.bmm(scores.softmax(-1), values)
