"""The look that all figures share, and files that are equal when figures are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from longwatt.energy import flags
from longwatt.files import sha256, whole_path
from longwatt.layout.figure_texts import make_texts_fit

matplotlib.rcdefaults()  # a user's matplotlibrc must not change what figures look like
matplotlib.rcParams["text.parse_math"] = False  # texts are words: a dollar sign begins no formula

NO_ENERGY = (
    "Energy was not measured:\nno readable meter on this machine.\n"
    "A number of watts_per_core\nin config.yaml would give an estimate."
)
NO_CELLS = "None of these cells\nis finished yet."
ONLY_EXITS = "These cells were only run with early exit:\nsee the figures of early exit."
SCORE_TITLES = {
    "f1": "F1",
    "exact_match": "Exact match",
    "accuracy": "Accuracy (%)",
    "macro_f1": "Macro F1 (%)",
    "rouge_geometric_mean": "ROUGE (geometric mean)",
    "rouge_unicode_geometric_mean": "ROUGE of Unicode words (geometric mean)",
    "f1_unicode": "F1 of Unicode words",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# From dark to light, evenly: the order survives greyscale and colour-blindness. The lightest end is
# left out.
COLOUR_MAP, LIGHTEST = "viridis", 0.72
# A published score.
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.5}
# Across a point whose training diverged, and what the legend says of it.
CROSSED: dict[str, Any] = {
    "linestyle": "none", "marker": "x", "color": "black", "markersize": 11, "markeredgewidth": 1.6,
}  # fmt: skip
CROSSED_OUT = "crossed out: training diverged, score of the best weights before"
FLAGGED = "flagged"  # marks the rings
RING: dict[str, Any] = {"fillstyle": "none", "color": "0.35", "markeredgewidth": 0.9}
SVG_SALT = "longwatt"  # fixed, so that equal figures are equal files


@contextmanager
def look() -> Iterator[None]:
    """Draw with the look of all figures, a white grid and readable texts."""
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        yield


def panels(count: int, height: float, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """Make `count` panels of `height` inches, by default in 3 columns or 2 x 2."""
    columns = columns or (2 if count == 4 else min(count, 3))
    rows = -(-count // columns)
    size = (5.4 * columns, height * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def styles(series: Iterable[Hashable]) -> dict[Any, dict[str, Any]]:
    """Colour and marker of each line."""
    keys = list(dict.fromkeys(series))
    colours = plt.get_cmap(COLOUR_MAP)(np.linspace(0, LIGHTEST, max(2, len(keys))))
    return {
        key: {"color": tuple(colours[i][:3]), "marker": MARKERS[i % len(MARKERS)]}
        for i, key in enumerate(keys)
    }


def logarithmic(axis: Axes, vertical: bool = False) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5."""
    axis.set(**{"yscale" if vertical else "xscale": "log"})
    scale = axis.yaxis if vertical else axis.xaxis
    scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_formatter(NullFormatter())


def legend(place: Figure | Axes, handles: Sequence[Artist], **options: Any) -> Legend:
    """Add a legend below all panels, also with labels that matplotlib takes for hidden ones."""
    options = {"loc": "outside lower center", "fontsize": 10, "frameon": False, **options}
    labels = [str(handle.get_label()) for handle in handles]
    # A label that begins with an underscore would be left out.
    shown_labels = [label.lstrip("_") or "-" for label in labels]
    shown = place.legend(handles=handles, labels=shown_labels, **options)
    for text, label in zip(shown.get_texts(), labels, strict=True):
        text.set_text(label)
    return shown


def half_widths(middle: Any, low: Any, high: Any) -> list[Any]:
    """Return an interval's reach below and above its middle.

    An interval of equal examples can miss its mean by the last rounded digit.
    """
    return [(middle - low).clip(lower=0), (high - middle).clip(lower=0)]


def lay_out(figure: Figure) -> None:
    """Give the panels their final places, by which words beside points keep off each other."""
    make_texts_fit(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def ring(axis: Axes, x: Any, y: Any) -> None:
    """Draw a ring around points whose energy is flagged."""
    axis.plot(x, y, linestyle="none", marker="o", markersize=15, gid=FLAGGED, **RING)


def flagged_in_words(texts: Iterable[Any]) -> str:
    """Say below an axis what its ringed points are flagged with, if any is."""
    found = flags.union(texts)
    return f"\nringed: energy flagged {', '.join(found)}" if found else ""


def leave_empty(axis: Axes, why: str) -> None:
    """Say in a panel why it shows nothing."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.text(0.5, 0.5, why, ha="center", va="center", transform=axis.transAxes)


def save_all(drawings: Mapping[str, Callable[[], Figure]], folder: Path) -> dict[str, str]:
    """Draw and write figures one at a time, and return the digests of their files."""
    paths = (path for name, draw in drawings.items() for path in save(draw(), folder / name))
    return {path.name: sha256(path) for path in paths}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as STEM.svg and STEM.png, and close it."""
    make_texts_fit(figure)
    options: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 150}}
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in options}
    for kind, path in paths.items():
        with matplotlib.rc_context({"svg.hashsalt": SVG_SALT}), whole_path(path) as partial:
            figure.savefig(partial, format=kind, **options[kind])
    plt.close(figure)
    return list(paths.values())
