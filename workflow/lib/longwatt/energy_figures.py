"""Figures of energy: how each cell's power went, and what each phase took over the grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longwatt import flags
from longwatt.columns import energy_flags
from longwatt.drawing import NO_ENERGY, leave_empty, panels, save
from longwatt.points import SERIES, EnergyUnit, energy_unit, short_name, with_series
from longwatt.provenance import sha256, write_json

# Phase -> (its name in a legend, colour); dark to light, so that the order survives greyscale.
PHASES = {
    "train": ("training steps", "#3b528b"),
    "validation": ("validation", "#21918c"),
    "checkpoint": ("checkpoint", "#5ec962"),
    "generate": ("inference", "#31688e"),
    "load": ("loading", "#d0d0d0"),
    "idle_before": ("idle", "#f0f0f0"),
    "idle_after": ("idle", "#f0f0f0"),
    "finish": ("writing results", "#e3dccb"),
}
OTHER = ("other", "#e3dccb")
WASTED = "wasted: lost work, and starting again"
HATCH = "///"
# Column of the summary -> the phase that it is the energy of; None is what was wasted.
STACK = {
    "train_steps_energy_kwh": "train",
    "validation_energy_kwh": "validation",
    "checkpoint_energy_kwh": "checkpoint",
    "wasted_energy_kwh": None,
}
NO_SENSOR = "Power was not measured: no sensor could be read.\nShaded: the phases of the log."
SVG_LINES = ("#000000", "#b2182b", "#2166ac", "#762a83", "#8c510a", "#01665e", "#c51b7d", "#4d4d4d")  # one per GPU


def plot_power(
    results: Path, folder: Path, headings: Mapping[str, str], parts: Mapping[str, Sequence[str]], provenance: Any
) -> None:
    """Draw every cell's power over time, and say in power.json from what.

    Args:
        results: results/{study}.
        folder: gets {cell}.svg and power.json.
        headings: cell -> what it is called.
        parts: metered parts of each cell, training first (`longwatt.stages.Stages.parts`).
        provenance: the stamp of power.json.
    """
    made_from: dict[str, str] = {}
    for cell, heading in headings.items():
        found = {part: results / cell / part for part in parts[cell]}
        save(power_over_time(found, heading), folder / cell, kinds=("svg",))
        made_from |= {str(path / "energy.json"): sha256(path / "energy.json") for path in found.values()}
    write_json(folder / "power.json", {"made_from": made_from, "provenance": provenance})


def power_over_time(parts: Mapping[str, Path], heading: str) -> Figure:
    """Power of one cell's jobs: a row of panels, the phases shaded, a line per GPU.

    Args:
        parts: part -> folder with its energy.json and power.csv.
        heading: what the cell is called.
    """
    with sns.axes_style("ticks"), sns.plotting_context("notebook"):
        size = (11, 2.9 * len(parts) + 0.9)
        figure, grid = plt.subplots(len(parts), 1, figsize=size, squeeze=False, layout="constrained")
        figure.suptitle(heading, fontsize=13)
        shown: dict[str, Any] = {}
        for axis, (part, folder) in zip(grid.flat, parts.items(), strict=True):
            energy = json.loads((folder / "energy.json").read_text(encoding="utf-8"))
            shown |= _draw_part(axis, energy, pd.read_csv(folder / "power.csv"))
            axis.set_title(f"{_part_name(part)}: {_sentence(energy)}", fontsize=11, loc="left")
        figure.legend(handles=list(shown.values()), loc="outside lower center", ncols=4, fontsize=10, frameon=False)
    return figure


def energy_by_phase(summary: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Training energy as stacked bars: a panel per dataset, a bar per cell (mean over seeds), a colour per phase."""
    # A training has no inference point, and cells need not have the same.
    table = with_series(summary).drop_duplicates("cell").assign(inference="")
    known = bool(table["train_energy_kwh"].notna().any())
    names = list(dict.fromkeys(table["dataset"]))
    bars = max(table[table["dataset"] == name].groupby([*SERIES, "seq_len"], sort=False).ngroups for name in names)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure, axes = panels(len(names), 1.6 + 0.36 * bars if known else 2.4)
        for axis, name in zip(axes, names, strict=True):
            _draw_bars(axis, table[table["dataset"] == name], titles, table)
            axis.set_title(titles.get(name, name))
        if known:
            handles = [Patch(facecolor=PHASES[p][1], label=PHASES[p][0]) for p in STACK.values() if p]
            handles.append(Patch(facecolor="white", edgecolor="0.3", hatch=HATCH, label=WASTED))
            columns = 2 if len(names) == 1 else 4
            figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=10, frameon=False)
    return figure


def _draw_part(axis: Axes, energy: Mapping[str, Any], curve: pd.DataFrame) -> dict[str, Any]:
    """Draw one job; the legend's entries by name."""
    length = max((interval["end_s"] for interval in energy["timeline"]), default=1.0)
    scale, unit = next((s, u) for s, u in ((3600, "h"), (60, "min"), (1, "s")) if length > 3 * s or s == 1)
    shown: dict[str, Any] = {}
    for interval in energy["timeline"]:
        name, colour = PHASES.get(interval["phase"], OTHER)
        span = (interval["start_s"] / scale, interval["end_s"] / scale)
        axis.axvspan(*span, facecolor=colour, alpha=0.55, linewidth=0, zorder=0)
        shown[name] = Patch(facecolor=colour, alpha=0.55, label=name)
        if interval["wasted"]:
            axis.axvspan(*span, facecolor="none", edgecolor="0.3", hatch=HATCH, linewidth=0, zorder=1)
            shown[WASTED] = Patch(facecolor="white", edgecolor="0.3", hatch=HATCH, label=WASTED)
    axis.set_xlim(0, length / scale)
    axis.set_xlabel(f"Time of the job, all its runs ({unit})")
    shown |= _draw_curves(axis, curve, scale)
    return shown


def _draw_curves(axis: Axes, curve: pd.DataFrame, scale: float) -> dict[str, Any]:
    if curve.empty:
        axis.set_yticks([])
        axis.text(
            0.5, 0.5, NO_SENSOR, ha="center", va="center", transform=axis.transAxes, fontsize=11,
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none"},
        )  # fmt: skip
        return {}
    shown = {}
    for number, (gpu, line) in enumerate(curve.groupby("gpu", sort=False)):
        colour, name = SVG_LINES[number % len(SVG_LINES)], f"GPU {str(gpu).removeprefix('GPU-')[:8]}"
        (shown[name],) = axis.plot(line["seconds"] / scale, line["mean_w"], color=colour, linewidth=1.3, label=name)
    axis.set_ylim(0, 1.08 * curve["mean_w"].max())
    axis.set_ylabel("Power (W)")
    return shown


def _part_name(part: str) -> str:
    return "Training" if part == "finetune" else f"Inference ({part.removeprefix('predict/')})"


def _sentence(energy: Mapping[str, Any]) -> str:
    if energy["energy_kwh"] is None:
        return "energy not known"
    word = ", estimated" if energy["energy_source"] == "estimate" else ""
    said = f"{1000 * energy['energy_kwh']:.3g} Wh{word}, mean {energy['mean_power_w']:.3g} W"
    check = energy["crosscheck_pct"]
    said += "" if check is None else f", integral against counter {round(check, 1) + 0.0:+.1f} %"
    return said + (f" [{', '.join(energy['flags'])}]" if energy["flags"] else "")


def _draw_bars(axis: Axes, panel: pd.DataFrame, titles: Mapping[str, str], table: pd.DataFrame) -> None:
    if panel["train_energy_kwh"].isna().all():
        leave_empty(axis, NO_ENERGY)
        return
    names, unit = [], energy_unit(table)
    together = panel.iloc[panel.groupby(SERIES, sort=False).ngroup().argsort(kind="stable")]  # a series' bars
    for place, (key, group) in enumerate(together.groupby([*SERIES, "seq_len"], sort=False)):
        *series, length = key if isinstance(key, tuple) else (key,)
        names.append(f"{short_name(tuple(series), titles, table)}, {length}")
        _draw_bar(axis, place, group, unit)
    axis.set_yticks(range(len(names)), names, fontsize=10)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    estimated = (panel["train_energy_source"] == "estimate").any()
    axis.set_xlabel(f"Training energy, by phase{', estimated' if estimated else ''} ({unit.name}){_flags(panel)}")


def _flags(panel: pd.DataFrame) -> str:
    """The flags of a panel's energies by phase, on a line of its own."""
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
        wasted = {"facecolor": "white", "edgecolor": "0.3", "hatch": HATCH}
        style: dict[str, Any] = {"facecolor": PHASES[phase][1]} if phase else wasted
        axis.barh(place, energy, left=left, height=0.66, linewidth=0.6, **style)
        left += energy
    if left == 0.0:
        axis.text(0, place, " NA", va="center", fontsize=10, color="0.35")
