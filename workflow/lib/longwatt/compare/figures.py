"""Two studies' scores and speeds against each other, a panel per dataset."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.compare.settings import Studies
from longwatt.layout import drawing
from longwatt.layout.drawing import half_widths, leave_empty, legend, logarithmic, look
from longwatt.layout.glyphs import drawable
from longwatt.layout.point_labels import label_points
from longwatt.layout.wording import random_weights
from longwatt.study.cells import CLASSIFIED

GUIDE_GREY = "0.35"
# Guide lines of a logarithmic figure.
RATIO_GUIDES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
PanelStyle = Mapping[str, Any]
PanelStyles = Mapping[tuple[str, str], PanelStyle]  # by model and budget
StudyTitles = Mapping[str, str]  # of datasets and models


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


_SPEED = "inference speed (samples/s)"
QUANTITIES = {
    "scores": Quantity("score", None),
    "inference_speed": Quantity("inference_samples_per_second", _SPEED, logarithmic=True),
}


def draw_all(comparison: pd.DataFrame, studies: Studies, folder: Path, titles: StudyTitles) -> None:
    """Write every figure of QUANTITIES as SVG and PNG."""
    shown = drawable(titles)
    for name, quantity in QUANTITIES.items():
        drawing.save(panels_against(comparison, studies, quantity, shown), folder / name)


def panels_against(
    comparison: pd.DataFrame, studies: Studies, quantity: Quantity, titles: StudyTitles
) -> Figure:
    """Draw the second study's values over the first's, with lines of equal values or ratios.

    Args:
        comparison: as `longwatt.compare.pairing.compare_cells`.
        studies: the two.
        quantity: what is drawn.
        titles: how datasets and models are called.
    """
    datasets = list(dict.fromkeys(comparison["dataset_a"]))
    styles = _styles(comparison)
    with look():
        figure, axes = drawing.panels(len(datasets), 4.8)
        lines = []
        for axis, dataset in zip(axes, datasets, strict=True):
            rows = comparison[comparison["dataset_a"] == dataset]
            lines.append(_panel(axis, rows, studies, quantity, styles))
            axis.set_title(titles.get(dataset, dataset))
        _legend(figure, comparison, styles, titles, len(datasets))
        drawing.lay_out(figure)
        for axis, drawn in zip(axes, lines, strict=True):
            label_points(axis, drawn, needed=True)
    return figure


def _styles(comparison: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """Choose a colour for each model and a marker for each budget."""
    models, budgets = (list(dict.fromkeys(comparison[name])) for name in ("model_a", "budget_a"))
    colours, markers = drawing.styles(models), drawing.styles(budgets)
    return {
        (model, budget): {"color": colours[model]["color"], "marker": markers[budget]["marker"]}
        for model, budget in itertools.product(models, budgets)
    }


def _panel(
    axis: Axes, panel: pd.DataFrame, studies: Studies, quantity: Quantity, styles: PanelStyles
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
    draw_lines = _ratio_lines if quantity.logarithmic else _equal_line
    draw_lines(axis)
    score = drawing.SCORE_TITLES.get(known["score_name_a"].iloc[0], "score")
    label = quantity.label or score
    label = label[0].upper() + label[1:]
    axis.set(xlabel=f"{label}, {studies[0]}", ylabel=f"{label}, {studies[1]}")
    return lines


def _series(axis: Axes, own: pd.DataFrame, quantity: Quantity, style: PanelStyle) -> pd.DataFrame:
    """Draw a model's points by input length, and return them with their lengths."""
    x, y = own[f"{quantity.column}_a"], own[f"{quantity.column}_b"]
    bars: dict[str, Any] = {}
    if not quantity.label:
        for end, at, side in (("xerr", x, "a"), ("yerr", y, "b")):
            low, high = own[f"score_ci_low_{side}"], own[f"score_ci_high_{side}"]
            bars[end] = half_widths(at, low, high)
    # Points of a model that classifies differ in how examples leave it.
    classified = (own["protocol_a"] == CLASSIFIED).all()
    # Points of two paths of attention have two costs, and are on two lines.
    for _, part in [] if classified else own.groupby(["attention_a", "attention_b"], sort=False):
        axis.plot(x[part.index], y[part.index], linewidth=1, alpha=0.4, color=style["color"])
    axis.errorbar(x, y, linestyle="none", markersize=6, elinewidth=0.8, **bars, **style)
    label = "" if classified else own["seq_len_a"].astype(str)
    return pd.DataFrame({"x": x, "y": y, "label": label})


def _equal_line(axis: Axes) -> None:
    """Give both axes the same range, and draw the line of equal values."""
    axis.margins(0.12)
    limits = [*axis.get_xlim(), *axis.get_ylim()]
    low, high = min(limits), max(limits)
    axis.plot([low, high], [low, high], linestyle="--", color=GUIDE_GREY, linewidth=1.2, zorder=1)
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")


def _ratio_lines(axis: Axes) -> None:
    """Draw lines of equal ratio across a logarithmic panel, each with its ratio."""
    logarithmic(axis)
    logarithmic(axis, vertical=True)
    axis.margins(0.18)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    line: dict[str, Any] = {"linestyle": "--", "color": GUIDE_GREY, "linewidth": 0.9, "zorder": 1}
    words: PanelStyle = {"fontsize": 8, "color": GUIDE_GREY, "clip_on": True, "zorder": 1.5}
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for ratio in RATIO_GUIDES:
        if not bottom < ratio * right or not ratio * left < top:
            continue
        axis.plot([left, right], [ratio * left, ratio * right], **line)
        start = max(left, bottom / ratio) * 1.04
        axis.text(start, ratio * start, f"{ratio:g} x", bbox=paper, **words)
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)


def _legend(
    figure: Figure, comparison: pd.DataFrame, styles: PanelStyles, titles: StudyTitles, count: int
) -> None:
    models, budgets = (list(dict.fromkeys(names)) for names in zip(*styles, strict=True))
    is_random = (comparison[["initialisation_a", "initialisation_b"]] == "random").any(axis=1)
    random, handles = set(comparison.loc[is_random, "model_a"]), []
    for model in models:
        label = titles.get(model, model) + random_weights(model in random)
        colour = styles[model, budgets[0]]["color"]
        handles.append(Line2D([], [], linewidth=3, label=label, color=colour))
    for budget in budgets if len(budgets) > 1 else []:
        marker = styles[models[0], budget]["marker"]
        handles.append(
            Line2D([], [], linestyle="none", marker=marker, label=budget, color=GUIDE_GREY)
        )
    equal = "equal in both, or in the ratio that it says"
    handles.append(Line2D([], [], linestyle="--", color=GUIDE_GREY, label=equal))
    legend(figure, handles, ncols=min(2, count, len(handles)))
