"""Find the summary that matches a study's results, by the digests of its inputs."""

from __future__ import annotations

from pathlib import Path

from longwatt.files import read_object, sha256
from longwatt.freshness.outdated import Files, differs
from longwatt.freshness.summary_file import csv_rows, summaries
from longwatt.study.cells import CELL_PATTERN

CELL_PARTS = len(CELL_PATTERN.split("/"))  # folders of a cell below results/{study}
NO_ORIGINS = "it does not say what it was made from"
CHANGED = "it is not the table that was written"


def faults(summary: Path, results: Path) -> list[str]:
    """List what speaks against a summary.csv, by the origin in the JSON beside it."""
    report = read_object(summary.with_suffix(".json"))
    if "made_from" not in report:
        return [NO_ORIGINS]
    if sha256(summary) != report.get("sha256"):
        return [CHANGED]
    there = Files(results).listed(summary.with_suffix(".json"))
    return [str(path) for path, digest in there.items() if differs(path, digest)]


def best_summary(results: Path) -> tuple[Path | None, list[str]]:
    """Choose the summary that covers most of the results, and list its faults.

    Summaries without faults come first, those with most rows ahead, then summaries that do not say
    what they were made from, then any other.
    """
    known = {path: faults(path, results) for path in summaries(results)}
    sound = [path for path, found in known.items() if not found]
    if sound:
        rows = {path: read_object(path.with_suffix(".json")).get("rows", 0) for path in sound}
        return max(sound, key=rows.__getitem__), []
    unsaid = [path for path, found in known.items() if found == [NO_ORIGINS]]
    chosen = next(iter([*unsaid, *known]), None)
    return chosen, known[chosen] if chosen else []


def changed_cells(summary: Path, results: Path) -> frozenset[str]:
    """Name the cells whose results have changed since a summary was made.

    All of its cells are named if the table itself was changed, none if it is missing.
    """
    found = faults(summary, results) if summary.is_file() else []
    if found == [CHANGED]:
        return frozenset(row["cell"] for row in csv_rows(summary) if "cell" in row)
    names = (Path(path) for path in found if path != NO_ORIGINS)
    return frozenset("/".join(path.relative_to(results).parts[:CELL_PARTS]) for path in names)
