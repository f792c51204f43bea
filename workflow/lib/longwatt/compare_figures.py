"""Two studies' scores and speeds against each other, a panel per dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.cells import CLASSIFIED
from longwatt.drawing import (
    COLOURS,
    LIGHTEST,
    MARKERS,
    SCORE_TITLES,
    half_widths,
    lay_out,
    leave_empty,
    legend,
    logarithmic,
    look,
    panels,
    save,
)
from longwatt.glyphs import drawable
from longwatt.point_labels import label_points
from longwatt.wording import random_weights

GREY = "0.35"
RATIOS = (
    0.001,
    0.003,
    0.01,
    0.03,
    0.1,
    0.3,
    1,
    3,
    10,
    30,
    100,
    300,
    1000,
)  # guide lines of a logarithmic figure
Style = Mapping[str, Any]


@dataclass(frozen=True)
class Quantity:
    """A quantity of one study that is set against the other's.

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
    "inference_speed": Quantity(
        "inference_samples_per_second", "inference speed (samples/s)", logarithmic=True
    ),
}


def draw_all(
    comparison: pd.DataFrame, studies: tuple[str, str], folder: Path, titles: Mapping[str, str]
) -> list[Path]:
    """Write every figure of QUANTITIES as SVG and PNG, and return their paths."""
    found: list[Path] = []
    shown = drawable(titles)
    for name, quantity in QUANTITIES.items():
        found += save(against(comparison, studies, quantity, shown), folder / name)
    return found


def against(
    comparison: pd.DataFrame,
    studies: tuple[str, str],
    quantity: Quantity,
    titles: Mapping[str, str],
) -> Figure:
    """Draw the second study's values over the first's, with lines of equal values or ratios.

    Args:
        comparison: as `longwatt.compare.compare`.
        studies: the two.
        quantity: what is drawn.
        titles: how datasets and models are called.
    """
    datasets = list(dict.fromkeys(comparison["dataset_a"]))
    styles = _styles(comparison)
    with look():
        figure, axes = panels(len(datasets), 4.8)
        lines = []
        for axis, dataset in zip(axes, datasets, strict=True):
            lines.append(
                _panel(
                    axis, comparison[comparison["dataset_a"] == dataset], studies, quantity, styles
                )
            )
            axis.set_title(titles.get(dataset, dataset))
        _legend(figure, comparison, styles, titles, len(datasets))
        lay_out(figure)
        for axis, drawn in zip(axes, lines, strict=True):
            label_points(axis, drawn, needed=True)
    return figure


def _styles(comparison: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """Choose a colour for each model and a marker for each budget."""
    models, budgets = (list(dict.fromkeys(comparison[name])) for name in ("model_a", "budget_a"))
    colours = plt.get_cmap(COLOURS)(np.linspace(0, LIGHTEST, max(2, len(models))))
    return {
        (model, budget): {"color": tuple(colours[i][:3]), "marker": MARKERS[j % len(MARKERS)]}
        for i, model in enumerate(models)
        for j, budget in enumerate(budgets)
    }


def _panel(
    axis: Axes,
    panel: pd.DataFrame,
    studies: tuple[str, str],
    quantity: Quantity,
    styles: Mapping[tuple[str, str], Style],
) -> list[pd.DataFrame]:
    """Draw one panel without the lengths at its points, and return its lines."""
    known = panel.dropna(subset=[f"{quantity.column}_a", f"{quantity.column}_b"])
    if quantity.label is None:
        known = known[known["score_name_a"] == known["score_name_b"]]
    if known.empty:
        leave_empty(axis, "Not known of both studies,\nor not the same metric.")
        return []
    lines = []
    for (model, budget), style in styles.items():
        own = known[(known["model_a"] == model) & (known["budget_a"] == budget)]
        lines.append(_series(axis, own.sort_values("seq_len_a"), quantity, style))
    if quantity.logarithmic:
        _ratio_lines(axis)
    else:
        _equal_line(axis)
    names = [
        f"{quantity.label or SCORE_TITLES.get(known['score_name_a'].iloc[0], 'score')}, {s}"
        for s in studies
    ]
    axis.set_xlabel(names[0][0].upper() + names[0][1:])
    axis.set_ylabel(names[1][0].upper() + names[1][1:])
    return lines


def _series(axis: Axes, own: pd.DataFrame, quantity: Quantity, style: Style) -> pd.DataFrame:
    """Draw a model's points by input length, and return them with their lengths."""
    x, y = own[f"{quantity.column}_a"], own[f"{quantity.column}_b"]
    bars: dict[str, Any] = {}
    if not quantity.label:
        bars = {
            f"{axis_name}err": half_widths(
                at, own[f"score_ci_low_{side}"], own[f"score_ci_high_{side}"]
            )
            for axis_name, at, side in (("x", x, "a"), ("y", y, "b"))
        }
    classified = (
        own["protocol_a"] == CLASSIFIED
    ).all()  # points of a model differ in how examples leave it
    if not classified:
        axis.plot(x, y, linewidth=1, alpha=0.4, color=style["color"])
    axis.errorbar(x, y, linestyle="none", markersize=6, elinewidth=0.8, **bars, **style)
    return pd.DataFrame(
        {"x": x, "y": y, "label": "" if classified else own["seq_len_a"].astype(str)}
    )


def _equal_line(axis: Axes) -> None:
    """Give both axes the same range, and draw the line of equal values."""
    axis.margins(0.12)
    limits = [*axis.get_xlim(), *axis.get_ylim()]
    low, high = min(limits), max(limits)
    axis.plot([low, high], [low, high], linestyle="--", color=GREY, linewidth=1.2, zorder=1)
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")


def _ratio_lines(axis: Axes) -> None:
    """Draw lines of equal ratio across a logarithmic panel, each with its ratio."""
    logarithmic(axis)
    logarithmic(axis, vertical=True)
    axis.margins(0.18)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for ratio in RATIOS:
        if not bottom < ratio * right or not ratio * left < top:
            continue
        axis.plot(
            [left, right],
            [ratio * left, ratio * right],
            linestyle="--",
            color=GREY,
            linewidth=0.9,
            zorder=1,
        )
        start = max(left, bottom / ratio) * 1.04
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axis.text(
            start,
            ratio * start,
            f"{ratio:g} x",
            fontsize=8,
            color=GREY,
            bbox=paper,
            clip_on=True,
            zorder=1.5,
        )
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)


def _legend(
    figure: Figure,
    comparison: pd.DataFrame,
    styles: Mapping[tuple[str, str], Style],
    titles: Mapping[str, str],
    count: int,
) -> None:
    models, budgets = (list(dict.fromkeys(names)) for names in zip(*styles, strict=True))
    random = set(comparison.loc[_random(comparison), "model_a"])
    handles = []
    for model in models:
        label = titles.get(model, model) + random_weights(model in random)
        handles.append(
            Line2D([], [], linewidth=3, label=label, color=styles[model, budgets[0]]["color"])
        )
    for budget in budgets if len(budgets) > 1 else []:
        marker = styles[models[0], budget]["marker"]
        handles.append(Line2D([], [], linestyle="none", marker=marker, label=budget, color=GREY))
    handles.append(
        Line2D(
            [], [], linestyle="--", color=GREY, label="equal in both, or in the ratio that it says"
        )
    )
    columns = min(2, count, len(handles))
    legend(figure, handles, ncols=columns)


def _random(comparison: pd.DataFrame) -> pd.Series[bool]:
    return (comparison["initialisation_a"] == "random") | (
        comparison["initialisation_b"] == "random"
    )
