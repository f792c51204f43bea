"""A window around each token and one global first token: the self-attention of LED's encoder.

Beltagy et al. 2020 (Longformer). Packed tokens are cut into blocks of queries. A block reads its
keys as a view of the keys there are, so that neighbours overlap without a copy. The global first
token enters twice: as one more key of the rows that do not have it in their window, merged by its
log-sum-exp, and as a row of its own, which sees the whole document by projections of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from longwatt.models.attention.kernel import MASKED, attend, attend_backward
from longwatt.models.attention.packing import Packing

BLOCK = 64  # queries of a block: fewer compute less in vain, more make better products
EDGE = 128  # queries of a block at a document's ends, where each block has a call of its own
MANY = 4  # documents from which one call with a mask for each block beats calls for each document
# A document's tokens times its reach, up to which that holds for documents of equal length too.
SMALL = 1 << 14


@dataclass(frozen=True)
class Blocks:
    """Query blocks of one call, each `stride` tokens after the one before.

    Attributes:
        row, rows: first query, and the queries of a block.
        key, keys: first key of the first block, and the keys of a block.
        count: number of blocks.
    """

    row: int
    rows: int
    key: int
    keys: int
    count: int
    stride: int

    def queries(self, tokens: Tensor) -> Tensor:
        """View tokens (tokens, heads, size) as these queries (blocks, heads, queries, size)."""
        return self._view(tokens, self.row, self.rows)

    def seen(self, tokens: Tensor) -> Tensor:
        """View tokens (tokens, heads, size) as these keys (blocks, heads, keys, size)."""
        return self._view(tokens, self.key, self.keys)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yield (first, end) of parts of a block's keys that no two blocks share."""
        step = self.keys if self.count == 1 else self.stride
        for first in range(0, self.keys, step):
            yield first, min(first + step, self.keys)

    def part(self, tokens: Tensor, first: int, end: int) -> Tensor:
        """View tokens as a part of each block's keys (blocks, heads, end - first, size)."""
        return self._view(tokens, self.key + first, end - first)

    def _view(self, tokens: Tensor, first: int, length: int) -> Tensor:
        along, heads, size = tokens.stride()
        shape = (self.count, tokens.shape[1], length, tokens.shape[2])
        begin = tokens.storage_offset() + first * along
        return tokens.as_strided(shape, (self.stride * along, heads, along, size), begin)


@dataclass(frozen=True)
class Band:
    """The pattern of one batch of documents.

    Attributes:
        packing: the documents.
        reach: tokens that a token sees on each side, half of LED's attention window.
    """

    packing: Packing
    reach: int

    @cached_property
    def padding(self) -> tuple[int, int]:
        """Return how many tokens without a document stand before and behind, in a flat call."""
        if not self._is_flat:
            return 0, 0
        return self.reach, self.reach + -self.packing.tokens % block_of(self.reach)

    @cached_property
    def _is_flat(self) -> bool:
        lengths = self.packing.lengths
        is_small = max(lengths) * self.reach <= SMALL
        return len(lengths) > MANY and (is_small or not self.packing.is_even)

    @cached_property
    def blocks(self) -> tuple[Blocks, ...]:
        """Cut the documents into calls of the kernel."""
        lengths, reach = self.packing.lengths, self.reach
        if self._is_flat:
            block, before = block_of(reach), self.padding[0]
            count = -(-self.packing.tokens // block)
            return (Blocks(before, block, 0, block + 2 * reach, count, block),)
        if self.packing.is_even:
            return _even_calls(lengths[0], len(lengths), reach)
        return tuple(
            _shifted(call, start)
            for start, length in zip(self.packing.begins, lengths, strict=True)
            for call in document_calls(length, reach)
        )

    def masks(self, dtype: torch.dtype) -> list[Tensor]:
        """Return the masks of all calls, in the type that the kernel takes beside `dtype`."""
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        if self._is_flat:
            return [self._flat_mask.to(kind)]
        device = self.packing.device
        seen = [(b.rows, b.keys, b.row - b.key) for b in self.blocks]
        return [window(*shape, self.reach, device).to(kind) for shape in seen]

    @cached_property
    def _flat_mask(self) -> Tensor:
        """Mark which keys of a flat call lie near and in the same document."""
        (call,), (before, after) = self.blocks, self.padding
        document = functional.pad(self.packing.row_of, (before, after), value=-1)
        rows = document[call.row : call.row + call.count * call.rows].view(-1, call.rows, 1)
        keys = document.unfold(0, call.keys, call.stride)[: call.count, None]
        near = window(call.rows, call.keys, self.reach, self.reach, self.packing.device) == 0
        # A row of no document sees the others of none, so that its softmax has a sum.
        mask = torch.zeros(call.count, 1, call.rows, call.keys, device=document.device)
        return mask.masked_fill_(~(near & (rows == keys)[:, None]), MASKED)

    @cached_property
    def firsts(self) -> tuple[Blocks, ...]:
        """Return the rows with the first token beyond their window, it being their key."""
        lengths, near = self.packing.lengths, self.reach + 1
        before = self.padding[0]
        if self.packing.is_even:
            far, count, stride = lengths[0] - near, len(lengths), lengths[0]
            return (Blocks(before + near, far, before, 1, count, stride),) if far > 0 else ()
        return tuple(
            Blocks(before + start + near, length - near, before + start, 1, 1, length)
            for start, length in zip(self.packing.begins, lengths, strict=True)
            if length > near
        )


def _shifted(call: Blocks, start: int) -> Blocks:
    return Blocks(call.row + start, call.rows, call.key + start, call.keys, call.count, call.stride)


@lru_cache(maxsize=256)
def document_calls(length: int, reach: int) -> tuple[Blocks, ...]:
    """Cut one document into calls, one for all blocks between its ends."""
    block = block_of(reach)
    lead = -(-reach // block) * block  # from here on all keys before are there
    inner = max(0, (length - reach - lead) // block)
    first = lead if inner else length
    calls = [*_ends(0, first, length, reach)]
    if inner:
        calls.append(Blocks(lead, block, lead - reach, block + 2 * reach, inner, block))
        calls += _ends(lead + inner * block, length, length, reach)
    return tuple(calls)


def _ends(begin: int, end: int, length: int, reach: int) -> Iterator[Blocks]:
    step = max(EDGE, reach // 4)
    for row in range(begin, end, step):
        rows = min(step, end - row)
        key = max(0, row - reach)
        yield Blocks(row, rows, key, min(length, row + rows + reach) - key, 1, rows)


@lru_cache(maxsize=64)
def _even_calls(length: int, documents: int, reach: int) -> tuple[Blocks, ...]:
    """Cut equally long documents: blocks at their ends in one call for all documents."""
    found = []
    for call in document_calls(length, reach):
        if call.count == 1:
            found.append(Blocks(call.row, call.rows, call.key, call.keys, documents, length))
        else:
            found += [_shifted(call, number * length) for number in range(documents)]
    return tuple(found)


def block_of(reach: int) -> int:
    """Return the queries of a block, a divisor of the whole window."""
    block = min(BLOCK, 2 * reach)
    while (2 * reach) % block:
        block -= 1
    return block


@lru_cache(maxsize=64)
def window(rows: int, keys: int, offset: int, reach: int, device: torch.device) -> Tensor:
    """Return the mask of a block whose first query is key number `offset`, in float32."""
    row = torch.arange(rows, device=device)[:, None] + offset
    far = (row - torch.arange(keys, device=device)).abs() > reach
    return torch.zeros(1, 1, rows, keys, device=device).masked_fill_(far, MASKED)


class _BandAttention(torch.autograd.Function):
    """Attention by a band, with a backward pass that recomputes the scores."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, first: Tensor, band: Band, heads: int) -> Tensor:
        """See `band_attention`."""
        before, tokens, padded = band.padding[0], len(qkv), _surrounded(qkv, band)
        query, key, value = padded.view(len(padded), 3, heads, -1).unbind(1)
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        wide = torch.promote_types(qkv.dtype, torch.float32)
        lse = torch.empty(len(padded), heads, 1, dtype=wide, device=qkv.device)
        for blocks, mask in zip(band.blocks, band.masks(qkv.dtype), strict=True):
            found, sums = attend(*_operands(blocks, query, key, value), mask)
            blocks.queries(out).copy_(found)
            blocks.queries(lse).copy_(sums[..., None])
        _merge_firsts(band, query, key, value, out, lse)
        out[band.packing.starts + before] = first.to(out.dtype).view(-1, *out.shape[1:])
        ctx.save_for_backward(padded, out, lse)
        ctx.band, ctx.first_dtype = band, first.dtype
        return out[before : before + tokens].flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients of the projections and of the global rows."""
        band: Band = ctx.band
        padded, out, lse = ctx.saved_tensors
        before = band.padding[0]
        grad_first = grad[band.packing.starts].to(ctx.first_dtype)
        # The global rows take the first tokens' places.
        grad = _surrounded(grad, band).index_fill(0, band.packing.starts + before, 0)
        grad = grad.view(out.shape)
        query, key, value = padded.view(len(padded), 3, *out.shape[1:]).unbind(1)
        grads = torch.empty_like(padded, memory_format=torch.contiguous_format)
        parts = grads.view(len(padded), 3, *out.shape[1:]).unbind(1)
        for part in parts[1:]:  # each query has its gradient from one call, keys from several
            part.zero_()
        for blocks, mask in zip(band.blocks, band.masks(padded.dtype), strict=True):
            inputs = (*_operands(blocks, query, key, value), blocks.queries(out))
            sums = blocks.queries(lse).squeeze(-1)
            found = attend_backward(blocks.queries(grad), *inputs, sums, mask)
            blocks.queries(parts[0]).copy_(found[0])
            _add_to_keys(blocks, parts, found)
        _merge_firsts_backward(band, grad, query, key, value, out, lse, parts)
        return grads[before : before + band.packing.tokens], grad_first, None, None


def _surrounded(tokens: Tensor, band: Band) -> Tensor:
    """Put the places without a document around tokens, in a flat call."""
    return functional.pad(tokens, (0, 0, *band.padding)) if any(band.padding) else tokens


def _operands(
    blocks: Blocks, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return blocks.queries(query), blocks.seen(key), blocks.seen(value)


def add_gradients(blocks: Blocks, parts: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    """Add the gradients of one call. Blocks may share keys, so these come in parts."""
    blocks.queries(parts[0]).add_(found[0])
    _add_to_keys(blocks, parts, found)


def _add_to_keys(blocks: Blocks, parts: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    for first, end in blocks.parts():
        for whole, part in zip(parts[1:], found[1:], strict=True):
            blocks.part(whole, first, end).add_(part[:, :, first:end])


def _merge_firsts(
    band: Band, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor
) -> None:
    """Let rows far from the first token see it, in place."""
    for blocks in band.firsts:
        score = _first_scores(blocks, query, key)
        before = blocks.queries(lse)
        both = torch.logaddexp(before, score)
        rows = blocks.queries(out)
        rows.mul_((before - both).exp_()).add_((score - both).exp_() * blocks.seen(value))
        before.copy_(both)


def _first_scores(blocks: Blocks, query: Tensor, key: Tensor) -> Tensor:
    """Return the scores of the first token (documents, heads, rows, 1)."""
    scores = blocks.queries(query) @ blocks.seen(key).transpose(-1, -2)
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.to(wide).mul(query.shape[-1] ** -0.5)


def _merge_firsts_backward(
    band: Band,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    parts: Sequence[Tensor],
) -> None:
    """Add the gradients that pass through the first token's column."""
    scale = query.shape[-1] ** -0.5
    for blocks in band.firsts:
        grads, rows = blocks.queries(grad), blocks.queries(query)
        share = (_first_scores(blocks, query, key) - blocks.queries(lse)).exp_()
        mean = (grads * blocks.queries(out)).sum(-1, keepdim=True)
        slope = share * (grads @ blocks.seen(value).transpose(-1, -2) - mean) * scale
        share, slope = share.to(grad.dtype), slope.to(grad.dtype)
        blocks.queries(parts[0]).add_(slope * blocks.seen(key))
        blocks.seen(parts[1]).add_(slope.transpose(-1, -2) @ rows)
        blocks.seen(parts[2]).add_(share.transpose(-1, -2) @ grads)


def band_attention(qkv: Tensor, first: Tensor, band: Band, heads: int) -> Tensor:
    """Attend by a band, each document's first token seen by all of it.

    Args:
        qkv: queries, keys and values side by side (tokens, 3 x width), not scaled.
        first: outputs of the global rows (documents, width), put in the first tokens' places.

    Returns:
        Outputs of all heads (tokens, width).
    """
    found: Tensor = _BandAttention.apply(qkv, first, band, heads)  # type: ignore[no-untyped-call]
    return found
