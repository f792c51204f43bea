"""95 % intervals of means over seeds, and of differences of numbers that have intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NORMAL_95 = 1.96
# Two-sided 97.5 % points of Student's t for 1, 2, ... degrees of freedom.
STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

# A number, and the ends of its interval.
Known = tuple[float, float, float]


def over_seeds(values: Any) -> tuple[float, float]:
    """The interval of a mean, by Student's t.

    Args:
        values: of two seeds or more, a list or an array.
    """
    found = np.asarray(values, float)
    freedom = len(found) - 1
    t = STUDENT_T[freedom - 1] if freedom <= len(STUDENT_T) else NORMAL_95  # 2 % less than t has there
    half = t * float(found.std(ddof=1)) / math.sqrt(len(found))
    mean = float(found.mean())
    return mean - half, mean + half


def of_difference(first: Known, second: Known) -> tuple[float, float]:
    """The interval of the first less the second, both independent: Newcombe (Statistics in Medicine 17, 1998).

    Two cells that score the same examples are not, which makes this rather too wide than too narrow. Ends may be
    infinite.
    """
    (one, low, high), (other, other_low, other_high) = first, second
    value = one - other
    return value - math.hypot(one - low, other_high - other), value + math.hypot(high - one, other - other_low)
