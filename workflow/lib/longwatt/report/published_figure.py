"""This study's scores beside published ones, by input length, and what they differ by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longwatt.layout import drawing
from longwatt.layout.drawing import CROSSED, HOLLOW, half_widths, legend, look, styles
from longwatt.layout.wording import random_weights
from longwatt.results.series import beside_published, protocol_words

LINE = ["model", "budget", "protocol", "inference"]
THEIR_LINE = ["model", "budget"]  # of which each of ours is another way
SHARED_GREY = "0.45"  # of a published line that several of ours share
SPREAD = 0.5  # how far apart lines stand at one length, as a share of the way to the next


def called(published: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Name published scores in a legend, with their protocol where a cell has another."""
    other = table["protocol"] != published["protocol"]
    ours = "ours" if other.all() else "some of ours"
    word = f" ({protocol_words(published['protocol'])}; another protocol than {ours})"
    return f"published, {published['source']}{word if other.any() else ''}"


def beside_published_scores(
    summary: pd.DataFrame, published: Mapping[str, Any], titles: Mapping[str, str]
) -> Figure:
    """Draw our scores and published ones by length, and their difference below.

    Args:
        summary: rows of a summary.csv.
        published: a study's `published`.
        titles: how datasets, models and budgets are called.
    """
    found = beside_published(summary, published)
    names, drawn = list(dict.fromkeys(found["dataset"])), _styles(found)
    with look():
        figure = plt.figure(figsize=(5.8 * len(names), 7.2), layout="constrained")
        grid = figure.subplots(2, len(names), squeeze=False, height_ratios=(3, 2))
        for name, (above, below) in zip(names, grid.T, strict=True):
            _draw_dataset(above, below, found[found["dataset"] == name], drawn)
            above.set_title(titles.get(name, name))
        labels = {key: _name(key, found, titles) for key in drawn}
        handles = [Line2D([], [], label=labels[key], **style) for key, style in drawn.items()]
        dashed = {"linestyle": "--", "marker": "o", "color": "0.35", **HOLLOW}
        handles.append(Line2D([], [], label=called(published, found), **dashed))
        if found["diverged"].any():
            handles.append(Line2D([], [], label=drawing.CROSSED_OUT, **CROSSED))
        legend(figure, handles, ncols=min(2, len(names)))
    return figure


def _styles(found: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    """Choose a style for each of our lines, with the published line's marker."""
    keys = list(dict.fromkeys(found[LINE].itertuples(index=False, name=None)))
    theirs, ways = styles(key[:2] for key in keys), styles(key[2:] for key in keys)
    if len(ways) == 1:
        return {key: theirs[key[:2]] for key in keys}
    return {
        key: {"color": ways[key[2:]]["color"], "marker": theirs[key[:2]]["marker"]} for key in keys
    }


def _name(key: tuple[str, ...], found: pd.DataFrame, titles: Mapping[str, str]) -> str:
    known = dict(zip(LINE, key, strict=True))
    budget = titles.get(known["budget"], known["budget"])
    words = [budget, protocol_words(known["protocol"]), known["inference"]]
    apart = [word for axis, word in zip(LINE[1:], words, strict=True) if found[axis].nunique() > 1]
    own = found[found["model"] == known["model"]]
    random = random_weights((own["initialisation"] == "random").all())
    return ", ".join([titles.get(known["model"], known["model"]), *apart]) + random


def _draw_dataset(
    above: Axes, below: Axes, panel: pd.DataFrame, drawn: Mapping[Any, Mapping[str, Any]]
) -> None:
    lengths = sorted(set(panel["seq_len"]))
    lines = list(panel.groupby(LINE, sort=False))
    aside = {key: SPREAD * ((n + 0.5) / len(lines) - 0.5) for n, (key, _) in enumerate(lines)}
    places = [
        lengths.index(row["seq_len"]) + aside[tuple(row[LINE])] for _, row in panel.iterrows()
    ]
    placed = panel.assign(x=places)
    for key, line in placed.groupby(THEIR_LINE, sort=False):
        _draw_published(above, line, {k: style for k, style in drawn.items() if k[:2] == key})
    for key, line in placed.groupby(LINE, sort=False):
        _draw_line(above, below, line, drawn[key])
    for axis in (above, below):
        axis.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        axis.set_xlim(-0.5, len(lengths) - 0.5)
        axis.set_xlabel("Input length (tokens)")
        axis.grid(visible=False, axis="x")
    title = panel["score_name"].iloc[0]
    above.set_ylabel(drawing.SCORE_TITLES.get(title, title or "Score"))
    below.set_ylabel("Ours less published")
    if panel["score"].isna().all():
        drawing.leave_empty(below, drawing.NO_CELLS)
    else:
        below.axhline(0, color="0.35", linewidth=1)


def _draw_published(axis: Axes, rows: pd.DataFrame, ours: Mapping[Any, Mapping[str, Any]]) -> None:
    """Draw a published line once, grey where several of ours stand beside it."""
    style = dict(next(iter(ours.values()))) | ({"color": SHARED_GREY} if len(ours) > 1 else {})
    line = rows.groupby("seq_len")[["x", "published"]].mean()
    dashed = {"linestyle": "--", "linewidth": 1.2, "markersize": 7, **HOLLOW, **style}
    axis.plot(line["x"], line["published"], **dashed)


def _draw_line(above: Axes, below: Axes, line: pd.DataFrame, style: Mapping[str, Any]) -> None:
    known = line.dropna(subset=["score"])
    x, lost = known["x"], known["diverged"].astype(bool)
    errors = half_widths(known["score"], known["low"], known["high"])
    for axis, less in ((above, 0.0), (below, known["published"])):
        middle = known["score"] - less
        axis.errorbar(x, middle, yerr=errors, capsize=3, markersize=7, linewidth=1.8, **style)
        axis.plot(x[lost], middle[lost], zorder=4, **CROSSED)
