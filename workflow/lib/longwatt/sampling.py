"""A length-grouped sampler that resumes bit-equal: its order depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

# The Trainer's own sampler sorts within chunks of this many batches; kept, so that grouping is the same.
BATCHES_PER_CHUNK = 50


class LengthGroupedSampler(Sampler[int]):
    """Random order, examples of similar length side by side.

    The library's sampler draws from the global generator, whose state differs after a resume.

    Args:
        lengths: tokens per example.
        batch_size: examples per device and step.
        seed: of the cell.
        group: False gives a plain random permutation.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, group: bool = True) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.group = group
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        return iter(self._grouped(order) if self.group else order)

    def _grouped(self, order: list[int]) -> list[int]:
        # At least four chunks, or a small dataset would be sorted whole.
        size = self.batch_size * max(1, min(len(order) // (self.batch_size * 4), BATCHES_PER_CHUNK))
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        chunks = [sorted(chunk, key=lambda i: self.lengths[i], reverse=True) for chunk in chunks]
        # The longest batch first: if memory is short, it shows at once.
        longest = max(range(len(chunks)), key=lambda i: self.lengths[chunks[i][0]])
        chunks[0], chunks[longest] = chunks[longest], chunks[0]
        return [index for chunk in chunks for index in chunk]
