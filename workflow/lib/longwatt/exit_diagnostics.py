"""Figures of what classifiers at exits know: their confidence by label and difficulty, and how reliable it is."""

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

from longwatt.drawing import HOLLOW, leave_empty, legend, look, panels, styles
from longwatt.endings import DIVERGED
from longwatt.figure_texts import beside_an_axis
from longwatt.wording import percent, plain, random_weights

Cell = Mapping[str, Any]
# What makes the cells of one panel, whose seeds are put together.
GROUP = ["dataset", "model", "seq_len", "budget"]
NOTHING = "No model of this study\nhas two exits or more."
KINDS = {
    "length": "Input length (tokens, quintiles)",
    "gold_confidence": "Last classifier's confidence in the right label (quintiles)",
}
WIDEST = 4  # panels side by side
IN_A_LINE = 44  # letters of the labels that a panel's legend has side by side
BEFORE, AFTER = "#b2182b", "#21918c"


@dataclass(frozen=True)
class Study:
    """How the things of a study are called, and what is known of its cells.

    Attributes:
        titles: of datasets, models and budgets.
        cells: each with its axes and its name under `cell`.
        calibrations: cell -> its calibration.json.
        random: models from random weights.
        diverged: models of which a training diverged.
    """

    titles: Mapping[str, str]
    cells: Sequence[Cell]
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    random: frozenset[str] = frozenset()
    diverged: frozenset[str] = frozenset()

    def model(self, name: str) -> str:
        """A model's title, and a word on random weights and on a training that diverged."""
        random = random_weights(name in self.random)
        return (
            self.titles.get(name, name)
            + random
            + (f", {DIVERGED}" if name in self.diverged else "")
        )

    def heading(self, dataset: str, table: pd.DataFrame, **more: Any) -> str:
        """A panel's title: the dataset, and below it what tells its panels apart (and always the split)."""
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


def on_their_splits(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows of the split that each cell is shown on, with the cells' lengths and budgets.

    That is the first that no temperature was fitted on; the calibration split where there is no other.
    """
    facts = pd.DataFrame(
        [
            {name: cell.get(name, "") for name in ("cell", "seq_len", "budget")}
            for cell in study.cells
        ],
        columns=["cell", "seq_len", "budget"],
    )
    chosen = {
        cell: _split(list(dict.fromkeys(rows["split"])), str(cell), study)
        for cell, rows in table.groupby("cell")
    }
    there = table[table["split"] == table["cell"].map(chosen)]
    return there.merge(facts, on="cell", how="left")


def confidence_by_label(difficulty: pd.DataFrame, study: Study) -> Figure:
    """Calibrated confidence by right label and exit: a panel per dataset and model, quartiles as a box, mean as a dot.

    Args:
        difficulty: rows of a difficulty.csv.
        study: how things are called, and each cell's calibration.
    """
    rows = _means(on_their_splits(difficulty[difficulty["kind"] == "label"], study))
    groups = list(rows.groupby(GROUP, sort=False))
    with look():
        figure, axes = panels(max(1, len(groups)), 4.4)
        for axis, (key, found) in zip(axes, groups, strict=False):
            _draw_boxes(axis, found)
            axis.set_title(_title(key, found, rows, study))
        if not groups:
            leave_empty(axes[0], NOTHING)
    return figure


def by_difficulty(difficulty: pd.DataFrame, study: Study) -> Figure:
    """Mean exit layer and each classifier's accuracy, by input length and by how sure the last classifier is.

    A row of four panels per dataset and model.

    Args:
        difficulty: rows of a difficulty.csv.
        study: how things are called, and each cell's calibration.
    """
    rows = _means(on_their_splits(difficulty[difficulty["kind"].isin(list(KINDS))], study))
    groups, left_out = _first(list(rows.groupby(GROUP, sort=False)))
    with look():
        size = (17.6, 0.7 + 3.9 * max(1, len(groups)))
        figure, grid = plt.subplots(
            max(1, len(groups)), 4, figsize=size, squeeze=False, layout="constrained"
        )
        for axes, (key, found) in zip(grid, groups, strict=False):
            for pair, kind in zip((axes[:2], axes[2:]), KINDS, strict=True):
                _draw_difficulty(pair, found[found["kind"] == kind], KINDS[kind])
            axes[0].set_title(_title(key, found, rows, study), loc="left")
        for axis in grid.flat if not groups else ():
            leave_empty(axis, NOTHING)
        if left_out:
            figure.supxlabel(f"{left_out} more are in difficulty.csv", fontsize=12)
    return figure


def _first(groups: list[Any]) -> tuple[list[Any], int]:
    """As many groups as a figure can hold, and how many it leaves out."""
    return groups[:MOST_ROWS], max(0, len(groups) - MOST_ROWS)


def reliability(study: Study) -> Figure:
    """Accuracy by confidence before and after calibration: a panel per classifier, rows by dataset and model."""
    groups = _calibrated(study)
    rows, left_out = _first(
        [line for key, found in groups.items() for line in _in_rows(key, found)]
    )
    width = max((len(line) for line in rows), default=1)
    table = pd.DataFrame(list(groups), columns=GROUP)
    with look():
        size = (max(6.0, 3.9 * width), 0.6 + 4.0 * max(1, len(rows)))
        figure, grid = plt.subplots(
            max(1, len(rows)), width, figsize=size, squeeze=False, layout="constrained"
        )
        for axes, line in zip(grid, rows, strict=False):
            for axis, exit_ in zip(axes, line, strict=False):
                _draw_reliability(axis, exit_)
                axis.set_title(
                    _reliability_title(exit_, axis is axes[0], table, study),
                    loc="left",
                    fontsize=12,
                )
            for axis in axes[len(line) :]:
                axis.set_visible(False)
        if left_out:
            figure.supxlabel(
                f"{left_out} more rows are in the cells' calibration.json", fontsize=12
            )
        if rows:
            _reliability_legend(figure)
        else:
            leave_empty(grid[0, 0], NOTHING)
    return figure


def _split(there: Sequence[str], cell: str, study: Study) -> str:
    fitted = study.calibrations.get(cell, {}).get("split")
    return next((split for split in there if split != fitted), there[0])


def _title(key: Any, found: pd.DataFrame, table: pd.DataFrame, study: Study) -> str:
    more = dict(zip(GROUP[1:], key[1:], strict=True))
    return study.heading(key[0], table, **more, split=found["split"].iloc[0])


MOST_ROWS = 24  # of panels: a figure of two metres is read by nobody, and takes minutes
NUMBERS = (
    "count",
    "accuracy",
    "mean_confidence",
    "confidence_q25",
    "confidence_median",
    "confidence_q75",
    "mean_layers",
)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds; of groups that differ by seed (the last classifier's confidence) as many as there are."""
    numbered = rows.assign(place=rows.groupby(["cell", "exit", "kind"]).cumcount())
    keys = [*GROUP, "split", "kind", "exit", "layer", "place"]
    named = {"group": "first", **dict.fromkeys(NUMBERS, "mean")}
    return numbered.groupby(keys, sort=False, as_index=False).agg(named)


def _draw_boxes(axis: Axes, rows: pd.DataFrame) -> None:
    """Boxes of each exit's labels side by side."""
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
    columns = max(
        1, min(4, len(labels), IN_A_LINE // max(1, *(len(str(label)) for label in labels)))
    )
    legend(axis, handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns,
           fontsize=9, frameon=False)  # fmt: skip


def _draw_box(axis: Axes, left: float, width: float, row: Mapping[Any, Any], colour: Any) -> None:
    low, middle, high = (row[f"confidence_{name}"] for name in ("q25", "median", "q75"))
    axis.add_patch(
        Rectangle((left, low), width, high - low, facecolor=colour, alpha=0.75, linewidth=0)
    )
    axis.plot(
        [left, left + width], [middle, middle], color="0.1", linewidth=1.6, solid_capstyle="butt"
    )
    axis.plot(
        left + width / 2,
        row["mean_confidence"],
        color="white",
        marker="o",
        markersize=4,
        markeredgecolor="0.1",
    )


def _draw_difficulty(axes: Sequence[Axes], rows: pd.DataFrame, label: str) -> None:
    """Beside each other: the mean exit of each group, and the accuracy of each classifier in it."""
    left, right = axes
    names = list(rows.drop_duplicates("place").sort_values("place")["group"])
    means = rows.drop_duplicates("place").sort_values("place")
    left.plot(means["place"], means["mean_layers"], color="0.25", marker="o", linewidth=1.6)
    left.set_ylim(0, 1.1 * (rows["layer"].max() + 1))  # of all layers that could be run
    left.set_ylabel("Mean layers run")
    drawn = styles(sorted(set(rows["layer"])))
    for layer, style in drawn.items():
        line = rows[rows["layer"] == layer].sort_values("place")
        right.plot(
            line["place"],
            line["accuracy"],
            linewidth=1.4,
            markersize=5,
            label=f"{int(layer)}",
            **style,
        )
    right.set_ylabel("Accuracy (%)")
    # Above the panel, where it covers no point.
    right.legend(
        title="classifier after layer", title_fontsize=9, fontsize=9, ncols=6, frameon=False, columnspacing=1.2,
        loc="lower center", bbox_to_anchor=(0.5, 0.99),
    )  # fmt: skip
    for axis in axes:
        turned = 20 if max(map(len, names), default=0) > 7 else 0
        axis.set_xticks(range(len(names)), beside_an_axis(names), fontsize=9, rotation=turned)
        axis.set_xlabel(label, fontsize=10)


Exit = tuple[
    tuple[Any, ...], str, list[Mapping[str, Any]]
]  # a group, its split, and a classifier's facts by seed


def _calibrated(study: Study) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """The calibrations of each dataset, model, length and budget: one per seed."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in study.cells:
        if cell["cell"] in study.calibrations:
            key = tuple(cell.get(name, "") for name in GROUP)
            groups.setdefault(key, []).append(
                {**study.calibrations[cell["cell"]], "cell": cell["cell"]}
            )
    return groups


def _in_rows(key: tuple[Any, ...], found: Sequence[Mapping[str, Any]]) -> list[list[Exit]]:
    """A group's classifiers, at most WIDEST side by side."""
    there = list(found[0]["exits"][0]["splits"])
    split = next((name for name in there if name != found[0].get("split")), there[0])
    exits = [
        (key, split, [one["exits"][number] for one in found])
        for number in range(len(found[0]["exits"]))
    ]
    return [exits[start : start + WIDEST] for start in range(0, len(exits), WIDEST)]


def _draw_reliability(axis: Axes, exit_: Exit) -> None:
    """A classifier's accuracy by its confidence; markers grow with the share of examples."""
    axis.plot([0, 1], [0, 1], linestyle="--", color="0.35", linewidth=1, zorder=1)
    said = []
    for name, colour, style in (("before", BEFORE, HOLLOW), ("after", AFTER, {})):
        measured = [seed["splits"][exit_[1]][name] for seed in exit_[2]]
        bins = pooled([one["bins"] for one in measured])
        axis.plot(
            bins["confidence"], bins["accuracy"], color=colour, linewidth=0.9, alpha=0.6, zorder=2
        )
        sizes = 12 + 160 * bins["count"] / max(1, bins["count"].sum())
        face = "white" if style else colour
        axis.scatter(
            bins["confidence"],
            bins["accuracy"],
            s=sizes,
            facecolor=face,
            edgecolor=colour,
            zorder=3,
        )
        said.append(
            f"ECE {name} {percent(float(np.mean([one['ece'] for one in measured])), '.1f')}"
        )
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    axis.text(
        0.03,
        0.97,
        "\n".join(said),
        transform=axis.transAxes,
        va="top",
        fontsize=10,
        bbox=box,
        zorder=4,
    )
    axis.set_xlim(0, 1.02)
    axis.set_ylim(-0.03, 1.24)  # above 1 stands the error
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_xlabel("Confidence")
    axis.set_ylabel("Accuracy")


def pooled(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Bins of a reliability diagram with the examples of all seeds together: confidence, accuracy and count.

    Args:
        seeds: the bins of each, as a calibration.json has them; those without examples are left out.
    """
    table = pd.DataFrame(
        [row for bins in seeds for row in bins if row["count"]], columns=["low", "count", *MEANS]
    )
    sums = (
        table.assign(**{name: table[name] * table["count"] for name in MEANS}).groupby("low").sum()
    )
    return sums.assign(**{name: sums[name] / sums["count"] for name in MEANS}).reset_index()


MEANS = ("confidence", "accuracy")


def _reliability_title(exit_: Exit, first: bool, table: pd.DataFrame, study: Study) -> str:
    """The classifier and its temperatures; over the first of a row also whose it is."""
    key, split, seeds = exit_
    above = (
        study.heading(key[0], table, **dict(zip(GROUP[1:], key[1:], strict=True)), split=split)
        if first
        else ""
    )
    temperatures = ", ".join(f"{seed['temperature']:.2f}" for seed in seeds)
    return f"{above}\nafter layer {seeds[0]['layer']}, T = {temperatures}".lstrip("\n")


def _reliability_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=BEFORE, marker="o", label="before calibration (T = 1)", **HOLLOW),
        Line2D([], [], color=AFTER, marker="o", label="after calibration"),
        Line2D([], [], color="0.35", linestyle="--", label="confidence equal to accuracy"),
    ]
    legend(figure, handles, ncols=3)
