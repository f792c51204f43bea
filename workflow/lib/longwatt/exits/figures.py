"""Figures of early exit: accuracy against time and energy, lines by a rule's thresholds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.exits import diagnostics, series
from longwatt.exits.diagnostics import CALIBRATION_NUMBERS, ExitStudy, on_their_splits
from longwatt.exits.series import EFFICIENT_SERIES, ORACLE_SERIES, OUR_SERIES, STANDARD_SERIES
from longwatt.files import sha256
from longwatt.layout import drawing
from longwatt.layout.drawing import HOLLOW, NO_ENERGY, half_widths, legend, look, styles
from longwatt.layout.glyphs import drawable
from longwatt.layout.point_labels import label_points
from longwatt.layout.wording import estimated, number
from longwatt.provenance.artefacts import check_beside, read_artefact
from longwatt.provenance.stamps import write_json
from longwatt.results.series import CONFIDENCE
from longwatt.study.reported.report_items import DISTILLED

ExitStyle = Mapping[str, Any]
ExitStyles = Mapping[str, ExitStyle]  # by model
REPORT = "exits_figures.json"
LINE_GREY, DARK = "0.45", "0.1"
ACCURACY_LABEL = "Accuracy (%)"
NO_STANDARD_LABEL = "Not known: no standard baseline\nof this encoder was run\nat this batch size."
NO_LARGEST = "Not known: no standard baseline\nwas run at this batch size."
_LAST = {"linestyle": "none", "fillstyle": "left"}
# Rule -> how its line is drawn, and what it is called.
RULES: Mapping[str, tuple[dict[str, Any], str]] = {
    "threshold": ({"linestyle": "-"}, "leaves by threshold (beside the point)"),
    "patience": ({"linestyle": "--", **HOLLOW}, "leaves by patience (beside the point)"),
    "last": (_LAST, "runs all layers, the last classifier answers"),
}
BASELINE_STYLES = {
    STANDARD_SERIES: "standard: one classifier, on the last layer",
    EFFICIENT_SERIES: "efficient: a model per layer (beside the point)",
    ORACLE_SERIES: "oracle: leaves at the first right classifier",
}
# What an axis says of a panel whose points compare machines too.
SEVERAL_MACHINES = "\n(measured on other devices, processors or thread counts)"
LEGEND_LINE = 0.22  # inches
REACH = 0.6  # a majority class this share of the panel's height below it is still shown


@dataclass(frozen=True)
class Across:
    """A horizontal axis.

    Attributes:
        column: of `longwatt.exits.series.exit_points`.
        label: with its unit.
        missing: what a panel says of which it is not known.
        baseline: whether 1 on it is the standard baseline, which gets a line.
        word: what is estimated, as the label begins; empty where nothing can be.
    """

    column: str
    label: str
    missing: str
    baseline: bool = False
    word: str = ""


_J = "Energy per example"
ACROSS_ENERGY = Across("joules_per_example", f"{_J} (J)", NO_ENERGY, word=_J)
_STANDARD = "Time per example, standard baseline = 1"
TIME = Across("relative_time", _STANDARD, NO_STANDARD_LABEL, baseline=True)
_OF_LARGEST = "Time per example, largest encoder's standard = 1"
ACROSS_LARGEST = Across("relative_to_largest", _OF_LARGEST, NO_LARGEST, baseline=True)


def plot_exits(
    exits: Path,
    curve: Path,
    difficulty: Path,
    calibrations: Mapping[str, Path],
    folder: Path,
    settings: Mapping[str, Any],
    provenance: Any,
) -> None:
    """Draw a study's figures of early exit as SVG and PNG, and exits_figures.json beside them.

    Args:
        exits: what cells with exits were compared to be (exits.json); its digest is recorded.
        curve: accuracy and layers by threshold from recorded logits (curve.csv).
        difficulty: confidence and accuracy by label, length and difficulty (difficulty.csv).
        calibrations: cell -> its calibration.json.
        folder: made if it is not there.
        settings: `titles` by name, `cells` (axes and names) and `names` of the figures to draw.
        provenance: the stamp of exits_figures.json.
    """
    check_beside(exits, curve, difficulty)
    report = read_artefact(exits)
    read = {cell: read_artefact(Path(path)) for cell, path in calibrations.items()}
    cells, lost = settings["cells"], frozenset(report.get("diverged", ()))
    random = {c["model"] for c in cells if c.get("initialisation") == "random"}
    compared = report["comparisons"]
    random |= {c["model"] for c in compared if str(c.get("encoder", "")).startswith("random")}
    study = ExitStudy(drawable(settings["titles"]), cells, read, frozenset(random), lost)
    thresholds = pd.read_csv(curve, na_values=["NA"])
    known = exit_drawings(report, thresholds, read_difficulty(difficulty), study)
    digests = drawing.save_all({name: known[name] for name in settings["names"]}, folder)
    written = {"sha256": digests, "exits_sha256": sha256(exits), "provenance": provenance}
    write_json(folder.parent / REPORT, written)


def read_difficulty(path: Path) -> pd.DataFrame:
    """Read a difficulty.csv, whose groups and labels are words even if numbers."""
    # Of numbers alone: a label may be called NA.
    unknown = {name: ["NA"] for name in CALIBRATION_NUMBERS}
    return pd.read_csv(path, dtype={"group": str}, na_values=unknown, keep_default_na=False)


def exit_drawings(
    report: Mapping[str, Any], curve: pd.DataFrame, difficulty: pd.DataFrame, study: ExitStudy
) -> dict[str, Callable[[], Figure]]:
    """List every figure of `study.reported.report_items.EXIT_FIGURES`, to be drawn one at a time.

    Args:
        report: an exits.json.
        curve, difficulty: rows of a curve.csv and a difficulty.csv.
        study: how things are called, and each cell's calibration.
    """
    said = (c["confidence"] for c in report["comparisons"] if c.get("confidence"))
    table = series.over_all_seeds(series.exit_points(report["comparisons"]), next(said, CONFIDENCE))
    return {
        "exits_accuracy_vs_time": partial(accuracy_by_kind_against, table, TIME, study),
        "exits_accuracy_vs_energy": partial(accuracy_by_kind_against, table, ACROSS_ENERGY, study),
        DISTILLED: partial(against_largest, table, study),
        "exits_curve": partial(by_threshold, curve, table, study),
        "exits_reliability": partial(diagnostics.reliability_figure, study),
        "exits_confidence_by_label": partial(diagnostics.confidence_by_label, difficulty, study),
        "exits_by_difficulty": partial(diagnostics.by_difficulty, difficulty, study),
    }


def accuracy_by_kind_against(table: pd.DataFrame, across: Across, study: ExitStudy) -> Figure:
    """Draw accuracy against a cost, a panel per PLACE, a line per model and rule.

    Args:
        table: as `longwatt.exits.series.over_all_seeds`.
        across: the horizontal axis.
        study: how things are called.
    """
    drawn = styles(table.loc[table["kind"] == OUR_SERIES, "model"])
    places = _panels(table, series.PLACE)
    baselines = (EFFICIENT_SERIES, STANDARD_SERIES, ORACLE_SERIES)
    return _figure(places, table, across, study, drawn, baselines)


def against_largest(table: pd.DataFrame, study: ExitStudy) -> Figure:
    """Draw all encoders against the time of the largest one's standard, by dataset."""
    shown = table[table["kind"].isin([OUR_SERIES, STANDARD_SERIES])]
    named = shown.assign(model=shown["model"].where(shown["kind"] == OUR_SERIES, shown["encoder"]))
    colours = styles(named["encoder"])
    markers = styles(named.loc[named["kind"] == OUR_SERIES, "model"])
    drawn = {
        str(model): colours[encoder] | ({"marker": own["marker"]} if own else {})
        for model, encoder in named[["model", "encoder"]].itertuples(index=False, name=None)
        for own in (markers.get(model),)
    }
    places = _panels(named, [name for name in series.PLACE if name != "encoder"])
    return _figure(places, named, ACROSS_LARGEST, study, drawn, (STANDARD_SERIES,))


def by_threshold(curve: pd.DataFrame, table: pd.DataFrame, study: ExitStudy) -> Figure:
    """Draw accuracy above and mean layers below, by threshold.

    Lines come from recorded logits, and measured points lie on them.
    """
    rows = on_their_splits(curve[curve["rule"] == "threshold"], study)
    names = ["dataset", "seq_len", "budget"]
    places = list(dict.fromkeys(rows[names].itertuples(index=False, name=None)))
    drawn = styles(rows["model"])
    with look():
        figure, pairs = _pairs(len(places))
        for place, (above, below) in zip(places, pairs, strict=True):
            here, measured = _where(rows, names, place), _where(table, names, place)
            measured = measured[measured["split"].isin(set(here["split"]))]
            _draw_curves(above, below, here, measured[measured["rule"] == "threshold"], drawn)
            split = None if here.empty else here["split"].iloc[0]
            known = dict(zip(names[1:], place[1:], strict=True))
            above.set_title(study.heading(place[0], rows, **known, split=split))
        _curve_legend(figure, drawn, table, study)
    return figure


def _pairs(count: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Make `count` pairs of panels, one above the other, three side by side."""
    columns = max(1, min(count, 3))
    rows = max(1, -(-count // columns))
    size = (max(7.0, 5.4 * columns), 6.8 * rows)
    shape: dict[str, Any] = {"figsize": size, "squeeze": False, "layout": "constrained"}
    figure, grid = plt.subplots(2 * rows, columns, **shape)
    found = list(zip(grid[::2].flat, grid[1::2].flat, strict=True))
    for axis in (axis for pair in found[count:] for axis in pair):
        axis.set_visible(False)
    return figure, found[:count]


PanelPlace = dict[str, Any]


def _panels(table: pd.DataFrame, names: Sequence[str]) -> list[PanelPlace]:
    """Yield a panel's values of these columns, datasets together."""
    found = table[list(names)].drop_duplicates()
    order = {name: number for number, name in enumerate(dict.fromkeys(found["dataset"]))}
    sorted_ = found.sort_values("dataset", key=lambda column: column.map(order), kind="stable")
    return [{str(key): value for key, value in row.items()} for row in sorted_.to_dict("records")]


def _where(table: pd.DataFrame, names: Sequence[str], values: Sequence[Any]) -> pd.DataFrame:
    found = table
    for name, value in zip(names, values, strict=True):
        found = found[found[name] == value]
    return found


def _figure(
    places: Sequence[PanelPlace],
    table: pd.DataFrame,
    across: Across,
    study: ExitStudy,
    drawn: ExitStyles,
    baselines: Sequence[str],
) -> Figure:
    known = table[across.column].notna().any()
    with look():
        figure, axes = drawing.panels(len(places), 4.4 if known else 2.4, _columns(places))
        lines = []
        for axis, place in zip(axes, places, strict=True):
            rows = _where(table, list(place), list(place.values()))
            lines.append(_draw_panel(axis, rows, across, drawn, baselines))
            others = {name: value for name, value in place.items() if name != "dataset"}
            axis.set_title(study.heading(place["dataset"], table, **others))
        if known:
            _legend(figure, table, study, drawn, baselines)
        drawing.lay_out(figure)
        for axis, found in zip(axes, lines, strict=True):
            label_points(axis, found, needed=False)
    return figure


def _columns(places: Sequence[PanelPlace]) -> int | None:
    """Return a dataset's number of panels if all have as many and fit a page."""
    counts = set(Counter(place["dataset"] for place in places).values())
    return next(iter(counts)) if len(counts) == 1 and counts <= {2, 3} else None


def _draw_panel(
    axis: Axes, panel: pd.DataFrame, across: Across, drawn: ExitStyles, baselines: Sequence[str]
) -> list[pd.DataFrame]:
    """Draw one panel without the words beside its points, and return its lines."""
    known = _placed(panel, across).dropna(subset=["x", "y"])
    axis.set_xlabel(_label(across, known))
    axis.set_ylabel(ACCURACY_LABEL)
    if known.empty:
        drawing.leave_empty(axis, across.missing)
        return []
    lines = [_draw_line(axis, line, drawn) for line in _lines(known, baselines)]
    flagged = known[known["flags"] != ""]
    if across.word and len(flagged):
        drawing.ring(axis, flagged["x"], flagged["y"])
    axis.margins(x=0.08, y=0.14)
    axis.set_xlim(left=0)
    if across.baseline:
        axis.axvline(1, color=LINE_GREY, linewidth=0.8, zorder=0.9)
    _draw_majority(axis, panel["majority"])
    return lines


def _placed(panel: pd.DataFrame, across: Across) -> pd.DataFrame:
    """Points with their place, their intervals and the word beside them."""
    ends = {f"x_{end}": panel.get(f"{across.column}_ci_{end}", math.nan) for end in ("low", "high")}
    # Beside a point stands its threshold or patience, or the layer of an efficient baseline.
    beside = panel["value"].where(panel["kind"] != EFFICIENT_SERIES, panel["layer"])
    words = ["" if pd.isna(value) else number(value, "g") for value in beside]
    low, high = panel["accuracy_ci_low"], panel["accuracy_ci_high"]
    x, y = panel[across.column], panel["accuracy"]
    return panel.assign(x=x, y=y, low=low, high=high, label=words, **ends)


def _lines(known: pd.DataFrame, baselines: Sequence[str]) -> list[pd.DataFrame]:
    """List a line per model and rule, by value, and one for all efficient baselines."""
    ours = known[known["kind"] == OUR_SERIES].groupby(["model", "rule"], sort=False)
    found = [line.sort_values(["value", "x"]) for _, line in ours]
    for kind in baselines:
        rows = known[known["kind"] == kind]
        if kind == EFFICIENT_SERIES:
            found += [rows.sort_values(["layer", "x"])] if len(rows) else []
        else:
            found += [rows.loc[[index]] for index in rows.index]
    return found


def _draw_line(axis: Axes, line: pd.DataFrame, drawn: ExitStyles) -> pd.DataFrame:
    style = _style_of(line.iloc[0]["kind"], line.iloc[0]["model"], line.iloc[0]["rule"], drawn)
    x, y = line["x"], line["y"]
    across = half_widths(x, line["x_low"], line["x_high"])
    up = half_widths(y, line["low"], line["high"])
    axis.errorbar(x, y, xerr=across, yerr=up, capsize=2, elinewidth=0.8, **style)
    return line.assign(colour=[style["color"]] * len(line))


def _style_of(kind: str, model: str, rule: str, drawn: ExitStyles) -> dict[str, Any]:
    own = dict(drawn.get(model, {}))
    if kind == OUR_SERIES:
        return {"linewidth": 1.6, "markersize": 6, **own, **RULES.get(rule, RULES["last"])[0]}
    if kind == EFFICIENT_SERIES:
        dotted = {"linestyle": ":", "linewidth": 1.2}
        return {"color": LINE_GREY, "marker": "D", "markersize": 6, **dotted}
    own = {"color": DARK, **own, "linestyle": "none"}
    if kind == STANDARD_SERIES:
        return {**own, "marker": "s", "markersize": 9, "zorder": 1.9}
    return {**own, "marker": "*", "markersize": 13, **HOLLOW}  # ORACLE


def _label(across: Across, known: pd.DataFrame) -> str:
    machines = "" if known["machine"].nunique() < 2 else SEVERAL_MACHINES
    if not across.word or known.empty:
        return across.label + machines
    said = machines + drawing.flagged_in_words(known["flags"])
    if not (word := estimated(known["estimated"])):
        return across.label + said
    return across.label.replace(across.word, f"{across.word}, {word}", 1) + said


def _draw_majority(axis: Axes, majority: pd.Series[float]) -> None:
    """Draw the accuracy of the majority class where it is near the points."""
    bottom, top = axis.get_ylim()
    for value in sorted(set(majority.dropna().round(4))):
        if value > bottom - REACH * (top - bottom):
            axis.axhline(value, linewidth=1.4, zorder=1, gid=MAJORITY_MARK, **MAJORITY_LOOK)
            axis.set_ylim(min(axis.get_ylim()[0], value - 0.05 * (top - bottom)), top)


MAJORITY_MARK = "majority"  # marks the line
MAJORITY_LOOK: dict[str, Any] = {"linestyle": ":", "color": "0.35"}


def _legend(
    figure: Figure,
    table: pd.DataFrame,
    study: ExitStudy,
    drawn: ExitStyles,
    baselines: Sequence[str],
) -> None:
    """Make the legend: models by colour and marker, and the kinds of lines and markers."""
    ours = table[table["kind"] == OUR_SERIES]
    handles = [
        Line2D([], [], label=study.model(model), **_style_of(OUR_SERIES, model, "threshold", drawn))
        for model in dict.fromkeys(ours["model"])
    ]
    handles += [
        Line2D([], [], label=label, **{"color": LINE_GREY, "marker": "o", "markersize": 6, **style})
        for rule, (style, label) in RULES.items()
        if (ours["rule"] == rule).any()
    ]
    for kind in (kind for kind in baselines if (table["kind"] == kind).any()):
        handles.append(Line2D([], [], label=BASELINE_STYLES[kind], **_style_of(kind, "", "", {})))
    if any(line.get_gid() == MAJORITY_MARK for axis in figure.axes for line in axis.lines):
        handles.append(Line2D([], [], label="majority class", **MAJORITY_LOOK))
    visible = sum(axis.get_visible() for axis in figure.axes)
    _high_legend(figure, handles, min(2, visible, len(handles)))


def _high_legend(figure: Figure, handles: list[Line2D], columns: int) -> None:
    """Add a legend and make the figure higher, so that panels stay as they are."""
    legend(figure, handles, ncols=columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LEGEND_LINE * -(-len(handles) // columns))


LEAST_SPAN = 2.0  # points of accuracy that an axis shows at least


def _draw_curves(
    above: Axes, below: Axes, curve: pd.DataFrame, measured: pd.DataFrame, drawn: ExitStyles
) -> None:
    for model, line in curve.groupby("model", sort=False):
        means = line.groupby("value")[["accuracy", "mean_layers"]].mean()
        own, style = measured[measured["model"] == model], drawn[str(model)]
        for axis, name in ((above, "accuracy"), (below, "mean_layers")):
            axis.plot(means.index, means[name], color=style["color"], linewidth=1.6)
            marked = {"linestyle": "none", "markersize": 7, **HOLLOW, **style}
            axis.plot(own["value"].astype(float), own[name], **marked)
    above.set_ylabel(ACCURACY_LABEL)
    below.set_ylabel("Mean layers run")
    below.set_ylim(bottom=0)
    above.ticklabel_format(axis="y", useOffset=False)
    low, high = above.get_ylim()
    if high - low < LEAST_SPAN:  # rounding is no difference
        above.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    for axis in (above, below):
        axis.set_xlim(-0.02, 1.02)
    below.set_xlabel("Threshold of the calibrated confidence")


def _curve_legend(figure: Figure, drawn: ExitStyles, table: pd.DataFrame, study: ExitStudy) -> None:
    handles = []
    for model, style in drawn.items():
        label = f"{study.model(model)}, from recorded logits, not timed"
        handles.append(Line2D([], [], color=style["color"], linewidth=1.6, label=label))
    if ((table["kind"] == OUR_SERIES) & (table["rule"] == "threshold")).any():
        label = "as predicted and timed, at every batch size"
        shared = {"color": "0.35", "marker": "o", "markersize": 7, "linestyle": "none", **HOLLOW}
        handles.append(Line2D([], [], label=label, **shared))
    # A pair of panels is one wide.
    columns = max(1, min(2, sum(axis.get_visible() for axis in figure.axes) // 2))
    _high_legend(figure, handles, columns)
