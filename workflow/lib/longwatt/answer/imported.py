"""Read points from a CSV of results that longwatt did not make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from longwatt.answer.points import AnswerPoint
from longwatt.energy.reduction.reduce import ESTIMATE
from longwatt.freshness.summary_file import csv_rows
from longwatt.layout.wording import NA
from longwatt.metrics.resampling import FULL_SCORE
from longwatt.metrics.seed_intervals import of_a_score, over_seeds
from longwatt.results.life_cycle import MEASURED, CostParts
from longwatt.spelling import nearest

# Columns of costs -> the part of a cell's costs.
COST_PARTS = {
    "train_kwh": "train_kwh",
    "joules_per_request": "joules",
    "ms_per_request": "ms",
    "memory_gib": "gib",
    "cost": "train_money",
    "cost_per_request": "request_money",
}
NEEDED = ("model", "score")
TEXT_COLUMNS = ("dataset", "score_name", "budget", "seed", "energy")
NUMBER_FIELDS = ("seq_len", "n_examples", "score_low", "score_high", *COST_PARTS)
IMPORTED_COLUMNS = (*NEEDED, *TEXT_COLUMNS, *NUMBER_FIELDS)
ENERGY_WORDS = {"": None, ESTIMATE: ESTIMATE, MEASURED: MEASURED}
WHOLE_FILE = "results"  # the dataset of a file that names none
NOT_SAID = ("", NA)


class UnreadableResults(ValueError):
    """A CSV of results that cannot be read.

    The message names the row and column.
    """


def read_imported(path: Path) -> list[AnswerPoint]:
    """Read a CSV with a row for each result, or for each seed of one.

    Args:
        path: with the columns IMPORTED_COLUMNS, of which NEEDED must be there.

    Raises:
        UnreadableResults: names what is wrong, and where.
    """
    rows = [_stripped(row) for row in csv_rows(path)]
    if not rows:
        raise UnreadableResults(f"{path} is not there, or holds no rows of a CSV")
    _check_columns(path, rows[0])
    read = [_numbers(path, line, row) for line, row in enumerate(rows, 2)]
    if all(numbers["score"] <= 1 for numbers in read) and any(one["score"] for one in read):
        raise UnreadableResults(f"{path}: no score is above 1; give them from 0 to 100")
    groups: dict[str, list[tuple[Mapping[str, str], Mapping[str, float]]]] = {}
    for row, numbers in zip(rows, read, strict=True):
        groups.setdefault(_name(row), []).append((row, numbers))
    return [_point(path, name, own) for name, own in groups.items()]


def _stripped(row: Mapping[str, str]) -> dict[str, str]:
    """Drop white space around names and values, and the mark that begins Excel's files."""
    return {
        str(name).removeprefix("\ufeff").strip(): value.strip() if isinstance(value, str) else value
        for name, value in row.items()
    }


def _check_columns(path: Path, row: Mapping[str, str]) -> None:
    for name in row:
        if name not in IMPORTED_COLUMNS:
            hint = nearest(str(name), IMPORTED_COLUMNS)
            known = ", ".join(IMPORTED_COLUMNS)
            raise UnreadableResults(f"{path}: unknown column {name!r}{hint}; there are {known}")
    for name in NEEDED:
        if name not in row:
            raise UnreadableResults(f"{path}: the column {name!r} is missing")


def _numbers(path: Path, line: int, row: Mapping[str, str | None]) -> dict[str, float]:
    """Read the numbers of a row, without those that it does not say."""
    found = {}
    for name in ("score", *NUMBER_FIELDS):
        text = (row.get(name) or "").strip()
        if text in NOT_SAID and name not in NEEDED:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        highest = FULL_SCORE if name.startswith("score") else math.inf
        if not (math.isfinite(value) and 0 <= value <= highest):
            most = f"0 to {highest:g}" if highest < math.inf else "0 or more"
            raise UnreadableResults(f"{path}, line {line}: {name} is {text!r}, not {most}")
        found[name] = value
    if found.get("score_low", 0.0) > found.get("score_high", math.inf):
        raise UnreadableResults(f"{path}, line {line}: score_low is above score_high")
    if not (row.get("model") or "").strip():
        raise UnreadableResults(f"{path}, line {line}: the model has no name")
    if (row.get("energy") or "").strip() not in ENERGY_WORDS:
        kinds = f"{MEASURED} or {ESTIMATE}"
        raise UnreadableResults(f"{path}, line {line}: energy is {row['energy']!r}, not {kinds}")
    return found


def _name(row: Mapping[str, str]) -> str:
    return "/".join(filter(None, [row.get("dataset") or WHOLE_FILE, row["model"],
                                  row.get("seq_len"), row.get("budget")]))  # fmt: skip


def _point(
    path: Path, name: str, own: Sequence[tuple[Mapping[str, str], Mapping[str, float]]]
) -> AnswerPoint:
    """Make a point of the rows of its seeds."""
    (row, numbers), every = own[0], [numbers for _, numbers in own]
    seeds = [row.get("seed") or "" for row, _ in own]
    if len(set(seeds)) < len(seeds):
        same = f"two rows of {name} have the seed {seeds[0]!r}"
        raise UnreadableResults(f"{path}: {same}; a row is one result, or one seed of it")
    ends = [_mean(every, end) for end in ("score_low", "score_high")]
    if None in ends and len(every) > 1:
        ends = list(of_a_score(*over_seeds([one["score"] for one in every])))
    said = {ENERGY_WORDS[(row.get("energy") or "").strip()] for row, _ in own}
    parts = [
        CostParts(**{part: one[column] for column, part in COST_PARTS.items() if column in one})
        for one in every
    ]
    return AnswerPoint(
        id=name,
        dataset=row.get("dataset") or WHOLE_FILE,
        model=row["model"],
        seq_len=int(numbers["seq_len"]) if "seq_len" in numbers else None,
        budget=row.get("budget") or "",
        seeds=tuple(filter(None, seeds)),
        score=sum(one["score"] for one in every) / len(every),
        low=ends[0],
        high=ends[1],
        score_name=row.get("score_name") or "score",
        parts=parts,
        examples=int(numbers["n_examples"]) if "n_examples" in numbers else None,
        imported=True,
        energy_source=next(iter(said)) if len(said) == 1 else ESTIMATE,
    )


def _mean(every: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [one[name] for one in every if name in one]
    return sum(values) / len(values) if len(values) == len(every) else None
