"""The settings in force, all of them, for every group of cells that share them; at parse time, from the study alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from longwatt.cells import Cell

# Settings of a cell by name, one level deep: `training.validation.patience`.
InForce = dict[str, Any]
OF_THE_BUDGET = ("precision", "memory_gib_per_gpu")  # devices and batches are a table of their own
BLOCKS = ("metric", "training", "generation")
AXES = ("dataset", "model", "seq_len", "budget", "protocol")


def in_force(
    chosen: Mapping[str, Any], points: Mapping[str, Mapping[str, Any]], scoring: Mapping[str, Mapping[str, Any]]
) -> InForce:
    """All settings of one cell that are no axis of the grid.

    A teacher-forced cell generates nothing, so no setting of generation is in force there.

    Args:
        chosen: as `longwatt.settings.finetune_settings`.
        points: by inference point, as `longwatt.settings.predict_settings`.
        scoring: by inference point, as `longwatt.settings.score_settings`.
    """
    found = dict(_flat({name: chosen[name] for name in BLOCKS}))
    found |= dict(_flat({"budget": {name: chosen["budget"][name] for name in OF_THE_BUDGET}}))
    for name, point in points.items():
        found |= dict(_flat({"inference": {name: {**point["inference"], "generation": point["generation"]}}}))
        own = {key: value for key, value in scoring[name].items() if key not in {*point["inference"], *BLOCKS, *AXES}}
        found |= dict(_flat({"scoring": own}))
    generates = chosen["protocol"] != "teacher_forced"
    return {key: value for key, value in found.items() if generates or "generation" not in key.split(".")}


def groups(cells: Mapping[str, Cell], settings: Callable[[str], InForce]) -> list[dict[str, Any]]:
    """Cells grouped by the settings that they share.

    Args:
        cells: one cell for each of its kind, by name: those of other seeds share its settings.
        settings: of a cell, by its name.

    Returns:
        For each group the axes of its cells (`cells`) and what they share (`settings`).
    """
    found: list[dict[str, Any]] = []
    by_settings: dict[str, dict[str, list[Any]]] = {}
    for name, cell in cells.items():
        shared = settings(name)
        if repr(shared) not in by_settings:
            by_settings[repr(shared)] = {axis: [] for axis in AXES}
            found.append({"cells": by_settings[repr(shared)], "settings": shared})
        for axis, values in by_settings[repr(shared)].items():
            if getattr(cell, axis) not in values:
                values.append(getattr(cell, axis))
    return found


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
