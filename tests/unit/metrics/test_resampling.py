"""One bootstrap: examples are drawn whole and together, and no interval is without width."""

import numpy as np
import pytest
from bench.intervals import SIMULATIONS, Rates, apart_and_together

from longwatt.metrics import bootstrap_interval, score_examples, text_sample
from longwatt.metrics.resampling import (  # fmt: skip
    BOOTSTRAP,
    FEW,
    WILSON,
    Resampling,
    Sample,
    Scores,
    difference_of,
    interval_of,
    ratio_of,
    wilson,
)

HOW = Resampling(resamples=400)


def scores(
    values: list[float] | np.ndarray, examples: list[str] | None = None, how: Resampling = HOW
) -> Scores:
    table = np.asarray(values, float).reshape(len(values), -1)
    return Scores([Sample.of(examples or [f"e{n}" for n in range(len(table))], table)], how)


def simulated(name: str, samples: int = 150) -> tuple[Rates, Rates]:
    (chosen,) = (both for title, both in SIMULATIONS.items() if title.startswith(name))
    return apart_and_together(chosen[0], samples, chosen[1])


# 150 samples know a share of 95 % within 3.5 points (two standard errors).
# `python -m bench.intervals` draws more.
def test_references_of_one_example_are_not_independent():
    apart, together = simulated("each reference")
    assert apart.holds < 0.91 <= together.holds


def test_a_baseline_of_the_same_examples_is_not_exact():
    apart, together = simulated("against the lead")
    assert apart.below + apart.above > 0.11 > 0.08 > together.below + together.above


def test_seeds_alone_do_not_say_what_other_examples_would():
    apart, together = simulated("two models of three seeds", 100)
    assert apart.holds < 0.85 and together.holds > 0.92


def test_wilson_s_interval_is_as_published():
    assert wilson(0.0, 10, 0.95) == pytest.approx((0, 0.27753), abs=1e-4)
    assert wilson(15 / 148, 148, 0.95) == pytest.approx(
        (0.0624, 0.1605), abs=1e-4
    )  # Newcombe (1998), table I
    assert wilson(1.0, 29, 0.95) == pytest.approx((0.8830, 1), abs=1e-4)


@pytest.mark.parametrize("value", [0, 100])
@pytest.mark.parametrize("metric", ["f1", "exact_match", "accuracy", "rouge"])
def test_no_score_at_an_end_is_without_width(metric, value):
    said = "a perfect answer" if value else "nothing"
    predictions, references = (
        {f"e{n}": said for n in range(40)},
        {f"e{n}": ["a perfect answer"] for n in range(40)},
    )
    low, high, method = bootstrap_interval(score_examples(predictions, references), metric)
    reach = 100 * wilson(0, 40, 0.95)[1]
    assert (low, high) == pytest.approx((100 - reach, 100) if value else (0, reach))
    assert (method == WILSON) == (metric != "rouge")


@pytest.mark.parametrize("wrong", range(1, 2 * FEW))
def test_an_interval_grows_evenly_as_examples_leave_the_crowd(wrong):
    """One wrong of 200 must not be better known than none."""
    crowd = scores([100.0] * 200)
    for value in (0.0, 50.0):
        found = interval_of(scores([value] * wrong + [100.0] * (200 - wrong)))
        assert found.low < 100 - wrong * (100 - value) / 200 <= found.high
        if value == 0 or wrong < FEW:
            assert found.low < interval_of(crowd).low


def test_one_metric_at_0_does_not_hide_what_the_others_say():
    """ROUGE-2 of 0 everywhere makes every resample's geometric mean 0."""
    source = np.random.default_rng(1)
    values = np.column_stack([source.uniform(10, 40, 60), np.zeros(60), source.uniform(10, 30, 60)])
    low, high, _ = interval_of(scores(values))
    assert low == 0 < 10 < high < 25
    low, high, _ = difference_of(scores(values), scores(values / 2))
    assert low < 0 < high


def test_what_differs_from_nearly_nothing_decides_nothing():
    """A sign test of five of 500, all in favour of one, has p = 0.06; of twelve p = 0.0005."""
    base = np.tile([0.0, 100.0], 250)
    for better, decided in ((1, False), (FEW - 1, False), (12, True)):
        changed = base.copy()
        changed[: 2 * better : 2] = 100
        assert (difference_of(scores(changed), scores(base)).low > 0) == decided
    same = difference_of(scores(base), scores(base)).ends
    assert same == pytest.approx((-0.763, 0.763), abs=1e-3)


def test_pairs_know_their_examples_by_id_not_by_place():
    source = np.random.default_rng(2)
    values, ids = source.uniform(0, 90, 80), [f"e{n}" for n in range(80)]
    gains = source.normal(2, 1, 80)
    first, second = scores(values + gains, ids), scores(values[::-1], ids[::-1])
    low, high, _ = difference_of(first, second)
    assert high - low < 1 and low < gains.mean() < high
    with pytest.raises(ValueError, match="same examples"):
        difference_of(first, scores(values, [f"x{n}" for n in range(80)]))


def test_a_ratio_s_interval_is_that_of_the_same_resamples():
    source = np.random.default_rng(3)
    values = source.uniform(5, 45, 60)
    low, high, _ = ratio_of(scores(2 * values), scores(values))
    assert (low, high) == pytest.approx((2, 2), abs=1e-9), "twice as good in every resample"
    noisy = scores(2 * values + source.normal(0, 3, 60))
    low, high, _ = ratio_of(noisy, scores(values))
    assert 1.8 < low < 2 < high < 2.2
    assert ratio_of(noisy, scores(np.zeros(60))) is None
    low, high, _ = ratio_of(scores(values), scores(values))
    assert low < 1 < high


def test_references_are_drawn_with_their_example():
    """Each example's three references score alike: they say no more than one would."""
    source = np.random.default_rng(4)
    values = source.uniform(0, 90, 50)
    three, ids = np.repeat(values, 3), [f"e{n}" for n in range(50) for _ in range(3)]
    assert interval_of(scores(three, ids)).ends == pytest.approx(interval_of(scores(values)).ends)
    low, high, method = interval_of(scores(three))
    assert (
        high - low < 0.65 * np.subtract(*interval_of(scores(values)).ends[::-1])
        and method == BOOTSTRAP
    )
    right = np.repeat([0.0, 100.0] * 25, 3)
    assert interval_of(scores(right, ids)).method == BOOTSTRAP, (
        "no proportion of independent answers"
    )
    sample = text_sample({"a#0": {"f1": 1.0}, "a#1": {"f1": 4.0}, "b#0": {"f1": 7.0}}, "f1", {
        "a#0": "a", "a#1": "a", "b#0": "b"})  # fmt: skip
    assert (sample.ids, sample.value, sample.rows.tolist()) == (("a", "b"), 4, [2, 1])
