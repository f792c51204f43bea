"""What summarize_energy writes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.energy.reduction import power_over_time, reduce_log
from longwatt.energy.segments import read_log
from longwatt.provenance import whole_file, write_json

CURVE_BINS = 600  # as many as a figure can show


def write_energy(log: Path, settings: Mapping[str, Any], energy: Path, power: Path, provenance: Any) -> None:
    """Write energy.json (see `longwatt.energy.reduction.reduce_log`) and power.csv.

    Args:
        log: a job's energy log.
        settings: watts_per_core.
        energy: the JSON's path.
        power: the curve's path: seconds, gpu, mean_w, max_w.
        provenance: the stamp of energy.json.
    """
    found = read_log([log])
    with whole_file(power, newline="") as stream:
        writer = csv.DictWriter(stream, ("seconds", "gpu", "mean_w", "max_w"))
        writer.writeheader()
        writer.writerows(power_over_time(found.segments, CURVE_BINS))
    write_json(energy, {**reduce_log(found, settings["watts_per_core"]), "provenance": provenance})
