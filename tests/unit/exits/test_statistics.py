"""What a model with exits gains, by numbers that can be reckoned in the head."""

from dataclasses import replace

import numpy as np
import pytest

from longwatt.exits.statistics import Draws, accuracy_over_efficient, speedup_at_equal_accuracy

SETTINGS = {"bootstrap_resamples": 100, "confidence": 0.95, "seed": 0, "equal_accuracy_points": 0}


def draws(accuracy: list[float], seconds: list[float], untimed: str = "") -> Draws:
    """Points that every resample repeats."""
    rows = np.tile(accuracy, (100, 1)), np.tile(seconds, (100, 1))
    return Draws(np.array(accuracy), np.array(seconds), *rows, untimed)


def test_the_fastest_of_the_equally_accurate_counts():
    found = speedup_at_equal_accuracy(draws([80, 81, 80, 79], [1.0, 0.8, 0.5, 0.2]), SETTINGS)
    assert (found.value, found.low, found.high, found.reason) == (2, 2, 2, "")
    near = speedup_at_equal_accuracy(
        draws([80, 81, 80, 79], [1.0, 0.8, 0.5, 0.2]), {**SETTINGS, "equal_accuracy_points": 1}
    )
    assert near.value == pytest.approx(5)


def test_where_none_is_as_accurate_one_would_use_the_standard_and_a_claim_can_fail():
    found = speedup_at_equal_accuracy(draws([80, 70], [1.0, 0.5]), SETTINGS)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert "as accurate as the standard baseline" in found.reason


def test_too_few_batches_give_a_number_without_an_interval():
    found = speedup_at_equal_accuracy(draws([80, 80], [1.0, 0.5], "few batches"), SETTINGS)
    assert (found.value, found.low, found.high, found.reason) == (2, None, None, "few batches")


def test_a_baseline_that_is_faster_and_as_accurate_beats_us():
    found = accuracy_over_efficient(draws([95, 80, 85], [0.3, 0.5, 1.0]), 1, SETTINGS)
    assert (found.value, found.reason) == (-15, "")


def test_a_baseline_that_trades_accuracy_for_speed_is_left_out_and_named():
    found = accuracy_over_efficient(draws([60, 80, 80, 85], [0.3, 0.75, 0.5, 1.0]), 2, SETTINGS)
    assert found.value == pytest.approx(2.5), "half way between our points"
    assert (
        found.reason
        == "1 of 2 efficient baselines are faster and less accurate than our fastest point"
    )


def test_a_baseline_slower_than_we_are_is_set_beside_our_best():
    assert accuracy_over_efficient(draws([84, 80, 85], [2.0, 0.5, 1.0]), 1, SETTINGS).value == 1


def test_points_that_answer_alike_gain_nothing_for_sure():
    """Every resample repeats a gain of 0, but other examples might tell the points apart."""
    same = replace(draws([80, 80, 80], [1.0, 0.5, 1.0]), unlike=0.02)
    found = accuracy_over_efficient(same, 1, SETTINGS)
    assert found.value == 0 and found.low == pytest.approx(-2) and found.high == pytest.approx(2)
    assert accuracy_over_efficient(replace(same, untimed="few batches"), 1, SETTINGS).low is None
