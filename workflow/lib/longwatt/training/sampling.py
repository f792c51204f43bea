"""The order of training examples, and each process's share of it.

Both depend on (seed, epoch) alone, so that training resumes bit-equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch.utils.data import Dataset, Sampler

from longwatt.models.family import Example
from longwatt.study.cells import StepBatch

# The Trainer's own sampler sorts within chunks of this many batches; the grouping here is the same.
BATCHES_PER_CHUNK = 50


@dataclass(frozen=True)
class MicroBatch:
    """The examples of one forward and backward pass of one process."""

    positions: tuple[int, ...]  # positions of its examples in the dataset
    # Factor of its loss before the mean over processes and accumulation steps; 0 where a process
    # only keeps step with the others.
    weight: float


@dataclass(eq=False)
class LengthGroupedSampler(Sampler[int]):
    """A random order with examples of similar length side by side.

    The library's sampler draws from the global generator, whose state differs after a resume.
    """

    lengths: Sequence[int]  # tokens per example
    batch_size: int  # examples per device and step
    seed: int  # of the cell
    group: bool = True  # False gives a plain random permutation
    epoch: int = field(default=0, init=False)

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


@dataclass(eq=False)
class ShardedBatches(Sampler[MicroBatch]):
    """One process's micro-batches of an epoch.

    Over all processes every example comes exactly once. The epoch's order is cut into optimiser
    steps, and each step into micro-batches. Processes get these in turn, so N processes with A
    accumulation steps train on the same examples as one process with A x N steps. The last step of
    an epoch may have fewer examples, and so fewer micro-batches than processes. A process without
    one computes an example again with weight 0; the others' weights make the mean that of the
    micro-batches there are. (The library would repeat examples instead, and count them twice.)

    A loss is the mean over a micro-batch's target tokens. Without `target_tokens` all micro-batches
    of a step weigh the same, as with the library. With `target_tokens` a micro-batch weighs its
    part of the step's tokens. The step's loss is then the mean over all of them, however many
    examples fit a device.
    """

    order: LengthGroupedSampler  # the sampler of the epoch's order
    step: StepBatch  # examples of a step, and micro-batches that they are cut into
    rank: int
    world_size: int
    target_tokens: Sequence[int] | None = None  # of every example

    @property
    def accumulation(self) -> int:
        """Micro-batches of each process in a step, at most."""
        return self.step.accumulation

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose micro-batches the next iteration yields."""
        self.order.set_epoch(epoch)

    def facts(self, samples: int, steps: int) -> dict[str, float]:
        """Return the sizes of batches for training.json, after so many examples and steps."""
        return {
            "per_device_batch_size": self.step.per_device,
            "gradient_accumulation_steps": self.step.accumulation,
            "effective_batch_size": self.step.effective,
        }

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.step.effective)
        return full * self.step.accumulation + self._rounds(rest)

    def __iter__(self) -> Iterator[MicroBatch]:
        order = list(self.order)
        for start in range(0, len(order), self.step.effective):
            yield from self._share(order[start : start + self.step.effective])

    def _rounds(self, examples: int) -> int:
        """Count the micro-batches of each process in a step of so many examples."""
        return -(-examples // (self.step.per_device * self.world_size))

    def _share(self, examples: list[int]) -> Iterator[MicroBatch]:
        """Yield this process's part of one optimiser step."""
        if self.target_tokens is None:
            size = self.step.per_device
            cut = [tuple(examples[at : at + size]) for at in range(0, len(examples), size)]
            weights = [1.0] * len(cut)
        else:
            dealt = self._rounds(len(examples)) * self.world_size
            cut = _cut_evenly(examples, min(dealt, len(examples)))
            weights = weights_by_tokens(cut, self.target_tokens)
        yield from deal(cut, weights, self.rank, self.world_size)


Cut = Sequence[tuple[int, ...]]  # the examples of some micro-batches


def weights_by_tokens(cut: Cut, target_tokens: Sequence[int]) -> list[float]:
    """Weigh a step's micro-batches by their target tokens, as multiples of an equal part."""
    tokens = [sum(target_tokens[position] for position in part) for part in cut]
    return [part * len(cut) / sum(tokens) for part in tokens]


def deal(cut: Cut, weights: Sequence[float], rank: int, world_size: int) -> Iterator[MicroBatch]:
    """Yield a process's part of one optimiser step, of which processes get one in turn.

    Args:
        cut: the step's micro-batches.
        weights: of each, as a multiple of an equal part.
    """
    dealt = -(-len(cut) // world_size) * world_size
    for number in range(rank, dealt, world_size):
        if number < len(cut):
            yield MicroBatch(cut[number], weights[number] * dealt / len(cut))
        else:
            yield MicroBatch(cut[-1][:1], 0.0)


def _cut_evenly(examples: list[int], pieces: int) -> list[tuple[int, ...]]:
    """Cut examples into pieces that differ by one at most, the larger ones first."""
    size, larger = divmod(len(examples), pieces)
    ends = [number * size + min(number, larger) for number in range(pieces + 1)]
    return [tuple(examples[start:end]) for start, end in pairwise(ends)]


WeightedExamples = tuple[list[Example], float]


@dataclass(eq=False)
class MicroBatches(Dataset[WeightedExamples]):
    """A dataset that is asked for whole micro-batches: their examples and their weight."""

    examples: Dataset[Example]

    def __len__(self) -> int:
        return len(self.examples)  # type: ignore[arg-type]

    def __getitems__(self, batch: MicroBatch) -> WeightedExamples:
        """Return a micro-batch for torch's loader."""
        return [self.examples[position] for position in batch.positions], batch.weight
