"""Figures of accuracy against costs, a panel per dataset and cost, a line per model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.energy import flags
from longwatt.files import sha256
from longwatt.layout import drawing
from longwatt.layout.drawing import CROSSED, HOLLOW, NO_ENERGY, legend, look
from longwatt.layout.escaping import in_one_line
from longwatt.layout.glyphs import drawable
from longwatt.layout.point_labels import label_ends
from longwatt.layout.wording import estimated, plain
from longwatt.provenance.stamps import write_json
from longwatt.report.energy_figures import energy_by_phase
from longwatt.report.published_figure import beside_published_scores, called
from longwatt.results import series as plotted
from longwatt.results.frontier import BEATEN, ON_FRONT, OPEN, on_front
from longwatt.results.series import SERIES, any_diverged, place_of, with_series
from longwatt.results.summary import read_summary
from longwatt.study.reported import published as theirs
from longwatt.study.reported.published import PublishedPlace
from longwatt.study.reported.report_items import PUBLISHED_ITEM, shows, split_cost
from longwatt.study.summary_columns import (
    INFERENCE,
    energy_flags,
    machine_columns,
    varies_with_inference,
)

FigureStyle = Mapping[str, Any]
FigureStyles = Mapping[tuple[Any, ...], FigureStyle]  # by series
FigureTitles = Mapping[str, str]  # of datasets, models and budgets
Published = Mapping[str, Any]  # as a study has it
# What a dotted line is: of a dataset of texts, and of a classification.
LEADS = {
    "score_lead": "lead baseline: the document's first words",
    "majority": "majority class: the training split's most frequent label",
}


@dataclass(frozen=True)
class Cost:
    """A cost axis.

    Attributes:
        column: of the summary.
        label: axis label, with unit.
        source: the column that says how it was come by, where that can differ.
        scale: factor from the column's unit to the label's.
        missing: what an empty panel says; by default that the column is NA.
        axis: linear or log; None to choose by the range of all panels.
        front: the cost of the summary's frontier that it shows; None for others.
        more_is_better: True of a speed.
    """

    column: str
    label: str
    source: str | None = None
    scale: float = 1.0
    missing: str = ""
    axis: str | None = None
    front: str | None = None
    more_is_better: bool = False


# Costs that depend on the threads of a job on the CPU.
TIMED = ("train_samples_per_second", "inference_samples_per_second", "train_runtime_s")
NO_GPU = "Not known:\nthese cells ran without a readable GPU."
_ENERGY: dict[str, Any] = {"source": "train_energy_source", "missing": NO_ENERGY}
COST_AXES = {
    "power_efficiency": Cost(
        "train_power_efficiency", "Training power efficiency (samples/s/W)", **_ENERGY
    ),
    "training_energy": Cost(
        "train_energy_kwh", "Training energy (Wh)", scale=1000, front="train_energy", **_ENERGY
    ),
    "lifecycle_energy": Cost(
        "lifecycle_energy_kwh", "Energy of training and all requests (Wh)", scale=1000,
        front="lifecycle_energy", source="lifecycle_energy_source", missing=NO_ENERGY,
    ),
    "training_speed": Cost(
        "train_samples_per_second", "Training speed, validations included (samples/s)"
    ),
    "inference_speed": Cost(
        "inference_samples_per_second", "Inference speed (samples/s)",
        front="inference_time", more_is_better=True,
    ),
    "training_time": Cost("train_runtime_s", "Training time, validations included (s)"),
    "gpu_utilization": Cost("mean_gpu_utilization_pct", "Mean GPU utilisation (%)", missing=NO_GPU),
    "gpu_memory": Cost("mean_gpu_memory_gib", "Mean GPU memory in use (GiB)", missing=NO_GPU),
    "peak_memory": Cost(
        "peak_memory_gib", "Peak memory of a training process (GiB)", front="memory"
    ),
}  # fmt: skip
# How strongly a point is drawn, by its place towards the front.
FAINTNESS = {BEATEN: 0.25, OPEN: 0.6, ON_FRONT: 1.0}
FRONT: dict[str, Any] = {"color": "0.2", "linewidth": 1.3, "zorder": 1.5}


def plot_all(summary: Path, folder: Path, settings: Mapping[str, Any], provenance: Any) -> None:
    """Draw every figure as SVG and PNG into `folder`, and `figures.json` with their digests.

    Args:
        summary: a summary.csv; its digest is recorded, so that a report can tell whether it shows
            what this made.
        folder: made if it is not there.
        settings: as `longwatt.study.stages.Stages.plot`.
        provenance: the stamp of figures.json.
    """
    drawn = {**settings, "titles": drawable(settings["titles"])}
    digests = drawing.save_all(drawings(read_summary(summary), drawn), folder)
    report = {"sha256": digests, "summary_sha256": sha256(summary), "provenance": provenance}
    write_json(folder / "figures.json", report)


def drawings(table: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Callable[[], Figure]]:
    """List every figure of `study.reported.report_items.figures`, to be drawn one at a time.

    Args:
        table: rows of a summary.csv.
        settings: as `longwatt.study.stages.Stages.plot`.
    """
    titles, published = settings["titles"], settings["published"]
    own = {f["name"]: partial(own_figure, table, f, titles, published) for f in settings["figures"]}
    found: dict[str, Callable[[], Figure]] = dict(own)
    for name, cost in COST_AXES.items():
        found[f"accuracy_vs_{name}"] = partial(accuracy_against, table, cost, titles, published)
    found["energy_by_phase"] = partial(energy_by_phase, table, titles)
    if published.get("scores"):
        found[PUBLISHED_ITEM] = partial(beside_published_scores, table, published, titles)
    return found


def accuracy_against(
    summary: pd.DataFrame, cost: Cost, titles: FigureTitles, published: Published | None = None
) -> Figure:
    """Draw score against one cost, a panel per dataset, a line per model.

    Vertical bars are intervals: over examples for one seed, over seeds for several. A dotted line
    is the lead baseline (of a classification the majority class), a dashed one the best expected
    score that the lengths leave possible, a hollow marker a published score. Points of early exit
    are left out.
    """
    names, table = list(dict.fromkeys(summary["dataset"])), plotted.comparable(summary)
    if not varies_with_inference(cost.column):
        table = plotted.one_point_per_training(plotted.with_training(table))
    scaled, missing = _scaled(_in_unit(cost, summary), table), drawing.ONLY_EXITS
    shown = [Panel(name, scaled, titles.get(name, name), missing=missing) for name in names]
    return _figure(with_series(table), shown, titles, published or {})


def own_figure(
    summary: pd.DataFrame, figure: Mapping[str, Any], titles: FigureTitles, published: Published
) -> Figure:
    """Draw a figure that a study names, a panel per dataset and cost.

    Args:
        summary: rows of a summary.csv.
        figure: an entry of a study's `figures`.
        titles: how datasets, models and budgets are called.
        published: a study's `published`, or an empty mapping.
    """
    there = plotted.comparable(summary)
    if not any(varies_with_inference(named_cost(name).column) for name in figure["costs"]):
        there = plotted.with_training(there)
    rows = [shows(figure, row) for row in plotted.records(there)]
    table, names = with_series(there[rows]), figure["datasets"]
    costs = [_scaled(_in_unit(named_cost(name), summary), table) for name in figure["costs"]]
    called_ = {name: titles.get(name, name) if len(names) > 1 else "" for name in names}
    shown = [Panel(name, cost, called_[name], True) for name in names for cost in costs]
    one = "" if len(names) > 1 else titles.get(names[0], names[0])
    heading = ": ".join(filter(None, [in_one_line(figure.get("title", "")), one]))
    return _figure(table, shown, titles, published, heading)


def named_cost(name: str) -> Cost:
    """Return a cost as a study's own figure names it, with its scale."""
    cost, scale = split_cost(name)
    return replace(COST_AXES[cost], axis=scale)


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: a dataset's scores against a cost.

    Attributes:
        dataset: its id.
        cost: the horizontal axis.
        title: above the panel.
        close: whether the vertical axis is as long as the scores are apart, instead of beginning at
            0.
        missing: what it says if it has no rows.
    """

    dataset: str
    cost: Cost
    title: str
    close: bool = False
    missing: str = drawing.NO_CELLS


def _figure(
    table: pd.DataFrame,
    shown: Sequence[Panel],
    titles: FigureTitles,
    published: Published,
    heading: str = "",
) -> Figure:
    styles = styles_of(table)
    with look():
        known = any(table[panel.cost.column].notna().any() for panel in shown)
        figure, axes = drawing.panels(len(shown), 4.4 if known else 2.4)
        lines = [
            _draw_panel(axis, table[table["dataset"] == panel.dataset], panel, styles, published)
            for axis, panel in zip(axes, shown, strict=True)
        ]
        if heading:
            figure.suptitle(heading, fontsize=14)
        if known:
            leads = not all(panel.close for panel in shown)
            shown_leads = table if leads else table.assign(score_lead=None, majority=None)
            fronts = [f"frontier_{panel.cost.front}" for panel in shown]
            placed = any(name in table and table[name].notna().any() for name in fronts)
            _legend(figure, styles, titles, shown_leads, published, placed)
        drawing.lay_out(figure)
        for axis, drawn in zip(axes, lines, strict=True):
            label_ends(axis, drawn)
    return figure


def _in_unit(cost: Cost, summary: pd.DataFrame) -> Cost:
    """Write a cost in the unit that fits its size, equal in all figures."""
    if cost.column == "lifecycle_energy_kwh" and cost.column in summary:
        return _of_life_cycle(cost, summary)
    if cost.column != "train_energy_kwh":
        return cost
    unit, (name, _, _) = plotted.energy_unit(summary), cost.label.rpartition(" (")
    return replace(cost, label=f"{name} ({unit.name})", scale=unit.per_kwh)


def _of_life_cycle(cost: Cost, summary: pd.DataFrame) -> Cost:
    """Name the requests of a life cycle, in kWh if any takes one or more."""
    whole = bool((summary[cost.column].astype(float) >= 1).any())
    unit = plotted.KWH if whole else plotted.WH
    requests = summary["requests"].dropna()
    words = f"{requests.iloc[0]:,.0f} requests" if len(requests) else "all requests"
    label = f"Energy of training and {words} ({unit.name})"
    return replace(cost, label=label, scale=unit.per_kwh)


def drawn_points(
    panel: pd.DataFrame, cost: Cost, published: Mapping[PublishedPlace, float] | None = None
) -> pd.DataFrame:
    """Make one row per point of a panel: means over seeds, with an interval.

    Returns columns SERIES, seq_len, x, y, low, high, ceiling, published, estimated, diverged,
    flags, seeds, threads, place (towards the front; None where that is not known).
    """
    rows = []
    for keys, group in with_series(panel).groupby([*SERIES, "seq_len"], sort=True):
        low, high = plotted.mean_interval(group)
        named, source = energy_flags(cost.column), cost.source
        row = {
            **dict(zip([*SERIES, "seq_len"], keys, strict=True)),
            "x": group[cost.column].astype(float).mean(skipna=False) * cost.scale,
            "y": group["score"].mean(),
            "low": low,
            "high": high,
            "ceiling": group["score_ceiling"].astype(float).mean(),
            "published": (published or {}).get(place_of(group.iloc[0]), math.nan),
            "estimated": source is not None and bool((group[source] == "estimate").any()),
            "diverged": any_diverged(group),
            "flags": flags.joined_flags(flags.union(group[named])) or "" if named in group else "",
            "seeds": len(group),
            "threads": _threads(group, cost.column),
            "place": _place(group, cost),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _place(group: pd.DataFrame, cost: Cost) -> str | None:
    """Return the place of a point towards a cost's front, None where unknown."""
    column = f"frontier_{cost.front}"
    found = group[column].dropna() if column in group else group["seq_len"].iloc[:0]
    return None if found.empty else str(found.iloc[0])


def _threads(rows: pd.DataFrame, column: str) -> frozenset[str]:
    """Return the known threads behind a time or speed on the CPU."""
    named = {name.removeprefix(INFERENCE): name for name in machine_columns(column)}
    if column not in TIMED or not {*named.values()} <= {*rows.columns}:
        return frozenset()
    on_cpu = rows[rows[named["device"]] == "cpu"]
    return frozenset(map(plain, on_cpu[named["threads"]].dropna()))


def threads_below(found: Iterable[frozenset[str]]) -> str:
    """Say below an axis with how many threads its points were measured on the CPU."""
    known = sorted(frozenset().union(*found), key=lambda text: (len(text), text))
    if len(known) > 1:
        return f"\nmeasured with other thread counts: {', '.join(known)}"
    noun = "thread" if known == ["1"] else "threads"
    return f"\nin CPU processes of {known[0]} {noun}" if known else ""


def styles_of(table: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Colour and marker by series."""
    return drawing.styles(table[SERIES].itertuples(index=False, name=None))


def _scaled(cost: Cost, table: pd.DataFrame) -> Cost:
    """Choose the scale of a cost for all panels of a figure together."""
    values = table[cost.column].astype(float)
    fitting = "log" if values.max() > 20 * values.min() > 0 else "linear"
    return replace(cost, axis=cost.axis or fitting)


def _draw_panel(
    axis: Axes, rows: pd.DataFrame, panel: Panel, styles: FigureStyles, published: Published
) -> list[pd.DataFrame]:
    """Draw one panel without the lengths beside its points, and return its lines."""
    cost = panel.cost
    axis.set_title(panel.title)
    if rows.empty:
        axis.set_xlabel(cost.label)
        drawing.leave_empty(axis, panel.missing)
        return []
    found = drawn_points(rows, cost, theirs.scores(published))
    # A published score stands at points of its protocol where there are points of both.
    other = found["protocol"] != published.get("protocol")
    all_other = other.groupby([found[n] for n in ("model", "budget", "seq_len")]).transform("all")
    found["published"] = found["published"].mask(other & ~all_other)
    known, score = found.dropna(subset=["x", "y"]), rows["score_name"].iloc[0]
    axis.set_ylabel(drawing.SCORE_TITLES.get(score, score))
    axis.set_xlabel(_label(cost, known))
    if known.empty:
        unknown = f"Not known:\n{cost.column} is NA\nfor all of these cells."
        drawing.leave_empty(axis, cost.missing or unknown)
        return []
    if cost.axis == "log":
        drawing.logarithmic(axis)
    _draw_front(axis, known, cost)
    lines = [(key, line.sort_values("seq_len")) for key, line in known.groupby(SERIES, sort=False)]
    for key, line in lines:
        _draw_line(axis, line, styles[tuple(key)])
        _draw_published(axis, line.dropna(subset=["published"]), styles[tuple(key)])
        flagged = line[line["flags"] != ""]
        if len(flagged):
            drawing.ring(axis, flagged["x"], flagged["y"])
    if panel.close:
        axis.margins(y=0.14)
    else:
        for lead in (one for own in _leads(rows).values() for one in sorted(set(own.round(4)))):
            axis.axhline(lead, linestyle=":", color="0.35", linewidth=1.4, zorder=1)
        axis.set_ylim(0, 1.12 * max(axis.get_ylim()[1], 1e-9))
    axis.margins(x=0.14)
    return [line.assign(label=line["seq_len"].astype(str)) for _, line in lines]


def _leads(rows: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """List the known baselines by name, the majority class for accuracy alone."""
    shown = {name: rows[name] for name in LEADS if name in rows}
    if "majority" in shown:
        shown["majority"] = shown["majority"][rows["score_name"] == "accuracy"]
    known = {LEADS[name]: found.dropna().astype(float) for name, found in shown.items()}
    return {label: found for label, found in known.items() if not found.empty}


def _draw_published(axis: Axes, line: pd.DataFrame, style: FigureStyle) -> None:
    """Published scores at the cells' own costs, each joined to ours."""
    if line.empty:
        return
    x, theirs_ = line["x"], line["published"]
    axis.vlines(x, line["y"], theirs_, color=style["color"], linewidth=0.9, zorder=1)
    axis.plot(x, theirs_, linestyle="none", markersize=7, **HOLLOW, **style)


def _draw_front(axis: Axes, known: pd.DataFrame, cost: Cost) -> None:
    """Draw the best score shown at every cost, where places are known."""
    there = known[known["place"].notna()]
    if there.empty:
        return
    costs = -there["x"] if cost.more_is_better else there["x"]
    free = on_front(there["y"].to_numpy(float), costs.to_numpy(float))
    front = there[free].sort_values("x")
    x, y = (np.repeat(front[name].to_numpy(float), 2) for name in ("x", "y"))
    # Steps as corners, which labels keep off.
    corners = (x[:-1], y[1:]) if cost.more_is_better else (x[1:], y[:-1])
    axis.plot(*corners, gid=ON_FRONT, **FRONT)


def _draw_line(axis: Axes, line: pd.DataFrame, style: FigureStyle) -> None:
    axis.plot(line["x"], line["y"], linewidth=1.8, color=style["color"], alpha=_line_alpha(line))
    for alpha, own in line.groupby(line["place"].map(FAINTNESS).fillna(1.0)):
        errors = drawing.half_widths(own["y"], own["low"], own["high"])
        options: Any = {"capsize": 3, "markersize": 7, "linestyle": "none", "alpha": alpha}
        axis.errorbar(own["x"], own["y"], yerr=errors, **options, **style)
    lost = line[line["diverged"]]
    axis.plot(lost["x"], lost["y"], zorder=4, **CROSSED)
    capped = line.dropna(subset=["ceiling"])
    axis.plot(capped["x"], capped["ceiling"], "_--", linewidth=1.2, color=style["color"])


def _line_alpha(line: pd.DataFrame) -> float:
    """Draw lines between points faintly where it is the points that count."""
    return 0.35 if line["place"].notna().any() else 1.0


def _label(cost: Cost, known: pd.DataFrame) -> str:
    if known.empty:
        return cost.label
    said = threads_below(known["threads"]) + drawing.flagged_in_words(known["flags"])
    if not (word := estimated(known["estimated"])):
        return cost.label + said
    head, _, unit = cost.label.rpartition(" (")
    return f"{head}, {word} ({unit}{said}"


def _legend(
    figure: Figure,
    styles: FigureStyles,
    titles: FigureTitles,
    table: pd.DataFrame,
    published: Published,
    placed: bool,
) -> None:
    names = {key: plotted.series_name(key, titles, table) for key in styles}
    handles = [Line2D([], [], label=names[key], **style) for key, style in styles.items()]
    if placed:
        handles.append(Line2D([], [], label="front: no shown point is better; faint: dominated",
                              **{**FRONT, "zorder": 1}))  # fmt: skip
    leads = "; ".join(_leads(table))
    if leads:
        handles.append(Line2D([], [], linestyle=":", color="0.35", label=leads))
    if table["score_ceiling"].notna().any():
        label = "ceiling: best expected score at this length"
        handles.append(Line2D([], [], linestyle="--", color="0.35", marker="_", label=label))
    if theirs.scores(published).keys() & {place_of(row) for _, row in table.iterrows()}:
        hollow = {"linestyle": "none", "marker": "o", "color": "0.35", **HOLLOW}
        handles.append(Line2D([], [], label=called(published, table), **hollow))
    if any_diverged(table):
        handles.append(Line2D([], [], label=drawing.CROSSED_OUT, **CROSSED))
    # One panel has no room for two names side by side.
    columns = min(2, sum(axis.get_visible() for axis in figure.axes), len(handles))
    legend(figure, handles, ncols=columns)
