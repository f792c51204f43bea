"""What summarize_energy writes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.energy.reduction import power_over_time, summarize
from longwatt.provenance import whole_file, write_json

CURVE_BINS = 600  # as many as a figure can show


def write_energy(log: Path, settings: Mapping[str, Any], energy: Path, power: Path, provenance: Any) -> None:
    """Write energy.json (see `longwatt.energy.reduction.summarize`) and power.csv.

    Args:
        log: a job's energy log.
        settings: watts_per_core.
        energy: the JSON's path.
        power: the curve's path: seconds, gpu, mean_w, max_w.
        provenance: the stamp of energy.json.
    """
    with whole_file(power, newline="") as stream:
        writer = csv.DictWriter(stream, ("seconds", "gpu", "mean_w", "max_w"))
        writer.writeheader()
        writer.writerows(power_over_time([log], CURVE_BINS))
    write_json(energy, {**summarize([log], settings["watts_per_core"]), "provenance": provenance})
