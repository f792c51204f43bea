"""Lay the real tokens of a batch one after another, without padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from longwatt.models.attention.kernel import MASKED


@dataclass(frozen=True)
class Packing:
    """The real tokens of a padded batch, where padding only follows them.

    Attributes:
        lengths: real tokens of each row, at least one.
        width: tokens of a padded row.
        device: where the batch lies.
    """

    lengths: tuple[int, ...]
    width: int
    device: torch.device

    @classmethod
    def of(cls, mask: Tensor) -> Packing | None:
        """Read an attention mask (rows, width), or return None where it cannot be packed.

        Each row must begin with a real token, and no real token may follow padding.
        """
        real = mask != 0
        counts = real.sum(1)
        prefix = torch.arange(mask.shape[1], device=mask.device) < counts[:, None]
        lengths, whole = counts.tolist(), bool((prefix == real).all())
        if not whole or 0 in lengths:
            return None
        return cls(tuple(lengths), mask.shape[1], mask.device)

    @property
    def rows(self) -> int:
        """Count the rows of the batch."""
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """Return the tokens of the longest row."""
        return max(self.lengths)

    @cached_property
    def is_even(self) -> bool:
        """Check whether all rows have equally many real tokens."""
        return len(set(self.lengths)) == 1

    @property
    def tokens(self) -> int:
        """Count the real tokens."""
        return sum(self.lengths)

    @cached_property
    def begins(self) -> tuple[int, ...]:
        """Return where each row begins among the packed tokens, as plain numbers."""
        return tuple(accumulate(self.lengths, initial=0))[:-1]

    @cached_property
    def starts(self) -> Tensor:
        """Return where each row begins among the packed tokens (rows)."""
        return torch.tensor(self.begins, device=self.device)

    @cached_property
    def row_of(self) -> Tensor:
        """Return the row of each packed token (tokens)."""
        counts = torch.tensor(self.lengths, device=self.device)
        return torch.arange(self.rows, device=self.device).repeat_interleave(counts)

    @cached_property
    def positions(self) -> Tensor:
        """Return the position of each packed token in its row (tokens)."""
        return torch.arange(self.tokens, device=self.device) - self.starts[self.row_of]

    def _places(self, width: int) -> Tensor:
        """Return where each packed token lies in a batch padded to `width`, flattened."""
        return self.row_of * width + self.positions

    def real(self, width: int) -> Tensor:
        """Return which places of a batch padded to `width` hold tokens (rows, width)."""
        counts = torch.tensor(self.lengths, device=self.device)
        return torch.arange(width, device=self.device) < counts[:, None]

    def padding_mask(self, dtype: torch.dtype) -> Tensor | None:
        """Return what to add to scores of padded keys (rows, 1, longest), or None."""
        if self.is_even:
            return None
        mask = torch.zeros(self.rows, 1, self.longest, dtype=dtype, device=self.device)
        return mask.masked_fill_(~self.real(self.longest)[:, None], MASKED)

    def pack(self, padded: Tensor) -> Tensor:
        """Drop the padding: (rows, width, ...) to (tokens, ...)."""
        rows, width = padded.shape[:2]
        flat = padded.reshape(rows * width, *padded.shape[2:])
        if self.tokens == rows * width:
            return flat
        return flat.index_select(0, self._places(width))

    def pad(self, packed: Tensor, width: int | None = None) -> Tensor:
        """Put zeros behind shorter rows: (tokens, ...) to (rows, width, ...), or to the longest."""
        width = self.longest if width is None else width
        shape = (self.rows, width, *packed.shape[1:])
        if self.is_even and width == self.longest:
            return packed.reshape(shape)
        flat = packed.new_zeros(self.rows * width, *packed.shape[1:])
        return flat.index_copy(0, self._places(width), packed).view(shape)
