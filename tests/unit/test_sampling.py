"""The length-grouped sampler."""

import pytest

from longwatt.cells import StepBatch
from longwatt.sampling import LengthGroupedSampler, ShardedBatches

LENGTHS = [(7 * i) % 101 + 1 for i in range(400)]


def order(epoch: int, seed: int = 3, group: bool = True) -> list[int]:
    sampler = LengthGroupedSampler(LENGTHS, 4, seed, group)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_example_comes_once():
    assert sorted(order(0)) == list(range(400))
    assert len(LengthGroupedSampler(LENGTHS, 4, 3)) == 400


def test_the_order_depends_on_seed_and_epoch_alone():
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != order(1, seed=4)


def test_batches_hold_similar_lengths():
    def spread(indices):
        batches = [[LENGTHS[i] for i in indices[k : k + 4]] for k in range(0, 400, 4)]
        return sum(max(b) - min(b) for b in batches) / len(batches)

    assert spread(order(0)) < spread(order(0, group=False)) / 4


def test_the_longest_example_comes_first():
    assert LENGTHS[order(5)[0]] == max(LENGTHS)


def test_a_dataset_smaller_than_a_batch_is_served():
    assert sorted(LengthGroupedSampler([3, 1, 2], 8, 0)) == [0, 1, 2]


def sharded(examples: int, step: StepBatch, rank: int, processes: int) -> ShardedBatches:
    return ShardedBatches(LengthGroupedSampler(LENGTHS[:examples], step.per_device, 3), step, rank, processes)


def shares(examples: int, batch: int, accumulation: int, processes: int, wanted: int | None = None) -> list[list]:
    step = StepBatch(batch, accumulation, wanted or batch * accumulation * processes)
    return [list(sharded(examples, step, rank, processes)) for rank in range(processes)]


@pytest.mark.parametrize(
    ("examples", "batch", "accumulation", "processes"), [(64, 4, 1, 2), (64, 3, 2, 3), (5, 4, 1, 8)]
)
def test_over_all_processes_every_example_comes_once_and_all_make_equally_many_steps(
    examples, batch, accumulation, processes
):
    dealt = shares(examples, batch, accumulation, processes)
    step = StepBatch(batch, accumulation, batch * accumulation * processes)
    assert {len(share) for share in dealt} == {len(sharded(examples, step, 0, processes))}
    real = [b.positions for share in dealt for b in share if b.weight]
    assert sorted(position for positions in real for position in positions) == list(range(examples))
    assert all(b.positions for share in dealt for b in share), "who has none keeps the others company"


def test_weights_make_the_mean_over_processes_that_over_micro_batches():
    dealt = shares(64, 3, 2, 3)  # 22 micro-batches: three whole steps of 6, and one of 4 on 3 processes
    for step in range(0, len(dealt[0]), 2):
        weights = [b.weight for share in dealt for b in share[step : step + 2]]
        assert sum(weights) / len(weights) == pytest.approx(1)
        assert len({w for w in weights if w}) == 1
    assert [b.weight for share in dealt for b in share[-2:]] == [1.5, 1.5, 1.5, 0, 1.5, 0]


def test_several_processes_take_what_one_with_more_accumulation_would():
    together = shares(64, 3, 2, 3)
    (alone,) = shares(64, 3, 6, 1)
    in_turn = [b.positions for round_ in zip(*together, strict=True) for b in round_ if b.weight]
    assert in_turn == [b.positions for b in alone]
    assert {b.weight for b in alone} == {1.0}


def test_a_step_that_cannot_be_cut_evenly_weighs_every_example_alike():
    # 14 examples on 2 devices that hold 4 each: 4 + 3 on either, in two rounds.
    dealt = shares(64, 4, 2, 2, wanted=14)
    assert {len(share) for share in dealt} == {len(sharded(64, StepBatch(4, 2, 14), 0, 2))}
    real = [b for share in dealt for b in share if b.weight]
    assert sorted(p for b in real for p in b.positions) == list(range(64))
    for step in range(4):
        pieces = [b for share in dealt for b in share[2 * step : 2 * step + 2]]
        assert sorted(len(b.positions) for b in pieces) == [3, 3, 4, 4]
        assert {round(b.weight / len(b.positions), 12) for b in pieces} == {round(4 / 14, 12)}
