"""Figures of exits' confidence by label and difficulty, and of its reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from longwatt.jobs.endings import DIVERGED
from longwatt.layout.drawing import HOLLOW, leave_empty, legend, look, panels, styles
from longwatt.layout.figure_texts import beside_an_axis
from longwatt.layout.wording import percent, plain, random_weights

ExitCell = Mapping[str, Any]
# Cells of one panel share these. Their seeds are put together.
GROUPED_BY = ["dataset", "model", "seq_len", "budget"]
NOTHING = "No model of this study\nhas two exits or more."
DRAWN_KINDS = {
    "length": "Input length (tokens, quintiles)",
    "gold_confidence": "Last classifier's confidence in the right label (quintiles)",
}
WIDEST = 4  # panels side by side
IN_A_LINE = 44  # letters of the labels that a panel's legend has side by side
MOST_ROWS = 24  # of panels: a figure of two metres is read by nobody, and takes minutes
BEFORE, AFTER = "#b2182b", "#21918c"
MEANS_OVER_SEEDS = ("confidence", "accuracy")
CALIBRATION_NUMBERS = (
    "count", "accuracy", "mean_confidence",
    "confidence_q25", "confidence_median", "confidence_q75", "mean_layers",
)  # fmt: skip
# A group, its split, and a classifier's facts by seed.
ExitFacts = tuple[tuple[Any, ...], str, list[Mapping[str, Any]]]


@dataclass(frozen=True)
class ExitStudy:
    """Titles of a study's things, and what is known of its cells.

    Attributes:
        titles: of datasets, models and budgets.
        cells: each with its axes and its name under `cell`.
        calibrations: cell -> its calibration.json.
        random: models from random weights.
        diverged: models of which a training diverged.
    """

    titles: Mapping[str, str]
    cells: Sequence[ExitCell]
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    random: frozenset[str] = frozenset()
    diverged: frozenset[str] = frozenset()

    def model(self, name: str) -> str:
        """Return a model's title, with a word on random weights and on a diverged training."""
        lost = f", {DIVERGED}" if name in self.diverged else ""
        return self.titles.get(name, name) + random_weights(name in self.random) + lost

    def heading(self, dataset: str, table: pd.DataFrame, **more: Any) -> str:
        """Return a panel's title: dataset, and below it split and what tells panels apart."""
        words = [
            self._called(name, value)
            for name, value in more.items()
            if value is not None and (name == "split" or table[name].nunique() > 1)
        ]
        return "\n".join(filter(None, [self.titles.get(dataset, dataset), ", ".join(words)]))

    def _called(self, name: str, value: Any) -> str:
        if name == "model":
            return self.model(value)
        units = {"seq_len": "{} tokens", "batch_size": "batch {}", "split": "{} split"}
        text = plain(value)
        return units.get(name, "{}").format(self.titles.get(text, text))


def on_their_splits(table: pd.DataFrame, study: ExitStudy) -> pd.DataFrame:
    """Keep rows of each cell's shown split, with the cells' lengths and budgets.

    The first split is shown that no temperature was fitted on, or the calibration split if there
    is no other.
    """
    names = ["cell", "seq_len", "budget"]
    cells = [{name: cell.get(name, "") for name in names} for cell in study.cells]
    facts = pd.DataFrame(cells, columns=names)
    chosen = {
        cell: _shown_split(list(rows["split"]), study.calibrations.get(str(cell), {}))
        for cell, rows in table.groupby("cell")
    }
    there = table[table["split"] == table["cell"].map(chosen)]
    return there.merge(facts, on="cell", how="left")


def confidence_by_label(difficulty: pd.DataFrame, study: ExitStudy) -> Figure:
    """Draw calibrated confidence by right label and exit, a panel per dataset and model.

    A box shows the quartiles, a dot the mean.

    Args:
        difficulty: rows of a difficulty.csv.
        study: titles, and each cell's calibration.
    """
    rows = _means(on_their_splits(difficulty[difficulty["kind"] == "label"], study))
    groups = list(rows.groupby(GROUPED_BY, sort=False))
    with look():
        figure, axes = panels(max(1, len(groups)), 4.4)
        for axis, (key, found) in zip(axes, groups, strict=False):
            _draw_boxes(axis, found)
            axis.set_title(_title(key, found["split"].iloc[0], rows, study))
        if not groups:
            leave_empty(axes[0], NOTHING)
    return figure


def by_difficulty(difficulty: pd.DataFrame, study: ExitStudy) -> Figure:
    """Draw the mean exit layer and each classifier's accuracy, by two measures of difficulty.

    These are input length and how sure the last classifier is. A dataset and model has a row of
    four panels.

    Args:
        difficulty: rows of a difficulty.csv.
        study: titles, and each cell's calibration.
    """
    rows = _means(on_their_splits(difficulty[difficulty["kind"].isin(list(DRAWN_KINDS))], study))
    groups = list(rows.groupby(GROUPED_BY, sort=False))
    with look():
        figure, grid = _grid(len(groups), 4, (4.4, 3.9), 0.7, "are in difficulty.csv")
        for axes, (key, found) in zip(grid, groups, strict=False):
            for pair, kind in zip((axes[:2], axes[2:]), DRAWN_KINDS, strict=True):
                _draw_difficulty(pair, found[found["kind"] == kind], DRAWN_KINDS[kind])
            axes[0].set_title(_title(key, found["split"].iloc[0], rows, study), loc="left")
        for axis in grid.flat if not groups else ():
            leave_empty(axis, NOTHING)
    return figure


def _grid(
    rows: int, columns: int, panel: tuple[float, float], more: float, elsewhere: str
) -> tuple[Figure, Any]:
    """Lay out the rows of panels that a figure can hold, naming where others are.

    Args:
        rows: wanted; none gives one.
        columns: panels side by side.
        panel: its width and height (inches).
        more: height beside that of the panels (inches).
        elsewhere: what is said of the rows that are left out.
    """
    shown = max(1, min(rows, MOST_ROWS))
    size = (max(6.0, panel[0] * columns), more + panel[1] * shown)
    figure, grid = plt.subplots(shown, columns, figsize=size, squeeze=False, layout="constrained")
    if rows > MOST_ROWS:
        figure.supxlabel(f"{rows - MOST_ROWS} more {elsewhere}", fontsize=12)
    return figure, grid


def reliability_figure(study: ExitStudy) -> Figure:
    """Draw accuracy by confidence before and after calibration, a panel per classifier.

    Rows are datasets and models.
    """
    groups = _calibrated(study)
    rows = [line for key, found in groups.items() for line in _in_rows(key, found)]
    width = max(map(len, rows[:MOST_ROWS]), default=1)
    table = pd.DataFrame(list(groups), columns=GROUPED_BY)
    with look():
        elsewhere = "rows are in the cells' calibration.json"
        figure, grid = _grid(len(rows), width, (3.9, 4.0), 0.6, elsewhere)
        for axes, line in zip(grid, rows, strict=False):
            for axis, exit_ in zip(axes, line, strict=False):
                _draw_reliability(axis, exit_)
                title = _reliability_title(exit_, axis is axes[0], table, study)
                axis.set_title(title, loc="left", fontsize=12)
            for axis in axes[len(line) :]:
                axis.set_visible(False)
        if rows:
            raw = "before calibration (T = 1)"
            handles = [
                Line2D([], [], color=BEFORE, marker="o", label=raw, **HOLLOW),
                Line2D([], [], color=AFTER, marker="o", label="after calibration"),
                Line2D([], [], color="0.35", linestyle="--", label="confidence equal to accuracy"),
            ]
            legend(figure, handles, ncols=3)
        else:
            leave_empty(grid[0, 0], NOTHING)
    return figure


def _shown_split(there: Sequence[str], calibration: Mapping[str, Any]) -> str:
    """Return the first split that no temperature was fitted on, or else the first."""
    return next((split for split in there if split != calibration.get("split")), there[0])


def _title(key: Any, split: str, table: pd.DataFrame, study: ExitStudy) -> str:
    more = dict(zip(GROUPED_BY[1:], key[1:], strict=True))
    return study.heading(key[0], table, **more, split=split)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Average rows over seeds.

    Groups that differ by seed (the last classifier's confidence) are averaged over as many as
    there are.
    """
    numbered = rows.assign(place=rows.groupby(["cell", "exit", "kind"]).cumcount())
    keys = [*GROUPED_BY, "split", "kind", "exit", "layer", "place"]
    named = {"group": "first", **dict.fromkeys(CALIBRATION_NUMBERS, "mean")}
    return numbered.groupby(keys, sort=False, as_index=False).agg(named)


def _draw_boxes(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw boxes of each exit's labels side by side."""
    labels, exits = list(dict.fromkeys(rows["group"])), sorted(set(rows["exit"]))
    width, drawn = 0.8 / len(labels), styles(labels)
    for row in rows.to_dict("records"):
        left = exits.index(row["exit"]) - 0.4 + labels.index(row["group"]) * width
        _draw_box(axis, left, 0.86 * width, row, drawn[row["group"]]["color"])
    layers = rows.drop_duplicates("exit").sort_values("exit")["layer"]
    axis.set_xticks(range(len(exits)), [f"{int(layer)}" for layer in layers])
    axis.set_xlim(-0.55, len(exits) - 0.45)
    axis.set_ylim(0, 1.02)
    axis.grid(visible=False, axis="x")
    axis.set_xlabel("Classifier after layer")
    axis.set_ylabel("Calibrated confidence")
    handles = [Patch(facecolor=drawn[label]["color"], alpha=0.75, label=label) for label in labels]
    longest = max(1, *(len(str(label)) for label in labels))
    columns = max(1, min(4, len(labels), IN_A_LINE // longest))
    legend(axis, handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns,
           fontsize=9, frameon=False)  # fmt: skip


def _draw_box(axis: Axes, left: float, width: float, row: Mapping[Any, Any], colour: Any) -> None:
    low, middle, high = (row[f"confidence_{name}"] for name in ("q25", "median", "q75"))
    box = Rectangle((left, low), width, high - low, facecolor=colour, alpha=0.75, linewidth=0)
    axis.add_patch(box)
    ends = [left, left + width]
    axis.plot(ends, [middle] * 2, color="0.1", linewidth=1.6, solid_capstyle="butt")
    dot: dict[str, Any] = {"color": "white", "markeredgecolor": "0.1", "markersize": 4}
    axis.plot(left + width / 2, row["mean_confidence"], marker="o", **dot)


def _draw_difficulty(axes: Sequence[Axes], rows: pd.DataFrame, label: str) -> None:
    """Draw each group's mean exit, and beside it each classifier's accuracy in it."""
    left, right = axes
    means = rows.drop_duplicates("place").sort_values("place")
    names = list(means["group"])
    left.plot(means["place"], means["mean_layers"], color="0.25", marker="o", linewidth=1.6)
    left.set_ylim(0, 1.1 * (rows["layer"].max() + 1))  # of all layers that could be run
    left.set_ylabel("Mean layers run")
    drawn = styles(sorted(set(rows["layer"])))
    for layer, style in drawn.items():
        line = rows[rows["layer"] == layer].sort_values("place")
        style |= {"linewidth": 1.4, "markersize": 5, "label": f"{int(layer)}"}
        right.plot(line["place"], line["accuracy"], **style)
    right.set_ylabel("Accuracy (%)")
    # Above the panel, where it covers no point.
    right.legend(
        title="classifier after layer", title_fontsize=9, fontsize=9, ncols=6, frameon=False,
        columnspacing=1.2, loc="lower center", bbox_to_anchor=(0.5, 0.99),
    )  # fmt: skip
    for axis in axes:
        turned = 20 if max(map(len, names), default=0) > 7 else 0
        axis.set_xticks(range(len(names)), beside_an_axis(names), fontsize=9, rotation=turned)
        axis.set_xlabel(label, fontsize=10)


def _calibrated(study: ExitStudy) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Return the calibrations of each dataset, model, length and budget, one per seed."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in study.cells:
        if cell["cell"] in study.calibrations:
            key = tuple(cell.get(name, "") for name in GROUPED_BY)
            groups.setdefault(key, []).append(study.calibrations[cell["cell"]])
    return groups


def _in_rows(key: tuple[Any, ...], found: Sequence[Mapping[str, Any]]) -> list[list[ExitFacts]]:
    """Return a group's classifiers, at most WIDEST side by side."""
    first = found[0]["exits"]
    split = _shown_split(list(first[0]["splits"]), found[0])
    exits = [(key, split, [one["exits"][number] for one in found]) for number in range(len(first))]
    return [exits[start : start + WIDEST] for start in range(0, len(exits), WIDEST)]


def _draw_reliability(axis: Axes, exit_: ExitFacts) -> None:
    """Draw a classifier's accuracy by its confidence, in markers that grow with their examples."""
    axis.plot([0, 1], [0, 1], linestyle="--", color="0.35", linewidth=1, zorder=1)
    said = []
    for name, colour, face in (("before", BEFORE, "white"), ("after", AFTER, AFTER)):
        measured = [seed["splits"][exit_[1]][name] for seed in exit_[2]]
        bins = pooled([one["bins"] for one in measured])
        line = bins["confidence"], bins["accuracy"]
        axis.plot(*line, color=colour, linewidth=0.9, alpha=0.6, zorder=2)
        sizes = 12 + 160 * bins["count"] / max(1, bins["count"].sum())
        axis.scatter(*line, s=sizes, facecolor=face, edgecolor=colour, zorder=3)
        error = float(np.mean([one["ece"] for one in measured]))
        said.append(f"ECE {name} {percent(error, '.1f')}")
    box: dict[str, Any] = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    where: dict[str, Any] = {"transform": axis.transAxes, "va": "top", "zorder": 4}
    axis.text(0.03, 0.97, "\n".join(said), fontsize=10, bbox=box, **where)
    axis.set_xlim(0, 1.02)
    axis.set_ylim(-0.03, 1.24)  # above 1 stands the error
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_xlabel("Confidence")
    axis.set_ylabel("Accuracy")


def pooled(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Pool bins of a reliability diagram over all seeds: confidence, accuracy and count.

    Args:
        seeds: the bins of each, as a calibration.json has them. Bins without examples are left out.
    """
    rows = [row for bins in seeds for row in bins if row["count"]]
    table = pd.DataFrame(rows, columns=["low", "count", *MEANS_OVER_SEEDS])
    table = table.assign(**{name: table[name] * table["count"] for name in MEANS_OVER_SEEDS})
    sums = table.groupby("low").sum()
    means = {name: sums[name] / sums["count"] for name in MEANS_OVER_SEEDS}
    return sums.assign(**means).reset_index()


def _reliability_title(exit_: ExitFacts, first: bool, table: pd.DataFrame, study: ExitStudy) -> str:
    """Return a classifier and its temperatures, over a row's first also whose it is."""
    key, split, seeds = exit_
    above = _title(key, split, table, study) if first else ""
    temperatures = ", ".join(f"{seed['temperature']:.2f}" for seed in seeds)
    return f"{above}\nafter layer {seeds[0]['layer']}, T = {temperatures}".lstrip("\n")
