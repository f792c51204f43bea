"""Differences of two studies' cells beside settings: machines, data, weights, code, age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.compare.settings import Differing, Pairs, Studies
from longwatt.freshness.outdated import Stamps
from longwatt.layout.pages import Section, Table
from longwatt.layout.wording import LISTED, listed, more_rows
from longwatt.results.differences import between, unlike_words
from longwatt.results.status import up_to_date_rows
from longwatt.study.summary_columns import ENVIRONMENT, INFERENCE

# Column of a comparison -> the columns of a summary that say if its two sides were measured on
# other machines.
ACROSS = {
    "train_across": ENVIRONMENT,
    "inference_across": tuple(f"{INFERENCE}{name}" for name in ENVIRONMENT),
}
MARK = "*"  # behind a ratio whose two sides were measured on other machines
MARKED = (
    f"{MARK} the two sides were measured on other devices, processors or thread counts, as the "
    "note says: the ratio is not the models' alone."
)


def across(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, str | None]:
    """Say how the machines of a pair's trainings and inferences differ.

    It is None where they differ in nothing that is known.

    Args:
        first: rows of the one study.
        second: rows of the other.
    """
    rows = [*first.to_dict("records"), *second.to_dict("records")]
    return {
        name: ", ".join(unlike_words(rows, columns)) or None for name, columns in ACROSS.items()
    }


def differing_beside(pairs: Pairs) -> list[Differing]:
    """List what differs in some pair beside the settings, with the values of both sides.

    Args:
        pairs: rows of both summaries, as `longwatt.compare.pairing.Pair`.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for first, second in pairs:
        for name, values in between(first.to_dict("records"), second.to_dict("records")).items():
            found.setdefault(name, []).append(values)
    return Differing.gather(found)


def outdated_rows(
    results: Path, study: str, table: pd.DataFrame, stamps: Stamps | None
) -> list[str] | None:
    """Name the rows of a summary that the study would now make otherwise.

    It is None where that is not known.

    Args:
        results: the folder of all studies' results.
        study: whose rows.
        table: its summary.
        stamps: the digests in force; None where the study's file is not here.
    """
    if stamps is None:
        return None
    rows: list[dict[Any, Any]] = table[["cell", "inference"]].to_dict("records")
    current, names = (
        {f"{row['cell']} ({row['inference']})": None for row in found}
        for found in (up_to_date_rows(results / study, rows, stamps), rows)
    )
    return [name for name in names if name not in current]


def sentences(
    studies: Studies,
    comparison: pd.DataFrame,
    beside: Sequence[Differing],
    outdated: Mapping[str, Sequence[str] | None],
) -> list[str]:
    """Say in sentences what else differs, and which results studies would now make otherwise."""
    named = ", ".join(map(str, beside))
    lines = [f"Beside their settings they differ in: {named}."] if beside else []
    flagged = {name: int(comparison[name].notna().sum()) for name in ACROSS if name in comparison}
    if any(flagged.values()):
        said = (str(words).split(", ") for name in flagged for words in comparison[name].dropna())
        words = list(dict.fromkeys(word for each in said for word in each))
        lines.append(
            f"Not the models' alone: {flagged['train_across']} trainings and "
            f"{flagged['inference_across']} inferences were measured with {', '.join(words)}, so "
            "that ratios of their speed, energy, power and memory compare machines too."
        )
    for study in studies:
        names = outdated.get(study, ())
        if names is None:
            lines.append(
                f"Whether the results of {study} are those of its settings is not known: its file "
                "is not here."
            )
        elif names:
            lines.append(
                f"Not what {study} would make now: {len(names)} of its results were made with "
                "other settings, code or data than those of today; they are shown as they were "
                "made."
            )
    return lines


def sections(
    studies: Studies, beside: Sequence[Differing], outdated: Mapping[str, Sequence[str] | None]
) -> list[Section]:
    """Show what else differs, and which results the studies would now make otherwise."""
    note = (
        "As the results themselves say it, by the names of the summary's columns; what is not "
        "known is left out."
    )
    found = differing_section("What else differs", note, "what", studies, beside)
    old = [
        f"{study} ({len(names)}): {listed(names)}." for study, names in outdated.items() if names
    ]
    title = "Made with other settings, code or data than those of today"
    return [*found, *([Section(title, old)] if old else [])]


def differing_section(
    title: str, note: str, column: str, studies: Studies, differing: Sequence[Differing]
) -> list[Section]:
    """Lay out a table of what differs, if anything does, with both studies' values."""
    rows = [
        {column: each.name, studies[0]: one, studies[1]: other, "pairs of cells": str(each.pairs)}
        for each in differing
        for one, other in each.values
    ]
    if not rows:
        return []
    more = more_rows(rows, "rows are left out")
    return [Section(title, [note, Table(rows[:LISTED], [column, *studies]), *more])]
