"""Two studies' scores and speeds against each other: a panel per dataset, a colour per model, lengths at the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.drawing import leave_empty, panels, save
from longwatt.figures import COLOURS, LIGHTEST, MARKERS, SCORE_TITLES

GREY = "0.35"
OFFSETS = ((7, -11), (-7, 6), (7, 5), (-7, -12))  # of a length beside its point, in points; by model


@dataclass(frozen=True)
class Quantity:
    """What is set against itself.

    Attributes:
        column: of the comparison, less `_a` and `_b`.
        label: of the axes; None for the score's own name.
        logarithmic: whether ratios matter, not differences.
    """

    column: str
    label: str | None
    logarithmic: bool = False


QUANTITIES = {
    "scores": Quantity("score", None),
    "inference_speed": Quantity("inference_samples_per_second", "inference speed (samples/s)", logarithmic=True),
}


def draw_all(comparison: pd.DataFrame, studies: tuple[str, str], folder: Path, titles: Mapping[str, str]) -> list[Path]:
    """Write every figure of QUANTITIES as SVG and PNG; their paths."""
    found: list[Path] = []
    for name, quantity in QUANTITIES.items():
        found += save(against(comparison, studies, quantity, titles), folder / name)
    return found


def against(
    comparison: pd.DataFrame, studies: tuple[str, str], quantity: Quantity, titles: Mapping[str, str]
) -> Figure:
    """The second study's values over the first's; on the dashed line both are equal.

    Args:
        comparison: as `longwatt.compare.compare`.
        studies: the two.
        quantity: what is drawn.
        titles: how datasets and models are called.
    """
    datasets = list(dict.fromkeys(comparison["dataset_a"]))
    series = list(dict.fromkeys(zip(comparison["model_a"], comparison["budget_a"], strict=True)))
    colours = plt.get_cmap(COLOURS)(np.linspace(0, LIGHTEST, max(2, len(series))))
    styles = {
        key: {"color": tuple(colours[i][:3]), "marker": MARKERS[i % len(MARKERS)]} for i, key in enumerate(series)
    }
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure, axes = panels(len(datasets), 4.8)
        for axis, dataset in zip(axes, datasets, strict=True):
            _panel(axis, comparison[comparison["dataset_a"] == dataset], studies, quantity, styles)
            axis.set_title(titles.get(dataset, dataset))
        _legend(figure, comparison, styles, titles, len(datasets))
    return figure


def _panel(
    axis: Axes,
    panel: pd.DataFrame,
    studies: tuple[str, str],
    quantity: Quantity,
    styles: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    known = panel.dropna(subset=[f"{quantity.column}_a", f"{quantity.column}_b"])
    if quantity.label is None:
        known = known[known["score_name_a"] == known["score_name_b"]]
    if known.empty:
        leave_empty(axis, "Not known of both studies,\nor not the same metric.")
        return
    for place, (key, style) in enumerate(styles.items()):
        own = known[(known["model_a"] == key[0]) & (known["budget_a"] == key[1])]
        _series(axis, own, quantity, style, OFFSETS[place % len(OFFSETS)])
    _equal_line(axis, quantity)
    names = [f"{quantity.label or SCORE_TITLES.get(known['score_name_a'].iloc[0], 'score')}, {s}" for s in studies]
    axis.set_xlabel(names[0][0].upper() + names[0][1:])
    axis.set_ylabel(names[1][0].upper() + names[1][1:])


def _series(
    axis: Axes, own: pd.DataFrame, quantity: Quantity, style: Mapping[str, Any], offset: tuple[int, int]
) -> None:
    x, y = own[f"{quantity.column}_a"], own[f"{quantity.column}_b"]
    bars: dict[str, Any] = {} if quantity.label else {"xerr": _half_widths(own, "a"), "yerr": _half_widths(own, "b")}
    axis.errorbar(x, y, linestyle="none", markersize=7, capsize=2, elinewidth=0.9, **bars, **style)
    for (_, row), left, up in zip(own.iterrows(), x, y, strict=True):
        axis.annotate(
            str(row["seq_len_a"]),
            (left, up),
            xytext=offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right",
            fontsize=9,
            color="0.25",
        )


def _half_widths(own: pd.DataFrame, side: str) -> Sequence[pd.Series[float]]:
    """Below and above the score; an interval of equal examples can miss it by the last rounded digit."""
    score = own[f"score_{side}"]
    return [
        (score - own[f"score_ci_low_{side}"]).clip(lower=0),
        (own[f"score_ci_high_{side}"] - score).clip(lower=0),
    ]


def _equal_line(axis: Axes, quantity: Quantity) -> None:
    """The same range on both axes, and the line on which both studies agree."""
    if quantity.logarithmic:
        axis.set_xscale("log")
        axis.set_yscale("log")
    else:
        axis.margins(0.12)
    limits = [*axis.get_xlim(), *axis.get_ylim()]
    low, high = min(limits), max(limits)
    low, high = (low / 1.3, high * 1.3) if quantity.logarithmic else (low, high)
    axis.plot([low, high], [low, high], linestyle="--", color=GREY, linewidth=1.2, zorder=1)
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")


def _legend(
    figure: Figure,
    comparison: pd.DataFrame,
    styles: Mapping[tuple[str, str], Mapping[str, Any]],
    titles: Mapping[str, str],
    count: int,
) -> None:
    budgets = comparison["budget_a"].nunique() > 1
    random = set(comparison.loc[_random(comparison), "model_a"])
    labels = {
        key: titles.get(key[0], key[0])
        + (f", {key[1]}" if budgets else "")
        + (", from random weights" if key[0] in random else "")
        for key in styles
    }
    handles = [Line2D([], [], linestyle="none", label=labels[key], **style) for key, style in styles.items()]
    handles.append(Line2D([], [], linestyle="--", color=GREY, label="equal in both"))
    columns = min(2, count, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=10, frameon=False)


def _random(comparison: pd.DataFrame) -> pd.Series[bool]:
    return (comparison["initialisation_a"] == "random") | (comparison["initialisation_b"] == "random")
