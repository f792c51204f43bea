"""Intervals over seeds and of differences."""

import math

import pandas as pd
import pytest

from longwatt.intervals import of_difference, over_seeds


def test_a_mean_over_seeds_has_student_s_interval():
    assert over_seeds([1.0, 3.0]) == pytest.approx((2 - 12.706, 2 + 12.706))
    assert over_seeds(pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9])) == pytest.approx(
        (2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3))
    )
    assert over_seeds([4.0] * 5) == (4, 4)


def test_more_seeds_than_the_table_has_take_the_normal_distribution():
    values = [float(n % 2) for n in range(32)]
    half = 1.96 * math.sqrt(8 / 31) / math.sqrt(32)
    assert over_seeds(values) == pytest.approx((0.5 - half, 0.5 + half))
    half = 2.042 * 0.5 / math.sqrt(31)
    assert over_seeds([*values[:30], 0.5]) == pytest.approx((0.5 - half, 0.5 + half))


def test_half_widths_of_a_difference_add_as_squares_end_by_end():
    assert of_difference((20, 17, 21), (10, 6, 18)) == pytest.approx((10 - math.hypot(3, 8), 10 + math.hypot(1, 4)))
    assert of_difference((20, 17, 21), (10, 10, 10)) == (7, 11)
    assert of_difference((0, -math.inf, 1), (0, -1, 1))[0] == -math.inf
