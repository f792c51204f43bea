"""Micro-batches of so many tokens, instead of so many examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.data import Sampler

from longwatt.study.cells import MOST_TOKENS
from longwatt.training.sampling import Cut, MicroBatch, deal, weights_by_tokens


@dataclass(eq=False)
class TokenBatches(Sampler[MicroBatch]):
    """One process's micro-batches of an epoch, each of `most` tokens with its padding.

    A micro-batch has the same examples in every epoch, so that all epochs have equally many steps.
    Their order follows from (seed, epoch). The first of every epoch has the longest example: if
    memory is short, it shows at once.

    Processes get the micro-batches of a step in turn, and those of an incomplete last step, as in
    `ShardedBatches`. Every target token of a step weighs the same, however many examples are beside
    it.
    """

    lengths: Sequence[int]  # tokens of every example as a row of a batch, padding left out
    target_tokens: Sequence[int]  # of every example
    most: int  # tokens of a micro-batch; no example has more
    accumulation: int  # micro-batches of each process in a step
    seed: int  # of the cell
    rank: int
    world_size: int
    group: bool = True  # False puts examples together by chance instead of by length
    packed: bool = False  # examples follow each other in one row, which has no padding
    cut: Cut = field(init=False)  # all micro-batches
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        order = self._shuffled(len(self.lengths))
        if self.group:  # a stable order: chance decides among equals
            order.sort(key=lambda position: self.lengths[position], reverse=True)
        self.cut = list(cut_by_tokens(order, self.lengths, self.most, self.packed))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose micro-batches the next iteration yields."""
        self.epoch = epoch

    def facts(self, samples: int, steps: int) -> dict[str, float]:
        """Return the sizes of batches for training.json, after so many examples and steps."""
        return {
            MOST_TOKENS: self.most,
            "gradient_accumulation_steps": self.accumulation,
            "effective_batch_size": samples / steps,
        }

    @property
    def _of_step(self) -> int:
        return self.accumulation * self.world_size

    def __len__(self) -> int:
        full, rest = divmod(len(self.cut), self._of_step)
        return full * self.accumulation + -(-rest // self.world_size)

    def __iter__(self) -> Iterator[MicroBatch]:
        order = self._shuffled(len(self.cut))
        longest = max(order, key=lambda n: max(self.lengths[p] for p in self.cut[n]))
        place = order.index(longest)
        order[0], order[place] = order[place], order[0]
        for start in range(0, len(order), self._of_step):
            step = [self.cut[number] for number in order[start : start + self._of_step]]
            weights = weights_by_tokens(step, self.target_tokens)
            yield from deal(step, weights, self.rank, self.world_size)

    def _shuffled(self, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        found: list[int] = torch.randperm(count, generator=generator).tolist()
        return found


def cut_by_tokens(
    order: Iterable[int], lengths: Sequence[int], most: int, packed: bool = False
) -> Iterator[tuple[int, ...]]:
    """Cut examples, in their order, into micro-batches of at most so many tokens.

    Args:
        order: positions of the examples.
        lengths: tokens of each example, by position; one longer than `most` stays alone.
        most: tokens of a micro-batch: examples x the longest of them, or their sum if `packed`.
    """
    part: list[int] = []
    longest = total = 0
    for position in order:
        length = lengths[position]
        held = total + length if packed else (len(part) + 1) * max(longest, length)
        if part and held > most:
            yield tuple(part)
            part, longest, total = [], 0, 0
        part.append(position)
        longest, total = max(longest, length), total + length
    if part:
        yield tuple(part)
