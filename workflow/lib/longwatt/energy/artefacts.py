"""Files that summarize_energy writes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.energy.log import damage_of, publish, runs
from longwatt.energy.reduction.reduce import power_over_time, reduce_log
from longwatt.energy.reduction.segments import read_log
from longwatt.files import sha256, whole_file
from longwatt.provenance.artefacts import damaged
from longwatt.provenance.stamps import write_json

FINETUNE_PART = "finetune"  # its work folder is the cell's, those of other parts lie within
CURVE_BINS = 600  # as many as a figure can show


def write_energy(
    log: Path, settings: Mapping[str, Any], energy: Path, power: Path, provenance: Any
) -> None:
    """Write energy.json and power.csv of a job's log.

    `longwatt.energy.reduction.reduce.reduce_log` makes the numbers. The settings are
    watts_per_core. The provenance is the stamp of energy.json.
    """
    _mend(log)
    found = read_log([log])
    with whole_file(power, newline="") as stream:
        writer = csv.DictWriter(stream, ("seconds", "gpu", "mean_w", "max_w"))
        writer.writeheader()
        writer.writerows(power_over_time(found.segments, CURVE_BINS))
    facts = reduce_log(found, settings["watts_per_core"])
    write_json(energy, {**facts, "sha256": {power.name: sha256(power)}, "provenance": provenance})


def _mend(log: Path) -> None:
    """Publish a damaged log again from the runs in its job's work folder.

    Raises:
        longwatt.provenance.artefacts.Damaged: they are not there, or a folder stands in the log's
            place.
    """
    problem = damage_of(log)
    if not problem:
        return
    kept = runs(_work_of(log.parent))
    if not kept or log.is_dir():
        raise damaged(log, problem, then="its job is done again")
    print(f"{log} is damaged ({problem}); it is made again from {kept[0].parent}", flush=True)
    publish(kept, log, {})


def _work_of(part: Path) -> Path:
    """Return a job's work folder by its log's: a cell's finetune, exits or predict/POINT."""
    if part.name == FINETUNE_PART:
        return part.parent / "work"
    if part.parent.name == "predict":
        return part.parent.parent / "work" / f"predict-{part.name}"
    return part.parent / "work" / "record_exits"
