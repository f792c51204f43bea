"""The length-grouped sampler."""

from longwatt.sampling import LengthGroupedSampler

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
