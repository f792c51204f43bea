"""The figure of energy: what each phase took over the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longwatt.energy import flags
from longwatt.jobs.endings import DIVERGED
from longwatt.layout.drawing import NO_ENERGY, leave_empty, legend, look, panels
from longwatt.layout.figure_texts import beside_an_axis
from longwatt.layout.phases import PHASES, WASTED
from longwatt.layout.wording import ESTIMATED
from longwatt.results import series as plotted
from longwatt.results.series import SERIES, EnergyUnit
from longwatt.study.summary_columns import energy_flags

HATCH_STYLE: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.3", "hatch": "///"}
BAR_INCHES, LINE_INCHES = 0.36, 0.167  # a line of 10 points
LABEL_INCHES = 0.2 / 18  # that a letter adds below a narrow panel, on lines of 12 points
# Column of the summary -> the phase that it is the energy of; None is what was wasted.
STACK = {
    "train_steps_energy_kwh": "train",
    "validation_energy_kwh": "validation",
    "checkpoint_energy_kwh": "checkpoint",
    "wasted_energy_kwh": None,
}


def energy_by_phase(summary: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw training energy, a panel per dataset, a bar per cell, a colour per phase."""
    # A training has no inference point, and cells need not have the same.
    trained = plotted.with_training(summary).assign(inference="", inference_attention=None)
    table = plotted.with_series(trained).drop_duplicates("cell")
    known = bool(table["train_energy_kwh"].notna().any())
    names = list(dict.fromkeys(table["dataset"]))
    rows = [table[table["dataset"] == name] for name in names]
    panels_bars = [_bars(panel, titles, table) for panel in rows]
    height = 1.9 + max(map(_height, panels_bars))
    height += max(LABEL_INCHES * len(_flags(panel)) for panel in rows)
    with look():
        figure, axes = panels(len(names), height if known else 2.4)
        for axis, name, panel, bars in zip(axes, names, rows, panels_bars, strict=True):
            _draw_bars(axis, panel, bars, plotted.energy_unit(table))
            axis.set_title(titles.get(name, name))
        if known:
            phases = [PHASES[phase] for phase in STACK.values() if phase]
            handles = [Patch(facecolor=colour, label=label) for label, colour in phases]
            handles.append(Patch(label=WASTED, **HATCH_STYLE))
            legend(figure, handles, ncols=2 if len(names) == 1 else 4)
        # Names beside an axis leave it a part of its panel, which texts must fit.
        figure.draw_without_rendering()
    return figure


def _bars(
    panel: pd.DataFrame, titles: Mapping[str, str], table: pd.DataFrame
) -> list[tuple[str, pd.DataFrame]]:
    """Give each bar its name and the rows of its seeds, by series."""
    together = panel.iloc[panel.groupby(SERIES, sort=False).ngroup().argsort(kind="stable")]
    names, groups = [], []
    for key, group in together.groupby([*SERIES, "seq_len"], sort=False):
        *series, length = key if isinstance(key, tuple) else (key,)
        lost = f", {DIVERGED}" if plotted.any_diverged(group) else ""
        names.append(f"{plotted.short_name(tuple(series), titles, table)}, {length}{lost}")
        groups.append(group)
    return list(zip(beside_an_axis(names), groups, strict=True))


def _height(bars: Sequence[tuple[str, pd.DataFrame]]) -> float:
    """Return the inches of a panel's bars, each as high as the longest name's lines."""
    lines = max(name.count("\n") + 1 for name, _ in bars)
    return len(bars) * max(BAR_INCHES, LINE_INCHES * (lines + 0.5))


def _draw_bars(
    axis: Axes, panel: pd.DataFrame, bars: Sequence[tuple[str, pd.DataFrame]], unit: EnergyUnit
) -> None:
    if panel["train_energy_kwh"].isna().all():
        leave_empty(axis, NO_ENERGY)
        return
    for place, (_, group) in enumerate(bars):
        _draw_bar(axis, place, group, unit)
    axis.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=10)
    axis.set_ylim(len(bars) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    word = f", {ESTIMATED}" if (panel["train_energy_source"] == "estimate").any() else ""
    axis.locator_params(axis="x", nbins=4)  # more labels of small numbers would overlap
    axis.set_xlabel(f"Training energy, by phase{word} ({unit.name}){_flags(panel)}")


def _flags(panel: pd.DataFrame) -> str:
    """Join the flags of a panel's energies by phase, on a line of its own."""
    found = {
        PHASES[phase][0] if phase else "wasted": flags.union(panel[named])
        for column, phase in STACK.items()
        if (named := energy_flags(column)) in panel
    }
    said = [f"{name}: {', '.join(words)}" for name, words in found.items() if words]
    return f"\nflagged: {'; '.join(said)}" if said else ""


def _draw_bar(axis: Axes, place: int, group: pd.DataFrame, unit: EnergyUnit) -> None:
    left = 0.0
    for column, phase in STACK.items():
        energy = unit.per_kwh * float(group[column].astype(float).mean(skipna=False))
        if not energy > 0:  # nothing, or not known
            continue
        style = {"facecolor": PHASES[phase][1]} if phase else HATCH_STYLE
        axis.barh(place, energy, left=left, height=0.66, linewidth=0.6, **style)
        left += energy
    if left == 0.0:
        axis.text(0, place, " NA", va="center", fontsize=10, color="0.35")
