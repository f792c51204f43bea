"""Which settings two studies' cells were made and scored with, beyond the axes of the grid, and where they differ.

They are those that the artefacts carry in their stamps, not those of the study files, which may have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.hyperparameters import TASK, calibration_in_force, flat, point_in_force
from longwatt.provenance import read_stamp
from longwatt.summary import artefacts

AXES = ("seq_len", "protocol", "seed")
MISSING = "not recorded"
SHOWN = 3  # pairs of values of one setting; the rest is counted


@dataclass(frozen=True)
class Differing:
    """A setting that is not the same in two studies.

    Attributes:
        name: as in a study file, its block before it.
        values: of both studies, wherever they differ, each pair of values once.
        pairs: how many pairs of cells differ in it.
    """

    name: str
    values: Sequence[tuple[str, str]]
    pairs: int

    def __str__(self) -> str:
        shown = ", ".join(f"{first} / {second}" for first, second in self.values[:SHOWN])
        rest = len(self.values) - SHOWN
        return f"{self.name} ({shown}{f' and {rest} more' if rest > 0 else ''})"


@dataclass(frozen=True)
class Rulers:
    """By which settings the cells of two studies were made and scored.

    Attributes:
        differing: settings that differ in some pair, those of scoring first.
        unknown: pairs of cells of which a side's artefacts do not say their settings.
    """

    differing: Sequence[Differing] = ()
    unknown: int = 0


ALIKE = Rulers()


def read_rulers(
    results: Path, studies: tuple[str, str], pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]
) -> Rulers:
    """Compare the stamped settings of every pair's first cells.

    Args:
        results: the folder of all studies' results.
        studies: the two.
        pairs: rows of both summaries, as `longwatt.compare.Pair`.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    unknown = 0
    for rows in pairs:
        first, second = (
            in_force(results / study, own.iloc[0]) for study, own in zip(studies, rows, strict=True)
        )
        unknown += not (first and second)
        for name in {**first, **second} if first and second else ():
            both = first.get(name, MISSING), second.get(name, MISSING)
            if both[0] != both[1] and _generates(name, first, second):
                found.setdefault(name, []).append((_text(both[0]), _text(both[1])))
    order = sorted(found, key=lambda name: not name.startswith("scoring"))
    return Rulers(
        [Differing(name, list(dict.fromkeys(found[name])), len(found[name])) for name in order],
        unknown,
    )


def in_force(results: Path, row: Mapping[str, Any] | pd.Series[Any]) -> dict[str, Any]:
    """All settings of a summary's row by name, from the stamps of its artefacts; empty where one has no stamp.

    Args:
        results: results/{study}.
        row: with `cell` and `inference`.
    """
    paths = artefacts(results, {"cell": row["cell"], "inference": row["inference"]})
    stamps = {name: read_stamp(paths[name]) for name in ("training", "inference", "scores")}
    settings = {name: (stamp or {}).get("settings") for name, stamp in stamps.items()}
    if not all(settings.values()):
        return {}
    trained, predicted, scored = (
        dict(settings[name] or {}) for name in ("training", "inference", "scores")
    )
    used = {"inference": point_in_force(predicted)}
    fitted = (read_stamp(results / row["cell"] / "calibrate" / "temperatures.json") or {}).get(
        "settings"
    )
    used |= {"calibration": calibration_in_force(fitted)} if fitted else {}
    skipped = {*AXES[:2], TASK, *used["inference"]}
    scoring = {key: value for key, value in scored.items() if key not in skipped}
    kept = {
        key: value
        for key, value in trained.items()
        if key not in {*AXES, "comparison", "metric", TASK}
    }
    found = {**dict(flat({"scoring": scoring})), **dict(flat(kept)), **dict(flat(used))}
    return {"protocol": trained.get("protocol"), **found}


def _generates(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether a setting can matter: the protocol is an axis, and who is teacher-forced generates nothing."""
    forced = "teacher_forced" in (first["protocol"], second["protocol"])
    return name != "protocol" and not (forced and "generation" in name.split("."))


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
