"""One function pairs two scores, and few examples or documents widen what it finds."""

import numpy as np
import pytest
from bench.equal_systems import Population, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatt.metrics.document_samples import with_documents
from longwatt.metrics.resampling import Resampling, Sample, Scores, difference_of
from longwatt.metrics.score_intervals import (
    independent_units,
    paired_difference,
    paired_ratio,
    small_sample_factor,
)
from longwatt.metrics.seed_intervals import of_difference

HOW = Resampling(resamples=500)


def scores(*seeds, ids=None, documents=None, how=HOW) -> Scores:
    names = ids or [f"e{n:03}" for n in range(len(seeds[0]))]
    own = documents and dict(zip(names, documents, strict=True))
    samples = [Sample.of(names, np.asarray(one, float).reshape(len(names), -1)) for one in seeds]
    return Scores([with_documents(sample, own) for sample in samples], how)


def test_the_issue_s_case_is_decided_by_pairing_alone():
    """Two systems that read the first 60 and the first 90 words find the same examples hard."""
    source = np.random.default_rng(0)
    hard = source.normal(14, 5, 272)
    both = [scores(hard + gain + source.normal(0, 0.9, 272)) for gain in (0.37, 0.0)]
    low, high = paired_difference(*both, same_seeds=True).ends
    assert 0 < low < 0.37 < high
    halves = [(one.value, *np.percentile(one.draws, [2.5, 97.5])) for one in both]
    low, high = of_difference(*halves)
    assert low < 0 < high, "as if they had answered other examples"


# 150 pairs know a share of 5 % within 3.6 points (two standard errors).
# `python -m bench.equal_systems` simulates more, on real scores.
def test_equal_systems_are_rarely_told_apart_and_unequal_ones_rarely_called_equal():
    source = np.random.default_rng(0)
    hard = source.uniform(10, 60, (40, 1, 1)) + source.normal(0, 5, (40, 3, 1))
    scored = np.concatenate([hard + 1, hard], axis=1 + 1) + source.normal(0, 4, (40, 3, 2))
    values = scored.reshape(120, 2, 1)
    population = Population([np.arange(3 * n, 3 * n + 3) for n in range(40)], values)
    found = simulate(population, 30, 150)
    assert found.better < 0.09 and found.equivalent < 0.09 and found.coverage > 0.91
    apart = simulate(population.alone(), 30, 100)
    assert apart.better < 0.1 and apart.coverage > 0.9


def test_a_wider_confidence_holds_a_narrower_one():
    source = np.random.default_rng(1)
    values = source.normal(40, 12, 80)
    both = scores(values + source.normal(1, 4, 80)), scores(values)
    ends = [paired_difference(*both, True, confidence).ends for confidence in (0.8, 0.9, 0.95)]
    assert ends[2] == paired_difference(*both, True).ends
    assert ends[2][0] < ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1] < ends[2][1]
    ratios = [paired_ratio(*both, True, confidence).ends for confidence in (0.9, 0.95)]
    assert ratios[1][0] < ratios[0][0] < ratios[0][1] < ratios[1][1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(6, 40), st.floats(-3, 3))
def test_an_exchange_of_sides_turns_the_interval_round(seed, count, gain):
    source = np.random.default_rng(seed)
    values = source.uniform(20, 70, count)
    one, other = scores(values + gain + source.normal(0, 2, count)), scores(values)
    there, back = paired_difference(one, other, True), paired_difference(other, one, True)
    assert (-there.high, -there.low) == pytest.approx(back.ends, abs=1e-9)
    assert there.value == pytest.approx(-back.value) and there.low <= there.value <= there.high
    ratio, inverse = paired_ratio(one, other, True), paired_ratio(other, one, True)
    assert 1 / ratio.high <= inverse.value <= 1 / ratio.low


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(4, 30), st.integers(2, 6))
def test_the_examples_of_one_side_alone_count_for_nothing(seed, count, more):
    source = np.random.default_rng(seed)
    values = source.uniform(20, 70, count + more)
    gains = source.normal(1, 3, count)
    ids = [f"e{n:03}" for n in range(count + more)]
    part = scores(values[:count] + gains, ids=ids[:count])
    found = paired_difference(part, scores(values, ids=ids), True)
    alone = paired_difference(part, scores(values[:count], ids=ids[:count]), True)
    assert found.is_part and found[:3] == pytest.approx(alone[:3])
    assert found.sides == pytest.approx(((values[:count] + gains).mean(), values[:count].mean()))


def test_other_examples_and_other_resamples_are_not_paired():
    one, other = scores(range(9)), scores(range(9), ids=[f"e{n + 1:03}" for n in range(9)])
    assert paired_difference(one, other, True) is None, "neither has all examples of the other"
    with pytest.raises(ValueError, match="same examples"):
        paired_difference(one, scores(range(9), how=Resampling(300)), True)


def test_few_examples_widen_an_interval_as_student_s_t_does():
    many, few = (small_sample_factor([1] * n, Resampling(100_000)) for n in (2000, 5))
    assert many == pytest.approx(1, abs=2e-3)
    assert few == pytest.approx(2.776 / 1.96 * (5 / 4) ** 0.5, rel=1e-3)
    assert small_sample_factor([1], HOW) == 1
    # 2.5 % of 100 resamples are 2.5, and 3.5 of 101 are expected beyond the end between them.
    assert 1.05 < small_sample_factor([1] * 2000, Resampling(100)) < 1.09


def test_documents_of_unlike_sizes_say_less_than_their_number():
    assert independent_units([7] * 5) == pytest.approx(5)
    assert independent_units([100, 1, 1, 1, 1]) == pytest.approx(1.08, abs=0.01)
    assert small_sample_factor([60, 20, 10, 10], HOW) > small_sample_factor([25] * 4, HOW)


def test_few_documents_are_named_and_widen_the_interval():
    source = np.random.default_rng(2)
    values = source.uniform(20, 60, 40)
    documents = [n // 8 for n in range(40)]
    both = scores(values + source.normal(1, 2, 40), documents=documents)
    other = scores(values, documents=documents)
    found = paired_difference(both, other, True)
    assert found.method == "paired bootstrap over 5 documents (widened, since they are few)"
    low, high, _ = difference_of(both, other)
    assert found.high - found.low == pytest.approx(1.6 * (high - low), rel=0.03)


def test_seeds_widen_what_documents_leave():
    source = np.random.default_rng(3)
    values, documents = source.uniform(20, 60, 60), [n // 3 for n in range(60)]
    sides = [[values + gain + source.normal(0, 2, 60) for _ in range(3)] for gain in (1, 0)]
    first, second = (scores(*side, documents=documents) for side in sides)
    found = paired_difference(first, second, same_seeds=True)
    assert "Student's t over seeds and paired bootstrap over 20 documents" in found.method
    low, high, _ = difference_of(first, second)
    assert found.low < low < high < found.high
    apart = paired_difference(first, second, same_seeds=False)
    assert apart.value == found.value and apart.ends != found.ends
