"""Draw the scores of single cells, cascades and oracles against their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.layout import drawing
from longwatt.layout.wording import ESTIMATED, random_weights

DRAWN_PAIRS = 6  # cascades of a figure, the cheapest that keep the score
AXES_LABELS = {"J": "Energy of a request (J{})", "ms": "Time of a request (ms{})"}
ORACLE_STYLE: dict[str, Any] = {"linestyle": ":", "linewidth": 1.4, "color": "0.45"}
RUN_STYLE: dict[str, Any] = {
    "linestyle": "none", "marker": "*", "markersize": 15, "color": "black",
}  # fmt: skip


def cascade_drawings(
    groups: Mapping[str, Mapping[str, Any]],
    curve: pd.DataFrame,
    names: Mapping[str, str],
    titles: Mapping[str, str],
) -> dict[str, Callable[[], Figure]]:
    """List a figure for each group of cells, to be drawn one at a time.

    Args:
        groups: as `longwatt.cascades.report.group_facts`, by name.
        curve: rows of curve.csv.
        names: of cells.
        titles: of datasets.
    """
    return {
        key: partial(_figure, facts, curve[curve["group"] == key], names, titles)
        for key, facts in groups.items()
    }


def _figure(
    facts: Mapping[str, Any],
    curve: pd.DataFrame,
    names: Mapping[str, str],
    titles: Mapping[str, str],
) -> Figure:
    with drawing.look():
        figure, (axis,) = drawing.panels(1, 4.6)
        handles = []
        pairs = _drawn_pairs(facts)
        styles = drawing.styles(pairs)
        for first, last in pairs:
            own = curve[(curve["first"] == first) & (curve["last"] == last)]
            cascade, oracle = (own[own["kind"] == kind] for kind in ("cascade", "oracle"))
            style = {"color": styles[first, last]["color"], "linewidth": 2}
            label = f"{names[first]}, then {names[last]}"
            handles += axis.plot(cascade["cost"], cascade["score"], label=label, **style)
            axis.plot(oracle["cost"], oracle["score"], **ORACLE_STYLE)
        for one in facts["singles"]:
            _single(axis, one, names)
        for one in facts["run"]:
            if one["cost"] is not None:
                axis.plot(one["cost"], one["score"], **RUN_STYLE)
        handles += _legend_of(facts)
        estimated = f", {ESTIMATED}" if facts["estimated"] else ""
        axis.set_xlabel(AXES_LABELS[facts["unit"]].format(estimated))
        axis.set_ylabel(drawing.SCORE_TITLES.get(facts["score_name"], facts["score_name"]))
        random = all(one["random_weights"] for one in facts["singles"])
        title = titles.get(facts["dataset"], facts["dataset"])
        axis.set_title(title + random_weights(random))
        drawing.legend(figure, handles, ncols=1)
        drawing.lay_out(figure)
    return figure


def _single(axis: Any, one: Mapping[str, Any], names: Mapping[str, str]) -> None:
    below, above = one["score"] - one["score_low"], one["score_high"] - one["score"]
    ends = [[max(0.0, below)], [max(0.0, above)]]
    axis.errorbar(one["cost"], one["score"], ends, marker="o", color="0.25", capsize=3)
    place = {"xytext": (7, -12), "textcoords": "offset points", "fontsize": 9}
    axis.annotate(names[one["cell"]], (one["cost"], one["score"]), **place)


def _drawn_pairs(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = [pair for pair in facts["pairs"] if "missing" not in pair]
    order = sorted(known, key=lambda one: (one["verdict"] != "cascade", one["fitted"]["cost"]))
    return [(one["first"], one["last"]) for one in order[:DRAWN_PAIRS]]


def _legend_of(facts: Mapping[str, Any]) -> list[Line2D]:
    single = Line2D([], [], marker="o", color="0.25", linestyle="none", label="single cell")
    oracle = Line2D([], [], label="oracle of the same cells", **ORACLE_STYLE)
    run = Line2D([], [], label="cascade run for real", **RUN_STYLE)
    return [single, oracle, *([run] if facts["run"] else [])]
