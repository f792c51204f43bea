"""Read the settings that results were made with from their stamps.

The study may have other settings by now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.files import read_object
from longwatt.provenance.stamps import read_stamp
from longwatt.study.cells import AXES, Cell
from longwatt.study.settings_in_force import SettingsInForce, groups, in_force


def settings_of_rows(results: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group the cells of some rows by the settings that they were made with.

    Rows have `cell`, the axes and `inference`. A cell has no settings if its artefacts do not say.
    See `longwatt.study.settings_in_force.groups`.
    """
    points: dict[str, list[str]] = {}
    cells: dict[str, Cell] = {}
    for row in rows:
        points.setdefault(row["cell"], []).append(row["inference"])
        axes: dict[str, Any] = {axis: row.get(axis) for axis in AXES}
        cells[row["cell"]] = Cell(**axes)
    return groups(cells, lambda name: settings_of_cell(results / name, points[name]))


def settings_of_cell(cell: Path, points: Sequence[str]) -> SettingsInForce:
    """Read the settings that a cell was trained, predicted, scored and calibrated with."""
    training = cell / "finetune" / "training.json"
    trained = _settings(training)
    predicted = {name: _settings(cell / "predict" / name / "inference.json") for name in points}
    scored = {name: _settings(cell / "predict" / name / "scores.json") for name in points}
    if not (trained and all(predicted.values()) and all(scored.values())):
        return {}
    # The report says beside its stamp how the last attempt was carried out.
    trained["training"] = {**trained["training"], **read_object(training).get("execution", {})}
    calibrated = _settings(cell / "calibrate" / "temperatures.json") or None
    return in_force(trained, predicted, scored, calibrated)


def _settings(artefact: Path) -> dict[str, Any]:
    return dict((read_stamp(artefact) or {}).get("settings") or {})
