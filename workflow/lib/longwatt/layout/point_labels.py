"""Words beside the points of a panel, off its lines, its markers and each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import textalloc
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

CROWDED = 12  # points of a panel; of more, only the ends of the lines are labelled
OFF = 4.5  # from the middle of a marker to a label, in points as all sizes here
FAR = 45.0  # the farthest that a label stands
LEADER = 11.0  # from a point to its label; farther labels have a thin line to their point
PLACES = 300  # that are tried for each label
GAP = 0.002  # between labels and lines, as a share of the panel
THIN = 0.9  # guide lines, which labels may cross

FloatArray = NDArray[np.float64]


def label_ends(axis: Axes, lines: Sequence[pd.DataFrame]) -> None:
    """Label all points of a panel, or only the lines' ends if it is crowded.

    An end that has no room stays without a label.

    Args:
        axis: as `label_points`.
        lines: as `label_points`, each in the order of its lengths.
    """
    crowded = sum(map(len, lines)) > CROWDED
    shown = [line.iloc[sorted({0, len(line) - 1})] for line in lines] if crowded else lines
    label_points(axis, shown, needed=not crowded)


def label_points(axis: Axes, lines: Sequence[pd.DataFrame], *, needed: bool) -> None:
    """Write labels in turn, each at the nearest free place beside its point.

    Args:
        axis: a panel with its final limits and place, and all that labels keep off.
        lines: columns x, y and label ('' for none), optionally colour.
        needed: whether a label without a free place covers a line, or is left out.
    """
    points = pd.concat(lines) if lines else pd.DataFrame({"label": []})
    points = points[points["label"] != ""]
    if points.empty:
        return
    colours = list(points.get("colour", ["0.25"] * len(points)))
    figure: Any = axis.get_figure(root=True)
    pixels = figure.dpi / 72
    (width, height), (wide, high) = axis.get_window_extent().size / pixels, figure.get_size_inches()
    markers, radii, drawn = _drawn(axis)
    allocate: Any = textalloc.allocate  # its annotations know less than it takes
    *_, leaders = allocate(
        axis, list(points["x"]), list(points["y"]), list(points["label"]),
        x_scatter=markers[:, 0], y_scatter=markers[:, 1], scatter_sizes=radii * pixels,
        x_lines=[line[:, 0] for line in drawn], y_lines=[line[:, 1] for line in drawn],
        text_scatter_sizes=[OFF * pixels] * len(points), min_distance=0,
        # A share of the panel; upwards of the panel times the figure's aspect ratio.
        max_distance=FAR / max(width, height * wide / high),
        margin=GAP, nbr_candidates=PLACES, draw_all=needed, avoid_label_lines_overlap=True,
        textsize=10, textcolor=colours, linecolor=colours, linewidth=0.5, va="bottom",
        plot_kwargs={"scalex": False, "scaley": False},
    )  # fmt: skip
    for leader in filter(None, leaders):
        ends = axis.transData.transform(leader.get_xydata())
        if np.hypot(*(ends[1] - ends[0])) < LEADER * pixels:
            leader.remove()


def _drawn(axis: Axes) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
    """Find a panel's markers, their radii (points) and its lines, in the panel's coordinates."""
    markers, radii, lines = [], [], []
    for line in axis.lines:
        pixels = line.get_transform().transform(line.get_xydata())
        places = axis.transData.inverted().transform(pixels)
        if line.get_marker() not in ("None", "", "_", "|"):
            markers.append(places)
            radii += [line.get_markersize() / 2] * len(places)
        if line.get_linestyle() != "None" and line.get_linewidth() > THIN:
            lines.append(places)
    for bars in axis.collections:
        lines += map(np.asarray, bars.get_segments() if isinstance(bars, LineCollection) else [])
    shown = [line for line in lines if len(line) > 1]  # an unknown interval has no ends
    return np.concatenate([np.empty((0, 2)), *markers]), np.array(radii), shown
