"""Window, global and random blocks of keys: the self-attention of BigBird's encoder.

Zaheer et al. 2020. A softmax over blocks of keys is put together from parts by their log-sum-exps:
the window is a view of the keys there are, the two global blocks are keys of all queries at once,
and only random blocks are copied. The first and the last block of queries see their whole document.

Blocks count by the padded width of a batch, of which a document may reach only some. Documents lie
in whole blocks one after another, and blocks without a token are not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from longwatt.models.attention.band import Blocks, add_gradients
from longwatt.models.attention.kernel import attend, attend_backward
from longwatt.models.attention.packing import Packing

# Added to the score of a key that is not there. It is finite, so that a part of a softmax may lack
# all its keys: the part's log-sum-exp is as small, and the whole takes nothing from it.
ABSENT = -1e30
TOKENS = 1024  # queries of a call with keys of its own for each block: copies stay in the cache


class Part(Protocol):
    """Queries and the keys that they see, a part of those of their softmax."""

    @property
    def rows(self) -> Blocks:
        """Return the blocks of queries."""

    @property
    def mask(self) -> Tensor | None:
        """Return what to add to the scores."""

    def seen(self, tokens: Tensor) -> Tensor:
        """Return tokens (tokens, heads, size) as these keys (blocks, heads, keys, size)."""

    def add(self, grads: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """Add gradients of these queries, keys and values to those of all tokens."""


@dataclass(frozen=True)
class Near:
    """Keys that lie side by side, of a window or of a whole document."""

    rows: Blocks
    mask: Tensor | None = None

    def seen(self, tokens: Tensor) -> Tensor:
        """See `Part.seen`."""
        return self.rows.seen(tokens)

    def add(self, grads: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """See `Part.add`."""
        add_gradients(self.rows, grads, found)


@dataclass(frozen=True)
class Global:
    """The first block of documents and, where they reach it, the last."""

    rows: Blocks  # with the first block as their keys
    last: Blocks | None
    mask: Tensor | None

    def seen(self, tokens: Tensor) -> Tensor:
        """See `Part.seen`."""
        first = self.rows.seen(tokens)
        return first if self.last is None else torch.cat([first, self.last.seen(tokens)], 2)

    def add(self, grads: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """See `Part.add`."""
        self.rows.queries(grads[0]).add_(found[0])
        for whole, part in zip(grads[1:], found[1:], strict=True):
            self.rows.seen(whole).add_(part[:, :, : self.rows.keys])
            if self.last is not None:
                self.last.seen(whole).add_(part[:, :, self.rows.keys :])


@dataclass(frozen=True)
class Gathered:
    """Keys of any place, for each block and head others.

    Attributes:
        index: copied blocks (blocks, heads, blocks seen by each).
    """

    rows: Blocks
    index: Tensor
    mask: Tensor | None

    def seen(self, tokens: Tensor) -> Tensor:
        """Return copied blocks (blocks x heads, tokens x size) as these keys."""
        blocks, heads, _ = self.index.shape
        found = tokens.index_select(0, self.index.flatten())
        return found.view(blocks, heads, -1, tokens.shape[1] // self.rows.rows)

    def add(self, grads: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """See `Part.add`. Gradients of keys and values are those of the copies."""
        self.rows.queries(grads[0]).add_(found[0])
        for whole, part in zip(grads[1:], found[1:], strict=True):
            whole.index_add_(0, self.index.flatten(), part.reshape(self.index.numel(), -1))


@dataclass(frozen=True)
class Layout:
    """Documents of a batch in whole blocks, one after another.

    Attributes:
        packing: the documents.
        size: tokens of a block.
    """

    packing: Packing
    size: int

    @cached_property
    def last(self) -> int:
        """Return the number of the padded width's last block."""
        return -(-self.packing.width // self.size) - 1

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Return the blocks of each document that hold tokens."""
        return tuple(-(-length // self.size) for length in self.packing.lengths)

    @cached_property
    def starts(self) -> Tensor:
        """Return the first block of each document (documents)."""
        before = list(accumulate(self.counts, initial=0))[:-1]
        return torch.tensor(before, device=self.packing.device)

    @cached_property
    def document_of(self) -> Tensor:
        """Return the document of each block (blocks)."""
        counts = torch.tensor(self.counts, device=self.packing.device)
        return torch.arange(self.packing.rows, device=self.packing.device).repeat_interleave(counts)

    @cached_property
    def number_of(self) -> Tensor:
        """Return the number of each block in its document (blocks)."""
        blocks = torch.arange(sum(self.counts), device=self.packing.device)
        return blocks - self.starts[self.document_of]

    def real(self, document: Tensor, number: Tensor) -> Tensor:
        """Count the tokens of blocks of documents, from none to a whole block."""
        lengths = torch.tensor(self.packing.lengths, device=self.packing.device)
        return (lengths[document] - number * self.size).clamp(0, self.size)

    def keys_mask(self, real: Tensor) -> Tensor | None:
        """Mark the keys that are not there in blocks of so many tokens.

        Args:
            real: tokens of each block (blocks, heads, blocks seen by each).

        Returns:
            Mask (blocks, heads, 1, keys), or None where all keys are there.
        """
        if bool((real == self.size).all()):
            return None
        there = torch.arange(self.size, device=real.device) < real[..., None]
        mask = torch.zeros(there.shape, device=real.device).masked_fill_(~there, ABSENT)
        return mask.flatten(2)[:, :, None]

    @cached_property
    def middle(self) -> tuple[int, int]:
        """Return the first block of queries with a window, and the end of the last."""
        blocks, reaches_end = sum(self.counts), self.counts[-1] > self.last
        return 1, max(1, blocks - reaches_end)

    def chunks(self) -> Iterator[Blocks]:
        """Cut the blocks of queries into calls, each with its window as keys.

        Where documents meet, the first and the last block of two are in a call too. Leaving them
        out would take more calls than it saves.
        """
        size, step = self.size, max(1, TOKENS // self.size)
        first, end = self.middle
        for block in range(first, end, step):
            count = min(step, end - block)
            yield Blocks(block * size, size, (block - 1) * size, 3 * size, count, size)

    @cached_property
    def behind(self) -> int:
        """Return the places behind all documents, on which a window may end."""
        return self.size if self.middle[1] == sum(self.counts) else 0

    @cached_property
    def _is_whole(self) -> bool:
        return not any(length % self.size for length in self.packing.lengths)

    @cached_property
    def _places(self) -> Tensor:
        start = self.starts[self.packing.row_of] * self.size
        return start + self.packing.positions

    def lay(self, packed: Tensor) -> Tensor:
        """Put packed tokens (tokens, width) in their places (places, width)."""
        if self._is_whole:
            return functional.pad(packed, (0, 0, 0, self.behind)) if self.behind else packed
        places = sum(self.counts) * self.size + self.behind
        laid = packed.new_zeros(places, *packed.shape[1:])
        return laid.index_copy_(0, self._places, packed)

    def take(self, laid: Tensor) -> Tensor:
        """Return what lies in the tokens' places (tokens, width)."""
        if self._is_whole:
            return laid[: len(laid) - self.behind]
        return laid.index_select(0, self._places)


@dataclass(frozen=True)
class Drawn:
    """Random blocks of a layer, copied side by side for each head.

    Attributes:
        size: tokens of a block.
        used: blocks that any query of any head sees (blocks).
        parts: the queries. Their keys count these blocks.
    """

    size: int
    used: Tensor
    parts: tuple[Gathered, ...]

    @classmethod
    def of(cls, layout: Layout, chosen: Tensor) -> Drawn:
        """Follow the choice of a layer.

        Args:
            chosen: blocks that each head draws for each block between a document's first and
                last (heads, blocks, drawn).
        """
        document = layout.document_of[:, None, None]
        # The first and the last block of a document draw nothing.
        number = functional.pad(chosen.transpose(0, 1), (0, 0, 0, 0, 1, 1), value=layout.last + 1)
        number = number[layout.number_of]
        real = layout.real(document, number)
        seen = torch.where(real > 0, layout.starts[document] + number, layout.starts[document])
        used, index = torch.unique(seen, return_inverse=True)
        heads = torch.arange(len(chosen), device=chosen.device)[:, None]
        parts = _gathered(layout, index * len(chosen) + heads, real)
        return cls(layout.size, used, tuple(parts))

    def copy(self, tokens: Tensor) -> Tensor:
        """Copy the blocks of tokens (tokens, heads, width) to (blocks x heads, size x width)."""
        found = self._blocks(tokens).index_select(0, self.used)
        return found.transpose(1, 2).reshape(len(self.used) * tokens.shape[1], -1)

    def add(self, grad: Tensor, found: Tensor) -> None:
        """Add gradients of the copies to those of the tokens."""
        blocks = found.view(len(self.used), grad.shape[1], self.size, -1).transpose(1, 2)
        self._blocks(grad).index_add_(0, self.used, blocks)

    def _blocks(self, tokens: Tensor) -> Tensor:
        return tokens.view(-1, self.size, *tokens.shape[1:])


def _gathered(layout: Layout, index: Tensor, real: Tensor) -> Iterator[Gathered]:
    """Cut random blocks into calls, without those that no query of a call has."""
    order = (real == 0).byte().argsort(stable=True, dim=-1)
    index, real = index.gather(-1, order), real.gather(-1, order)
    for rows in layout.chunks():
        first = rows.row // layout.size
        part = slice(first, first + rows.count)
        most = int((real[part] > 0).sum(-1).max()) if real.shape[-1] else 0
        if most:
            mask = layout.keys_mask(real[part, :, :most])
            yield Gathered(rows, index[part, :, :most].contiguous(), mask)


@dataclass(frozen=True)
class Pattern:
    """The blocks that queries see in every layer.

    Attributes:
        layout: the documents.
        repeated: how often more the first block is seen, in place of random blocks.
    """

    layout: Layout
    repeated: int = 0

    @cached_property
    def windows(self) -> tuple[Near, ...]:
        """Return the three blocks around each block, without the first and the last."""
        layout = self.layout
        near = layout.number_of[:, None] + torch.arange(-1, 2, device=layout.packing.device)
        real = layout.real(layout.document_of[:, None], near)
        # Those two are global, and stand in a call of their own.
        real = real.masked_fill((near < 1) | (near >= layout.last), 0)[:, None]
        first = [rows.row // layout.size for rows in layout.chunks()]
        return tuple(
            Near(rows, layout.keys_mask(real[block : block + rows.count]))
            for block, rows in zip(first, layout.chunks(), strict=True)
        )

    @cached_property
    def globals(self) -> tuple[Global, ...]:
        """Return the first and the last block as keys of all between."""
        size, last = self.layout.size, self.layout.last * self.layout.size
        found = []
        for start, length, count, stride in self._runs():
            rows = Blocks(start + size, min(length, last) - size, start, size, count, stride)
            end = replace(rows, key=start + last, keys=length - last) if length > last else None
            if rows.rows > 0:
                found.append(Global(rows, end, self._more_of_first(size + max(0, length - last))))
        return tuple(found)

    def _more_of_first(self, keys: int) -> Tensor | None:
        if not self.repeated:
            return None
        device = self.layout.packing.device
        mask = torch.zeros(1, 1, 1, keys, device=device, dtype=torch.float64)
        mask[..., : self.layout.size] = math.log(1 + self.repeated)
        return mask

    @cached_property
    def ends(self) -> tuple[Near, ...]:
        """Return the first and the last block of queries, with their whole document as keys."""
        size, last = self.layout.size, self.layout.last * self.layout.size
        found = []
        for start, length, count, stride in self._runs():
            first = Blocks(start, min(size, length), start, length, count, stride)
            found.append(Near(first))
            if length > last:
                found.append(Near(replace(first, row=start + last, rows=length - last)))
        return tuple(found)

    def _runs(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (first place, tokens, documents, places of each) of equally long neighbours."""
        start, size = 0, self.layout.size
        for length, run in groupby(self.layout.packing.lengths):
            count, stride = len(list(run)), -(-length // size) * size
            yield start, length, count, stride
            start += count * stride


class _SparseAttention(torch.autograd.Function):
    """Attention by blocks, with a backward pass that recomputes the scores."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, pattern: Pattern, drawn: Drawn | None, heads: int) -> Tensor:
        """See `sparse_attention`."""
        laid = pattern.layout.lay(qkv)
        query, key, value = laid.view(len(laid), 3, heads, -1).unbind(1)
        out = torch.zeros_like(query, memory_format=torch.contiguous_format)
        wide = torch.promote_types(qkv.dtype, torch.float32)
        lse = torch.full((len(laid), heads, 1), -math.inf, dtype=wide, device=qkv.device)
        _merge((*pattern.windows, *pattern.globals), query, key, value, out, lse)
        if drawn is not None:
            _merge(drawn.parts, query, drawn.copy(key), drawn.copy(value), out, lse)
        _fill_ends(pattern, lse, -math.inf)  # windows of a call put something there too
        _merge(pattern.ends, query, key, value, out, lse)
        ctx.save_for_backward(laid, out, lse)
        ctx.pattern, ctx.drawn = pattern, drawn
        return pattern.layout.take(out.flatten(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the projections."""
        pattern: Pattern = ctx.pattern
        drawn: Drawn | None = ctx.drawn
        laid, out, lse = ctx.saved_tensors
        rows = _Rows(laid, pattern.layout.lay(grad).view(out.shape), out, lse)
        whole = torch.zeros_like(laid)
        grads = rows.split(whole)
        rows.add(pattern.ends, rows.split(laid)[1:], grads)
        rows = replace(rows, lse=_fill_ends(pattern, lse.clone(), math.inf))
        rows.add((*pattern.windows, *pattern.globals), rows.split(laid)[1:], grads)
        if drawn is not None:
            _add_random(rows, drawn, grads)
        return pattern.layout.take(whole), None, None, None


def _fill_ends(pattern: Pattern, lse: Tensor, value: float) -> Tensor:
    """Fill the first and last blocks, so that other parts have no share in them."""
    for part in pattern.ends:
        part.rows.queries(lse).fill_(value)
    return lse


def _mask(part: Part, dtype: torch.dtype) -> Tensor | None:
    """Return a mask in the type that the kernel takes beside `dtype`."""
    if part.mask is None:
        return None
    return part.mask.to(torch.float64 if dtype == torch.float64 else torch.float32)


def _merge(
    parts: Iterable[Part], query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor
) -> None:
    """Add parts, in place, to the softmax that `out` and `lse` hold so far."""
    for part in parts:
        seen = (part.rows.queries(query), part.seen(key), part.seen(value))
        found, sums = attend(*seen, _mask(part, query.dtype))
        before, more = part.rows.queries(lse), sums[..., None]
        share = torch.sigmoid(more - before).to(found.dtype)
        part.rows.queries(out).lerp_(found, share)
        before.copy_(torch.logaddexp(before, more))


@dataclass(frozen=True)
class _Rows:
    """All queries of a backward pass: outputs and log-sum-exps are those of the whole softmax."""

    laid: Tensor
    grad: Tensor
    out: Tensor
    lse: Tensor

    def split(self, laid: Tensor) -> tuple[Tensor, ...]:
        """View what lies side by side as queries, keys and values (places, heads, size)."""
        return laid.view(len(laid), 3, *self.out.shape[1:]).unbind(1)

    def add(self, parts: Iterable[Part], seen: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        """Add the gradients of queries, keys and values that pass through parts."""
        query = self.split(self.laid)[0]
        for part in parts:
            rows = part.rows.queries
            inputs = (rows(query), part.seen(seen[0]), part.seen(seen[1]), rows(self.out))
            sums, mask = rows(self.lse).squeeze(-1), _mask(part, query.dtype)
            part.add(grads, attend_backward(rows(self.grad), *inputs, sums, mask))


def _add_random(rows: _Rows, drawn: Drawn, grads: Sequence[Tensor]) -> None:
    copies = [drawn.copy(tokens) for tokens in rows.split(rows.laid)[1:]]
    found = [torch.zeros_like(copy) for copy in copies]
    rows.add(drawn.parts, copies, [grads[0], *found])
    for grad, part in zip(grads[1:], found, strict=True):
        drawn.add(grad, part)


def sparse_attention(qkv: Tensor, pattern: Pattern, drawn: Drawn | None, heads: int) -> Tensor:
    """Attend by blocks of packed tokens.

    Args:
        qkv: queries, keys and values side by side (tokens, 3 x width), not scaled.
        drawn: random blocks of the layer.

    Returns:
        Outputs of all heads (tokens, width).
    """
    inputs = (qkv, pattern, drawn if drawn and drawn.parts else None, heads)
    found: Tensor = _SparseAttention.apply(*inputs)  # type: ignore[no-untyped-call]
    return found
