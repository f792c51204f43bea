"""The front in figures and in the table of all cells."""

import matplotlib.pyplot as plt
import pytest

from longwatt.report.figures import COST_AXES, accuracy_against
from longwatt.report.tables import readable
from tests.unit.report.test_figures import row, table, words


def placed(front: str, places: tuple[str | None, ...], **costs) -> list[dict]:
    return [
        row(seq_len=64 * n, score=20.0 * n, **{f"frontier_{front}": place},
            **{f"frontier_{front}_share": None if place is None else 0.5},
            **{name: value * n for name, value in costs.items()})
        for n, place in enumerate(places, 1)
    ]  # fmt: skip


def front_of(figure) -> list[tuple[float, float]]:
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "on"]
    return [tuple(map(float, corner)) for corner in line.get_xydata()]


def alphas(figure) -> list[float]:
    drawn = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    return sorted(line.get_alpha() for line in drawn)


def test_the_front_goes_up_in_steps_and_dominated_points_are_faint():
    rows = placed("memory", ("on", "undecided", "dominated"), peak_memory_gib=1.0)
    rows[2] |= {"score": 30.0}
    figure = accuracy_against(table(*rows), COST_AXES["peak_memory"], {})
    assert front_of(figure) == [(1, 20), (2, 20), (2, 40)]
    assert alphas(figure) == [0.25, 0.6, 1.0]
    assert "front: no shown point is better; faint: dominated" in words(figure)


def test_a_faster_point_is_the_better_one():
    rows = placed("inference_time", ("on", "on"), inference_samples_per_second=10.0)
    rows[1] |= {"score": 10.0}
    figure = accuracy_against(table(*rows), COST_AXES["inference_speed"], {})
    assert front_of(figure) == [(10, 20), (10, 10), (20, 10)]
    plt.close(figure)


def test_summaries_without_a_front_are_drawn_in_full():
    rows = placed("memory", (None, None), peak_memory_gib=1.0)
    figure = accuracy_against(table(*rows), COST_AXES["peak_memory"], {})
    assert alphas(figure) == [1.0] and not [x for x in figure.axes[0].lines if x.get_gid() == "on"]
    older = table(*rows).drop(columns=["frontier_memory"])
    assert "front" not in words(accuracy_against(older, COST_AXES["peak_memory"], {}))


@pytest.mark.parametrize(("kwh", "unit", "left"), [(0.002, "Wh", 2), (2.0, "kWh", 2)])
def test_energy_of_a_life_names_its_requests_unit_and_estimate(kwh, unit, left):
    known = {"requests": 50000, "lifecycle_energy_source": "estimate"}
    rows = [one | known for one in placed("lifecycle_energy", ("on", "on"),
                                          lifecycle_energy_kwh=kwh)]  # fmt: skip
    figure = accuracy_against(table(*rows), COST_AXES["lifecycle_energy"], {})
    assert front_of(figure)[0] == (pytest.approx(left), 20)
    said = words(figure)
    assert f"Energy of training and 50,000 requests, estimated ({unit})" in said.replace("\n", " ")


def test_the_table_says_the_front_of_energy_or_else_of_time():
    both = {"frontier_inference_time": "on", "frontier_inference_time_share": 1.0}
    rows = [one | both for one in placed("lifecycle_energy", ("dominated", None))]
    shown = readable(table(*rows), {})
    assert shown["front (life-cycle energy)"].tolist() == ["dominated (50 %)", "NA"]
    assert "front (time of a request)" not in shown
    timed = readable(table(row(**both)), {})
    assert timed["front (time of a request)"].tolist() == ["on (100 %)"]
    assert not [name for name in readable(table(row()), {}) if "front" in name]
