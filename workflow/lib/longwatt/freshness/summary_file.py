"""The summary of a study as a file that may be missing or damaged.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path


def newest_summary(results: Path) -> Path:
    """Find the newer of a study's summary.csv and that of `snakemake partial`.

    Args:
        results: results/{study}.

    Returns:
        The path of the first where neither is there.
    """
    newest = max(summaries(results), key=lambda path: path.stat().st_mtime, default=None)
    return newest or results / "summary.csv"


def summaries(results: Path) -> list[Path]:
    """List the existing summaries of a study: the whole one and the partial one."""
    both = (results / "summary.csv", results / "partial" / "summary.csv")
    return [path for path in both if path.is_file()]


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, or none where it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error):
        return []


def positive(text: str | None) -> float | None:
    """Read a positive number, or None for NA and anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
