"""The length-grouped sampler."""

import pytest

from longwatt.study.cells import StepBatch
from longwatt.training.sampling import LengthGroupedSampler, ShardedBatches

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
    return ShardedBatches(
        LengthGroupedSampler(LENGTHS[:examples], step.per_device, 3), step, rank, processes
    )


def shares(
    examples: int, batch: int, accumulation: int, processes: int, wanted: int | None = None
) -> list[list]:
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
    assert all(b.positions for share in dealt for b in share), (
        "who has none keeps the others company"
    )


def test_weights_make_the_mean_over_processes_that_over_micro_batches():
    dealt = shares(
        64, 3, 2, 3
    )  # 22 micro-batches: three whole steps of 6, and one of 4 on 3 processes
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


TOKENS = [1 + (13 * i) % 29 for i in range(400)]


@pytest.mark.parametrize(("most", "accumulation"), [(7, 1), (4, 2), (1, 7)])
@pytest.mark.parametrize(
    "examples", [64, 58, 57]
)  # a rest of 8, 2 and 1 of 14 at the end of the epoch
def test_where_a_step_is_given_every_target_token_weighs_alike_whatever_fits(
    most, accumulation, examples
):
    """14 examples a step on 2 devices: as if each were one micro-batch."""
    step, order = StepBatch(most, accumulation, 14), LengthGroupedSampler(LENGTHS[:examples], 7, 3)
    dealt = [list(ShardedBatches(order, step, rank, 2, TOKENS)) for rank in range(2)]
    assert {len(share) for share in dealt} == {len(ShardedBatches(order, step, 0, 2, TOKENS))}
    epoch = list(order)
    for number, start in enumerate(range(0, examples, 14)):
        together = [
            b for share in dealt for b in share[number * accumulation : (number + 1) * accumulation]
        ]
        assert sorted(p for b in together if b.weight for p in b.positions) == sorted(
            epoch[start : start + 14]
        )
        assert max(len(b.positions) for b in together) <= most
        in_all = sum(TOKENS[p] for p in epoch[start : start + 14])
        for batch in (b for b in together if b.weight):
            mean_of_step = batch.weight / len(together)  # what its mean counts for in the step's
            assert mean_of_step == pytest.approx(sum(TOKENS[p] for p in batch.positions) / in_all)
