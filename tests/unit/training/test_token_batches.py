"""Micro-batches of so many tokens."""

from itertools import pairwise

import pytest
import torch

from longwatt.training.token_batches import TokenBatches, cut_by_tokens

LENGTHS = [(7 * i) % 101 + 1 for i in range(400)]
TOKENS = [1 + (13 * i) % 29 for i in range(400)]
MOST = 600


def batches(rank: int = 0, processes: int = 1, accumulation: int = 1, **changes) -> TokenBatches:
    lengths = changes.pop("lengths", LENGTHS)
    given = {"most": MOST, "seed": 3, **changes}
    return TokenBatches(
        lengths,
        TOKENS[: len(lengths)],
        accumulation=accumulation,
        rank=rank,
        world_size=processes,
        **given,
    )


def held(part: tuple[int, ...]) -> int:
    return len(part) * max(LENGTHS[position] for position in part)


@pytest.mark.parametrize("group", [True, False])
def test_a_batch_holds_as_many_examples_as_its_tokens_allow(group):
    cut = batches(group=group).cut
    assert sorted(position for part in cut for position in part) == list(range(400))
    assert all(held(part) <= MOST for part in cut)
    assert all(held((*part, following[0])) > MOST for part, following in pairwise(cut)), (
        "one more would fit"
    )


def test_of_one_length_a_batch_is_full_to_the_last_token():
    assert {len(part) for part in batches(lengths=[60] * 40).cut} == {10}
    assert {len(part) for part in batches(lengths=[61] * 18).cut} == {9}


def test_an_example_as_long_as_the_batch_stands_alone():
    assert list(cut_by_tokens([0, 1, 2], [3, 10, 3], 10)) == [(0,), (1,), (2,)]
    assert list(cut_by_tokens([0, 1, 2], [5, 5, 6], 10)) == [(0, 1), (2,)]


def test_packed_examples_add_up_without_padding():
    assert list(cut_by_tokens([0, 1, 2], [6, 1, 3], 10, packed=True)) == [(0, 1, 2)]
    assert list(cut_by_tokens([0, 1, 2], [6, 1, 4], 10, packed=True)) == [(0, 1), (2,)]
    assert len(batches(packed=True, group=False).cut) < len(batches(group=False).cut)


def test_examples_of_similar_length_are_together_unless_chance_decides():
    def padding(found: TokenBatches) -> float:
        return 1 - sum(LENGTHS) / sum(held(part) for part in found.cut)

    assert padding(batches()) < 0.05
    assert padding(batches(group=False)) > 0.3


def test_an_epoch_orders_the_same_batches_anew():
    """Equally many steps in each, so that a training may go on from any."""
    found, epochs = batches(), []
    for epoch in (0, 1, 1):
        found.set_epoch(epoch)
        epochs.append([batch.positions for batch in found])
    assert epochs[0] != epochs[1] == epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(found.cut)
    assert batches(seed=4).cut != found.cut, "chance decides among equal lengths"
    assert [sorted(LENGTHS[p] for p in part) for part in batches(seed=4).cut] == [
        sorted(LENGTHS[p] for p in part) for part in found.cut
    ]


def test_nothing_else_draws_from_chance():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(batches())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("epoch", [0, 5])
def test_the_longest_example_comes_first(epoch):
    found = batches(group=False)
    found.set_epoch(epoch)
    assert max(LENGTHS[p] for p in next(iter(found)).positions) == max(LENGTHS)


@pytest.mark.parametrize(("accumulation", "processes"), [(1, 1), (1, 2), (2, 3), (3, 8)])
def test_all_processes_make_equally_many_steps_on_every_example_once(accumulation, processes):
    shares = [batches(rank, processes, accumulation) for rank in range(processes)]
    dealt = [list(share) for share in shares]
    assert {len(share) for share in dealt} == {len(shares[0])}
    real = [batch.positions for share in dealt for batch in share if batch.weight]
    assert sorted(position for part in real for position in part) == list(range(400))
    (alone,) = [list(batches(0, 1, accumulation * processes))]
    in_turn = [b.positions for round_ in zip(*dealt, strict=True) for b in round_ if b.weight]
    assert in_turn == [batch.positions for batch in alone]


@pytest.mark.parametrize(("accumulation", "processes"), [(3, 1), (2, 3)])
def test_every_target_token_of_a_step_weighs_alike(accumulation, processes):
    dealt = [list(batches(rank, processes, accumulation)) for rank in range(processes)]
    rests = len(batches().cut) % (accumulation * processes)
    assert rests, "the last step is an incomplete one"
    for start in range(0, len(dealt[0]), accumulation):
        together = [b for share in dealt for b in share[start : start + accumulation]]
        in_all = sum(TOKENS[p] for b in together if b.weight for p in b.positions)
        for batch in (b for b in together if b.weight):
            mean_of_step = batch.weight / len(together)  # what its mean counts for in the step's
            assert mean_of_step == pytest.approx(sum(TOKENS[p] for p in batch.positions) / in_all)


def test_its_sizes_are_told_by_the_mean_step():
    assert batches(accumulation=2).facts(samples=100, steps=8) == {
        "max_tokens_per_batch": MOST,
        "gradient_accumulation_steps": 2,
        "effective_batch_size": 12.5,
    }
