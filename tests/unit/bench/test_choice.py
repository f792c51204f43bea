"""The bench of choices judges a choice by the half that had no part in it."""

import numpy as np
import pytest
from bench.choice import Outcome, line, outcome, simulated

from longwatt.answer.choice import Limits
from longwatt.metrics.resampling import Resampling


def test_a_choice_is_compared_with_the_cheapest_that_keeps_to_what_was_asked():
    cells = simulated(True, 10.0, np.random.default_rng(0))  # 50 to 100, 1 to 6 kWh
    found = outcome(cells, Limits(min_score=65), Resampling(100), 0)
    assert found == Outcome(True, 0.0, 0.0)
    assert outcome(cells, Limits(min_score=100), Resampling(100), 0) is None


def test_a_row_counts_all_halvings_and_takes_medians_of_choices():
    made = [Outcome(True, 0.0, 0.0), Outcome(True, 0.5, 0.0), Outcome(False, float("nan"), 0.0)]
    assert line("x", [*made, None]) == "| x | 3 of 4 | 75.0 % | 25.0 % | 0.00 | 50 % |"
    assert line("x", [None]) == "| x | 0 of 1 | 100.0 % | - | - | - |"


@pytest.mark.parametrize("shared", [True, False])
def test_made_up_cells_get_better_and_dearer(shared):
    cells = simulated(shared, 8.0, np.random.default_rng(1))
    scores = [cell.score for cell in cells]
    assert scores == sorted(scores) and len({cell.scores.ids for cell in cells}) == 1
    assert [cell.costs(1)["lifecycle_energy"] for cell in cells] == [1, 2, 3, 4, 5, 6]
