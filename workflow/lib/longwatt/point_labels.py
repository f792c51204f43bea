"""Input lengths, or other words, beside the points of a panel, off its lines, its markers and each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

# Where a length may stand beside its point, in points; first the corners that a rising or a falling line leaves free.
RISING, FALLING = ((8, -11), (-8, 5), (8, 5), (-8, -11)), ((8, 5), (-8, -11), (8, -11), (-8, 5))
FARTHER = ((0, 9), (0, -17), (10, -3), (-10, -3))  # where no corner is free
# Beyond the ends of an interval's bar, where a panel has many points; a thin line leads to the point.
BEYOND = tuple((x, y) for far in (16, 24, 32) for y in (far, -far - 8) for x in (0, -9, 9))
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
LABEL = (27, 12)  # of four digits, in points
MARKER = (9, 9)
BAR = 7  # across
PIECE = 5.0  # of a line, in points: no label fits between two
CROWDED = 12  # points of a panel; of more, only the ends of the lines are labelled, and these if there is room


class Box(NamedTuple):
    """What is taken: its middle and its size, in points."""

    middle: Any
    size: tuple[float, float]


def label_points(axis: Axes, lines: Sequence[pd.DataFrame]) -> None:
    """Write each point's length beside it; of a crowded panel, those of the ends of its lines.

    Args:
        axis: with its final limits and place in the figure.
        lines: columns x, y, low, high, published (NaN where there is none) and seq_len, in the order of the lengths.
    """
    named = [line.assign(label=[f"{int(length)}" for length in line["seq_len"]]) for line in lines]
    drawn = [box for line in lines for box in _markers(axis, line)]
    crowded = sum(map(len, lines)) > CROWDED
    found = [one for one in _in_order(named) if one.at_the_end or not crowded]
    _write(axis, found, drawn, needed=not crowded)


def label_where_there_is_room(axis: Axes, lines: Sequence[pd.DataFrame]) -> None:
    """Write words beside the points of lines: first at their ends, then at those others that have room.

    Args:
        axis: with its final limits and place in the figure.
        lines: columns x, y, low, high, x_low, x_high (intervals; NaN where there is none), label ('' for none) and
            colour, in the order of the line.
    """
    drawn = [box for line in lines for box in _markers(axis, line.assign(published=math.nan))]
    drawn += [box for line in lines for box in (*_flat_bars(axis, line), *_segments(axis, line))]
    found = [one for one in _in_order(lines) if one.point["label"]]
    # An end's label may cover some of what is drawn; where one between has no room, its neighbours say enough.
    ends = _write(axis, [one for one in found if one.at_the_end], drawn, needed=False)
    _write(axis, [one for one in found if not one.at_the_end], [*drawn, *ends], needed=False, least=0)


class Named(NamedTuple):
    """A point that may get a label, whether its line rises there, and whether it is an end of it."""

    point: pd.Series[Any]
    rising: bool
    at_the_end: bool


def _in_order(lines: Sequence[pd.DataFrame]) -> list[Named]:
    return [
        Named(point, rising, index in {line.index[0], line.index[-1]})
        for line in lines
        for (index, point), rising in zip(line.iterrows(), _rises(line), strict=True)
    ]


def _write(
    axis: Axes, points: Sequence[Named], drawn: Sequence[Box], *, needed: bool, least: float = -math.inf
) -> list[Box]:
    """Write the labels in turn; where they are not needed, only those that cover no other.

    Args:
        axis: with its final limits and place in the figure.
        points: to be labelled.
        drawn: what labels should not cover.
        needed: whether all must be written.
        least: the least distance to what is drawn, in points, at which one that is not needed is written.

    Returns:
        The labels' room.
    """
    labels: list[Box] = []
    bottom, top = axis.get_ylim()
    lowest = bottom + 0.08 * (top - bottom)  # below such a point a label would lie on the axis
    for point, rising, _ in points:
        corners = RISING if rising and point["y"] > lowest else FALLING
        places = corners + FARTHER + (BEYOND if least == 0 else ())
        labels += _label(axis, point, places, drawn, labels, needed=needed, least=least)
    return labels


def _label(
    axis: Axes,
    point: pd.Series[Any],
    corners: Sequence[tuple[int, int]],
    drawn: Sequence[Box],
    labels: Sequence[Box],
    *,
    needed: bool,
    least: float,
) -> list[Box]:
    """Write one length in the first place that is free, or else where it covers no other and least of what is drawn.

    Returns its room; nothing where it was not written, as it would cover another and is not needed.
    """
    place = _place(axis, point["x"], point["y"])
    rooms = {c: (_room(_box(place, c), labels), _room(_box(place, c), drawn)) for c in corners}
    best = max(rooms, key=lambda c: (rooms[c][0] > 0, rooms[c][1]))
    corner = next((c for c, room in rooms.items() if min(room) > 0), best)
    if not needed and (rooms[corner][0] <= 0 or rooms[corner][1] < least):
        return []
    axis.annotate(
        point["label"],
        (point["x"], point["y"]),
        xytext=corner,
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[int(np.sign(corner[0]))],
        fontsize=10,
        color=point.get("colour", "0.25"),
        arrowprops={**LEADER, "color": point.get("colour", "0.25")} if corner in BEYOND else None,
    )
    return [_box(place, corner)]


def _place(axis: Axes, x: float, y: float) -> Any:
    return axis.transData.transform((x, y)) * 72 / axis.figure.dpi


def _markers(axis: Axes, line: pd.DataFrame) -> list[Box]:
    places = [*zip(line["x"], line["y"], strict=True), *zip(line["x"], line["published"], strict=True)]
    markers = [Box(_place(axis, x, y), MARKER) for x, y in places if not math.isnan(y)]
    bars = line.dropna(subset=["low", "high"])
    return markers + [_bar(axis, *ends) for ends in zip(bars["x"], bars["low"], bars["high"], strict=True)]


def _bar(axis: Axes, x: float, low: float, high: float) -> Box:
    """The room of an interval's bar."""
    lower, upper = _place(axis, x, low), _place(axis, x, high)
    return Box((lower + upper) / 2, (BAR, upper[1] - lower[1]))


def _flat_bars(axis: Axes, line: pd.DataFrame) -> list[Box]:
    """The room of intervals along the horizontal axis."""
    bars = line.dropna(subset=["x_low", "x_high"])
    ends = [
        (_place(axis, left, y), _place(axis, right, y))
        for left, right, y in zip(bars["x_low"], bars["x_high"], bars["y"], strict=True)
    ]
    return [Box((one + other) / 2, (other[0] - one[0], BAR)) for one, other in ends]


def _segments(axis: Axes, line: pd.DataFrame) -> list[Box]:
    """The room of a line between its points, in short pieces."""
    places = [_place(axis, x, y) for x, y in zip(line["x"], line["y"], strict=True)]
    found = []
    for one, other in pairwise(places):
        count = max(2, int(np.hypot(*(other - one)) / PIECE) + 1)
        found += [Box(one + share * (other - one), (1, 1)) for share in np.linspace(0, 1, count)]
    return found


def _box(place: Any, corner: tuple[int, int]) -> Box:
    """The room of a label that begins (or ends, on the left) at a corner of a point."""
    return Box(place + corner + (np.sign(corner[0]) * LABEL[0] / 2, LABEL[1] / 2 - 2), LABEL)


def _room(box: Box, taken: Sequence[Box]) -> float:
    """The least distance to what is taken, in points; below 0 where they overlap."""
    return min((_apart(box, other) for other in taken), default=math.inf)


def _apart(one: Box, other: Box) -> float:
    gaps = np.abs(one.middle - other.middle) - (np.array(one.size) + other.size) / 2
    return float(gaps.max())


def _rises(line: pd.DataFrame) -> list[bool]:
    """Whether the line to a point's right goes up; the last point of a line is as the one before it."""
    ordered = line.sort_values("x")
    steps = list(np.diff(ordered["y"]) >= 0) or [True]
    by_index = dict(zip(ordered.index, [*steps, steps[-1]], strict=False))
    return [bool(by_index[index]) for index in line.index]
