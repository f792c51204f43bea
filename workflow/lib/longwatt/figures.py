"""Figures: accuracy against cost, a panel per dataset, a line per model, lengths at the points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.provenance import sha256, write_json
from longwatt.summary import read_summary

SCORE_TITLES = {
    "f1": "F1",
    "exact_match": "Exact match",
    "rouge_geometric_mean": "ROUGE (geometric mean of R1, R2, RL)",
}
# Two-sided 97.5 % points of Student's t for 1, 2, ... degrees of freedom: intervals over seeds.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SERIES = ["model", "budget", "protocol", "inference"]
SVG_SALT = "longwatt"  # fixed, so that equal figures are equal files


@dataclass(frozen=True)
class Cost:
    """A cost axis.

    Attributes:
        column: of the summary.
        label: axis label, with unit.
        source: the column that says how it was come by, where that can differ.
        scale: factor from the column's unit to the label's.
        missing: what an empty panel says.
    """

    column: str
    label: str
    source: str | None = None
    scale: float = 1.0
    missing: str = "not known for these cells"


COSTS = {
    "accuracy_vs_training_time": Cost("train_runtime_s", "Training time, validations included (s)"),
    "accuracy_vs_training_energy": Cost(
        "train_energy_kwh",
        "Training energy (Wh)",
        source="train_energy_source",
        scale=1000,
        missing="Energy was not measured:\nno readable meter on this machine.\n"
        "watts_per_core in config.yaml\nwould give an estimate.",
    ),
    "accuracy_vs_inference_speed": Cost("inference_samples_per_second", "Inference speed (samples/s)"),
}


def plot_all(summary: Path, folder: Path, titles: Mapping[str, str], provenance: Any) -> None:
    """Draw every figure as SVG and PNG into `folder`, and `figures.json` with their digests.

    Args:
        summary: a summary.csv; its digest is recorded, so that a report can tell whether it shows what this made.
        folder: made if it is not there.
        titles: how datasets and models are called.
        provenance: the stamp of figures.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digests, table = {}, read_summary(summary)
    for name, cost in COSTS.items():
        figure = accuracy_against(table, cost, titles)
        for path in _save(figure, folder / name):
            digests[path.name] = sha256(path)
    write_json(
        folder / "figures.json", {"sha256": digests, "summary_sha256": sha256(summary), "provenance": provenance}
    )


def accuracy_against(summary: pd.DataFrame, cost: Cost, titles: Mapping[str, str]) -> Figure:
    """Score against one cost: a panel per dataset, a line per model, the input length at each point.

    Vertical bars are intervals: over examples for one seed, over seeds for several.
    """
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        names = list(dict.fromkeys(summary["dataset"]))
        figure, axes = plt.subplots(1, len(names), figsize=(5.4 * len(names), 4.6), squeeze=False, layout="constrained")
        styles = _styles(summary)
        for axis, name in zip(axes[0], names, strict=True):
            panel = summary[summary["dataset"] == name]
            _draw_panel(axis, panel, cost, styles)
            axis.set_title(titles.get(name, name))
        _legend(figure, axes[0], styles, titles, summary)
    return figure


def points(panel: pd.DataFrame, cost: Cost) -> pd.DataFrame:
    """One row per point of a panel: means over seeds, with an interval.

    Returns columns SERIES, seq_len, x, y, low, high, ceiling, estimated, seeds.
    """
    rows = []
    for keys, group in panel.groupby([*SERIES, "seq_len"], sort=True):
        low, high = _interval(group)
        estimated = cost.source is not None and bool((group[cost.source] == "estimate").any())
        rows.append(
            {
                **dict(zip([*SERIES, "seq_len"], keys, strict=True)),
                "x": group[cost.column].astype(float).mean(skipna=False) * cost.scale,
                "y": group["score"].mean(),
                "low": low,
                "high": high,
                "ceiling": group["score_ceiling"].astype(float).mean(),
                "estimated": estimated,
                "seeds": len(group),
            }
        )
    return pd.DataFrame(rows)


def _interval(group: pd.DataFrame) -> tuple[float, float]:
    """95 %: Student's t over seeds, or for one seed the bootstrap over examples."""
    if len(group) == 1:
        return float(group["score_ci_low"].iloc[0]), float(group["score_ci_high"].iloc[0])
    t = STUDENT_T[len(group) - 2] if len(group) - 2 < len(STUDENT_T) else 1.96
    half = t * float(group["score"].std(ddof=1)) / math.sqrt(len(group))
    mean = float(group["score"].mean())
    return mean - half, mean + half


def _styles(summary: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Colour and marker by series; both differ, so that greyscale and colour-blind readers can tell."""
    series = list(dict.fromkeys(summary[SERIES].itertuples(index=False, name=None)))
    colours = sns.color_palette("colorblind", max(3, len(series)))
    return {
        key: {"color": colours[i % len(colours)], "marker": MARKERS[i % len(MARKERS)]} for i, key in enumerate(series)
    }


def _draw_panel(
    axis: Axes, panel: pd.DataFrame, cost: Cost, styles: Mapping[tuple[Any, ...], Mapping[str, Any]]
) -> None:
    found = points(panel, cost)
    known = found.dropna(subset=["x", "y"])
    axis.set_ylabel(SCORE_TITLES.get(panel["score_name"].iloc[0], panel["score_name"].iloc[0]))
    axis.set_xlabel(_label(cost, known))
    if known.empty:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.text(0.5, 0.5, cost.missing, ha="center", va="center", transform=axis.transAxes)
        return
    for key, line in known.groupby(SERIES, sort=False):
        _draw_line(axis, line.sort_values("seq_len"), styles[tuple(key)])
    if known["x"].max() > 20 * known["x"].min() > 0:
        axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.margins(x=0.16)


def _draw_line(axis: Axes, line: pd.DataFrame, style: Mapping[str, Any]) -> None:
    errors = [line["y"] - line["low"], line["high"] - line["y"]]
    axis.errorbar(line["x"], line["y"], yerr=errors, capsize=3, markersize=7, linewidth=1.8, **style)
    for _, point in line.iterrows():
        axis.annotate(
            f"{int(point['seq_len'])}",
            (point["x"], point["y"]),
            xytext=(8, -11),
            textcoords="offset points",
            fontsize=10,
        )
    capped = line.dropna(subset=["ceiling"])
    axis.plot(capped["x"], capped["ceiling"], linestyle="--", color="0.35", marker="_", linewidth=1.2)


def _label(cost: Cost, known: pd.DataFrame) -> str:
    if known.empty or not known["estimated"].any():
        return cost.label
    head, _, unit = cost.label.rpartition(" (")
    word = "estimated" if known["estimated"].all() else "partly estimated"
    return f"{head}, {word} ({unit}"


def _legend(
    figure: Figure,
    axes: Any,
    styles: Mapping[tuple[Any, ...], Mapping[str, Any]],
    titles: Mapping[str, str],
    summary: pd.DataFrame,
) -> None:
    handles = [Line2D([], [], label=_name(key, titles, summary), **style) for key, style in styles.items()]
    if summary["score_ceiling"].notna().any():
        label = "ceiling: best possible at this length"
        handles.append(Line2D([], [], linestyle="--", color="0.35", marker="_", label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), frameon=False)


def _name(key: tuple[Any, ...], titles: Mapping[str, str], summary: pd.DataFrame) -> str:
    """The model, whatever else tells the series apart, and a word on random weights."""
    model = key[0]
    others = [str(v) for name, v in zip(SERIES[1:], key[1:], strict=True) if summary[name].nunique() > 1]
    started = summary.loc[summary["model"] == model, "initialisation"]
    random = ["from random weights"] if (started == "random").all() else []
    return ", ".join([titles.get(model, model), *others, *random])


def _save(figure: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    with matplotlib.rc_context({"svg.hashsalt": SVG_SALT}):
        figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=150)
    plt.close(figure)
    return paths
