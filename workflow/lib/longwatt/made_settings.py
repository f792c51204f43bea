"""The settings that results were made with, as their stamps say; the study may say others by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.cells import Cell
from longwatt.hyperparameters import AXES, InForce, groups, in_force
from longwatt.provenance import read_object, read_stamp


def settings_of_rows(results: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group the cells of some rows by the settings that they were made with.

    Args:
        results: results/{study}.
        rows: with `cell`, the axes and `inference`.

    Returns:
        As `longwatt.hyperparameters.groups`; a cell whose artefacts do not say has no settings.
    """
    points: dict[str, list[str]] = {}
    for row in rows:
        points.setdefault(row["cell"], []).append(row["inference"])
    cells = {row["cell"]: _cell(row) for row in rows}
    return groups(cells, lambda name: settings_of_cell(results / name, points[name]))


def _cell(row: Mapping[str, Any]) -> Cell:
    axes: dict[str, Any] = {axis: row.get(axis) for axis in AXES}
    return Cell(**axes)


def settings_of_cell(cell: Path, points: Sequence[str]) -> InForce:
    """Read the settings that a cell was trained, predicted, scored and calibrated with.

    Args:
        cell: results/{study}/{cell}.
        points: its inference points.
    """
    trained = _training_settings(cell / "finetune" / "training.json")
    predicted = {name: _settings(cell / "predict" / name / "inference.json") for name in points}
    scored = {name: _settings(cell / "predict" / name / "scores.json") for name in points}
    if not (trained and all(predicted.values()) and all(scored.values())):
        return {}
    return in_force(
        trained, predicted, scored, _settings(cell / "calibrate" / "temperatures.json") or None
    )


def _training_settings(training: Path) -> dict[str, Any]:
    """Read a training's settings, those among them by which its last attempt was carried out."""
    found = _settings(training)
    if not found:
        return {}
    return {
        **found,
        "training": {**found["training"], **read_object(training).get("execution", {})},
    }


def _settings(artefact: Path) -> dict[str, Any]:
    return dict((read_stamp(artefact) or {}).get("settings") or {})
