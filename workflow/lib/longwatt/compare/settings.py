"""Settings that two studies' cells were made and scored with, and where they differ.

Axes of the grid are left out. The settings are those in the artefacts' stamps, not those of the
study files, which may have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.layout.wording import is_known
from longwatt.provenance.stamps import read_stamp
from longwatt.results.summary import artefacts
from longwatt.study.settings_in_force import TASK, calibration_in_force, flat, point_in_force

UNPAIRED_AXES = ("seq_len", "protocol", "seed")
MISSING = "not recorded"
SHOWN_PAIRS = 3  # pairs of values of one setting; the rest is counted

Studies = tuple[str, str]
Pairs = Sequence[tuple[pd.DataFrame, pd.DataFrame]]


@dataclass(frozen=True)
class Differing:
    """A setting, or another fact, that is not the same in two studies.

    Attributes:
        name: as in a study file, its block before it.
        values: of both studies, wherever they differ, each pair of values once.
        pairs: how many pairs of cells differ in it.
    """

    name: str
    values: Sequence[tuple[str, str]]
    pairs: int

    @classmethod
    def gather(cls, found: Mapping[str, Sequence[tuple[str, str]]]) -> list[Differing]:
        """Gather the values of both studies in every differing pair of cells, by name."""
        return [cls(name, list(dict.fromkeys(both)), len(both)) for name, both in found.items()]

    def __str__(self) -> str:
        shown = ", ".join(f"{first} / {second}" for first, second in self.values[:SHOWN_PAIRS])
        rest = len(self.values) - SHOWN_PAIRS
        return f"{self.name} ({shown}{f' and {rest} more' if rest > 0 else ''})"


@dataclass(frozen=True)
class Rulers:
    """Differences of the settings that two studies' cells were made and scored with.

    Attributes:
        differing: settings that differ in some pair, those of scoring first.
        unknown: pairs of cells with a side whose artefacts do not say their settings.
    """

    differing: Sequence[Differing] = ()
    unknown: int = 0


ALIKE = Rulers()


def read_rulers(results: Path, studies: Studies, pairs: Pairs) -> Rulers:
    """Compare the stamped settings of every pair's first cells.

    Args:
        results: the folder of all studies' results.
        studies: the two.
        pairs: rows of both summaries, as `longwatt.compare.pairing.Pair`.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    unknown = 0
    for rows in pairs:
        sides = zip(studies, rows, strict=True)
        first, second = (settings_of_row(results / study, own.iloc[0]) for study, own in sides)
        unknown += not (first and second)
        for name in {**first, **second} if first and second else ():
            both = first.get(name, MISSING), second.get(name, MISSING)
            if both[0] != both[1] and _generates(name, first, second):
                one, other = ("none" if value is None else str(value) for value in both)
                found.setdefault(name, []).append((one, other))
    order = sorted(found, key=lambda name: not name.startswith("scoring"))
    return Rulers(Differing.gather({name: found[name] for name in order}), unknown)


def settings_of_row(results: Path, row: Mapping[str, Any] | pd.Series[Any]) -> dict[str, Any]:
    """Return all settings of a summary's row by name, from the stamps of its artefacts.

    It is empty where one has no stamp.

    Args:
        results: results/{study}.
        row: with `cell` and `inference`.
    """
    paths = artefacts(results, {"cell": row["cell"], "inference": row["inference"]})
    stamped = (paths[name] for name in ("training", "inference", "scores"))
    trained, predicted, scored = (
        dict((stamp or {}).get("settings") or {}) for stamp in map(read_stamp, stamped)
    )
    if not (trained and predicted and scored):
        return {}
    used = {"inference": point_in_force(predicted)}
    stamp = read_stamp(results / row["cell"] / "calibrate" / "temperatures.json") or {}
    if fitted := stamp.get("settings"):
        used["calibration"] = calibration_in_force(fitted)
    skipped = {*UNPAIRED_AXES[:2], TASK, *used["inference"]}
    scoring = {key: value for key, value in scored.items() if key not in skipped}
    beside = {*UNPAIRED_AXES, "comparison", "metric", TASK}
    kept = {key: value for key, value in trained.items() if key not in beside}
    found = {**dict(flat({"scoring": scoring})), **dict(flat(kept)), **dict(flat(used))}
    found |= _attention(found, row)
    return {"protocol": trained.get("protocol"), **found}


ATTENTION = "model.attention"


def _attention(found: Mapping[str, Any], row: Mapping[str, Any] | pd.Series[Any]) -> dict[str, str]:
    """Return the chosen path of attention, with the one in use where that is another."""
    used = row.get("attention")
    if ATTENTION not in found or not is_known(used) or used == found[ATTENTION]:
        return {}
    return {ATTENTION: f"{found[ATTENTION]}, {used} in use"}


def _generates(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether a setting can matter.

    The protocol is an axis, and a teacher-forced cell generates nothing.
    """
    forced = "teacher_forced" in (first["protocol"], second["protocol"])
    return name != "protocol" and not (forced and "generation" in name.split("."))
