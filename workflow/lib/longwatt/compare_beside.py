"""What else differs between two studies' cells: machines, data, weights, code, and what the studies say by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.columns import ENVIRONMENT, INFERENCE
from longwatt.compare_settings import Differing
from longwatt.differences import between, unlike_words
from longwatt.outdated import Stamps
from longwatt.pages import Section, Table
from longwatt.status import up_to_date_rows
from longwatt.wording import LISTED, listed

Pairs = Sequence[tuple[pd.DataFrame, pd.DataFrame]]
# Column of a comparison -> the columns of a summary by which its two sides were measured on other machines.
ACROSS = {
    "train_across": ENVIRONMENT,
    "inference_across": tuple(f"{INFERENCE}{name}" for name in ENVIRONMENT),
}
MARK = "*"  # behind a ratio whose two sides were measured on other machines
MARKED = (
    f"{MARK} the two sides were measured on other devices, processors or thread counts, as the note says: the ratio is "
    "not the models' alone."
)


def across(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, str | None]:
    """Say in what the machines of a pair's trainings and inferences differ; None where in nothing that is known.

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
        pairs: rows of both summaries, as `longwatt.compare.Pair`.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for first, second in pairs:
        for name, values in between(first.to_dict("records"), second.to_dict("records")).items():
            found.setdefault(name, []).append(values)
    return [
        Differing(name, list(dict.fromkeys(values)), len(values)) for name, values in found.items()
    ]


def outdated_rows(
    results: Path, study: str, table: pd.DataFrame, stamps: Stamps | None
) -> list[str] | None:
    """Name the rows of a summary that the study as it is now would make otherwise; None where that is not known.

    Args:
        results: the folder of all studies' results.
        study: whose rows.
        table: its summary.
        stamps: the digests in force; None where the study's file is not here.
    """
    if stamps is None:
        return None
    rows: list[dict[Any, Any]] = table[["cell", "inference"]].to_dict("records")
    current = {
        (row["cell"], row["inference"]) for row in up_to_date_rows(results / study, rows, stamps)
    }
    names = [(row["cell"], row["inference"]) for row in rows]
    return [
        f"{cell} ({inference})" for cell, inference in names if (cell, inference) not in current
    ]


def sentences(
    studies: tuple[str, str],
    comparison: pd.DataFrame,
    beside: Sequence[Differing],
    outdated: Mapping[str, Sequence[str] | None],
) -> list[str]:
    """Say in sentences what else differs, and which results the studies would make otherwise by now."""
    named = ", ".join(map(str, beside))
    lines = [f"Beside their settings they differ in: {named}."] if beside else []
    flagged = {name: int(comparison[name].notna().sum()) for name in ACROSS if name in comparison}
    if any(flagged.values()):
        said = (str(words).split(", ") for name in flagged for words in comparison[name].dropna())
        words = list(dict.fromkeys(word for each in said for word in each))
        lines.append(
            f"Not the models' alone: {flagged['train_across']} trainings and {flagged['inference_across']} inferences "
            f"were measured with {', '.join(words)}, so that ratios of their speed, energy, power and memory compare "
            "machines too."
        )
    for study in studies:
        names = outdated.get(study, ())
        if names is None:
            lines.append(
                f"Whether the results of {study} are those of its settings is not known: its file is not here."
            )
        elif names:
            lines.append(
                f"Not what {study} would make now: {len(names)} of its results were made with other settings, code or "
                "data than those of today; they are shown as they were made."
            )
    return lines


def sections(
    studies: tuple[str, str],
    beside: Sequence[Differing],
    outdated: Mapping[str, Sequence[str] | None],
) -> list[Section]:
    """Show what else differs, and which results the studies would make otherwise by now."""
    rows = [
        {"what": each.name, studies[0]: one, studies[1]: other, "pairs of cells": str(each.pairs)}
        for each in beside
        for one, other in each.values
    ]
    found = []
    if rows:
        note = "As the results themselves say it, by the names of the summary's columns; what is not known is left out."
        found.append(Section("What else differs", [note, Table(rows[:LISTED], ["what", *studies])]))
    old = [
        f"{study} ({len(names)}): {listed(names)}." for study, names in outdated.items() if names
    ]
    return [
        *found,
        *(
            [Section("Made with other settings, code or data than those of today", old)]
            if old
            else []
        ),
    ]


def notes(row: Mapping[Any, Any]) -> list[str]:
    """Say beside a pair in what the machines of its two sides differ."""
    parts = {"training": row.get("train_across"), "inference": row.get("inference_across")}
    return [f"{part}: {words}" for part, words in parts.items() if isinstance(words, str)]
