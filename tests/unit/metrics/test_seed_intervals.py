"""Intervals over seeds and of differences."""

import math

import numpy as np
import pandas as pd
import pytest

from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.metrics.score_intervals import mean_of_scores
from longwatt.metrics.seed_intervals import (
    of_difference,
    over_seeds,
    over_seeds_of_scores,
    students_t,
)
from longwatt.results.series import mean_interval


def test_a_mean_over_seeds_has_student_s_interval():
    assert over_seeds([1.0, 3.0]) == pytest.approx((2 - 12.706, 2 + 12.706))
    assert over_seeds(pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9])) == pytest.approx(
        (2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3))
    )
    assert over_seeds([4.0] * 5) == (4, 4)


def test_seeds_that_all_score_alike_have_the_interval_of_their_examples():
    assert over_seeds_of_scores([100.0, 100.0], [98.0, 97.0], [100.0, 100.0]) == (97.5, 100)
    assert over_seeds_of_scores([1.0, 3.0], [0.0, 0.0], [4.0, 4.0]) == over_seeds([1.0, 3.0])
    assert over_seeds_of_scores([4.0, 4.0], [math.nan, 3.0], [5.0, 5.0]) == (4, 4)


# Two-sided 97.5 % points of Student's t for 1, 2, ... degrees of freedom, as printed.
STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def test_students_t_is_that_of_printed_tables():
    assert [students_t(0.95, n) for n in range(1, 31)] == pytest.approx(STUDENT_T, abs=6e-4)
    assert [students_t(0.99, n) for n in (1, 2, 9)] == pytest.approx(
        [63.657, 9.925, 3.250], abs=6e-4
    )


def test_half_widths_of_a_difference_add_as_squares_end_by_end():
    assert of_difference((20, 17, 21), (10, 6, 18)) == pytest.approx(
        (10 - math.hypot(3, 8), 10 + math.hypot(1, 4))
    )
    assert of_difference((20, 17, 21), (10, 10, 10)) == (7, 11)
    assert of_difference((0, -math.inf, 1), (0, -1, 1))[0] == -math.inf


def test_an_interval_of_a_score_over_few_seeds_ends_where_scores_do():
    ends = {"score_ci_low": [50.0, 95.0], "score_ci_high": [70.0, 100.0]}
    rows = pd.DataFrame({"score": [60.0, 100.0], **ends, "score_confidence": 0.95})
    assert over_seeds([60, 100])[1] > 300 and mean_interval(rows) == (0.0, 100.0)
    right = [np.repeat([0.0, 100.0], [n, 50 - n])[:, None] for n in (20, 0)]
    scores = Scores(
        [Sample.of([f"e{n:02}" for n in range(50)], values) for values in right], Resampling(100)
    )
    assert mean_of_scores(scores).ends == (0.0, 100.0)
