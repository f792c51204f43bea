"""Which of a study's summaries speaks of the results that are there, by the digests that it was made from."""

from __future__ import annotations

from pathlib import Path

from longwatt.cells import CELL_PATTERN
from longwatt.outdated import Files
from longwatt.provenance import read_object, sha256
from longwatt.summary_file import csv_rows

CELL_PARTS = len(CELL_PATTERN.split("/"))  # folders of a cell below results/{study}
UNSAID = "it does not say what it was made from"
CHANGED = "it is not the table that was written"


def summaries(results: Path) -> list[Path]:
    """List the summaries of a study that are there: the whole one, and that of `snakemake partial`."""
    return [
        path
        for path in (results / "summary.csv", results / "partial" / "summary.csv")
        if path.is_file()
    ]


def faults(summary: Path, results: Path) -> list[str]:
    """Say what speaks against a summary; nothing if it tells what is there.

    Args:
        summary: a summary.csv, whose origin stands in the JSON beside it.
        results: results/{study}.
    """
    report = read_object(summary.with_suffix(".json"))
    if "made_from" not in report:
        return [UNSAID]
    if sha256(summary) != report.get("sha256"):
        return [CHANGED]
    files = Files(results)
    there = {files.place(path): digest for path, digest in report["made_from"].items()}
    return [
        str(path) for path, digest in there.items() if not path.is_file() or sha256(path) != digest
    ]


def best_summary(results: Path) -> tuple[Path | None, list[str]]:
    """Choose the summary that tells most of what is there, and give what speaks against it.

    Args:
        results: results/{study}.

    Returns:
        Of those without faults the one with most rows, else one that does not say, else the first; its faults.
    """
    known = {path: faults(path, results) for path in summaries(results)}
    sound = [path for path, found in known.items() if not found]
    if sound:
        return max(
            sound, key=lambda path: read_object(path.with_suffix(".json")).get("rows", 0)
        ), []
    unsaid = [path for path, found in known.items() if found == [UNSAID]]
    chosen = next(iter([*unsaid, *known]), None)
    return chosen, known[chosen] if chosen else []


def changed_cells(summary: Path, results: Path) -> frozenset[str]:
    """Name the cells whose results are others now than a summary tells; all of them if the table itself was changed.

    Args:
        summary: a summary.csv that may be missing.
        results: results/{study}.
    """
    found = faults(summary, results) if summary.is_file() else []
    if found == [CHANGED]:
        return frozenset(row["cell"] for row in csv_rows(summary) if "cell" in row)
    names = (Path(path) for path in found if path != UNSAID)
    return frozenset("/".join(path.relative_to(results).parts[:CELL_PARTS]) for path in names)
