"""Read points from a CSV of results that longwatt did not make."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from longwatt.answer.points import AnswerPoint
from longwatt.energy.reduction.reduce import ESTIMATE
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
LARGEST_KNOWN = 1e15  # beyond it sums over requests would not be finite
WHOLE_FILE = "results"  # the dataset of a file that names none


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
    lines, rows = _rows(path)
    read = [_numbers(path, line, row) for line, row in zip(lines, rows, strict=True)]
    if all(numbers["score"] <= 1 for numbers in read) and any(one["score"] for one in read):
        raise UnreadableResults(f"{path}: no score is above 1; give them from 0 to 100")
    groups: dict[str, list[tuple[Mapping[str, str], Mapping[str, float]]]] = {}
    for row, numbers in zip(rows, read, strict=True):
        groups.setdefault(_name(row), []).append((row, numbers))
    return [_point(path, name, own) for name, own in groups.items()]


def _rows(path: Path) -> tuple[list[int], list[dict[str, str]]]:
    """Read the rows of a CSV, and the numbers of their lines."""
    reader = csv.reader(_text(path).splitlines(keepends=True))
    head = [name.strip() for name in next(reader, [])]
    if head:
        _check_columns(path, head)
    lines, rows = [], []
    for fields in reader:
        own = [field.strip() for field in fields]
        if not any(own):
            continue  # spreadsheets end with blank rows
        if len(own) > len(head):
            raise UnreadableResults(
                f"{path}, line {reader.line_num}: {len(own)} fields under {len(head)} columns; "
                "write decimals with a point, and put text with commas in quotes"
            )
        own = ["" if field == NA else field for field in own]
        lines.append(reader.line_num)
        rows.append(dict.fromkeys(head, "") | dict(zip(head, own, strict=False)))
    if not rows:
        raise UnreadableResults(f"{path} holds no rows below a line of column names")
    return lines, rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets begin a file with a mark
    except UnicodeDecodeError:
        raise UnreadableResults(f"{path} is not in UTF-8; save it as CSV UTF-8") from None
    except OSError as error:
        raise UnreadableResults(f"{path} is not there, or not readable: {error.strerror}") from None


def _check_columns(path: Path, head: Sequence[str]) -> None:
    if len(head) == 1 and ";" in head[0]:
        raise UnreadableResults(f"{path} is parted by semicolons; save it with commas instead")
    for name in head:
        if head.count(name) > 1:
            raise UnreadableResults(f"{path}: the column {name!r} is there twice; remove one")
        if name not in IMPORTED_COLUMNS:
            hint = nearest(str(name), IMPORTED_COLUMNS)
            known = ", ".join(IMPORTED_COLUMNS)
            raise UnreadableResults(f"{path}: unknown column {name!r}{hint}; there are {known}")
    for name in NEEDED:
        if name not in head:
            raise UnreadableResults(f"{path}: the column {name!r} is missing")


def _numbers(path: Path, line: int, row: Mapping[str, str]) -> dict[str, float]:
    """Read the numbers of a row, without those that it does not say."""
    found = {}
    for name in ("score", *NUMBER_FIELDS):
        text = row.get(name, "")
        if not text and name not in NEEDED:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        highest = FULL_SCORE if name.startswith("score") else math.inf
        if not (math.isfinite(value) and 0 <= value <= highest):
            most = f"0 to {highest:g}" if highest < math.inf else "0 or more"
            raise UnreadableResults(f"{path}, line {line}: {name} is {text!r}, not {most}")
        if value > LARGEST_KNOWN:
            raise UnreadableResults(
                f"{path}, line {line}: {name} is {text}, which no result can be"
            )
        found[name] = value
    _check_ends(path, line, found)
    if not row["model"]:
        raise UnreadableResults(f"{path}, line {line}: the model has no name")
    if row.get("energy", "") not in ENERGY_WORDS:
        kinds = f"{MEASURED} or {ESTIMATE}"
        raise UnreadableResults(f"{path}, line {line}: energy is {row['energy']!r}, not {kinds}")
    return found


def _check_ends(path: Path, line: int, numbers: Mapping[str, float]) -> None:
    low, high = (numbers.get(f"score_{end}") for end in ("low", "high"))
    if (low is None) != (high is None):
        raise UnreadableResults(
            f"{path}, line {line}: of score_low and score_high one is missing; give both or none"
        )
    if low is not None and high is not None and not low <= numbers["score"] <= high:
        raise UnreadableResults(
            f"{path}, line {line}: the score {numbers['score']:g} is not between score_low "
            f"{low:g} and score_high {high:g}"
        )


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
    if len({row.get("score_name") for row, _ in own}) > 1:
        several = f"the rows of {name} have several score_name"
        raise UnreadableResults(f"{path}: {several}; a dataset's scores are of one metric")
    low, high = _ends(every)
    said = {ENERGY_WORDS[row.get("energy", "")] for row, _ in own}
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
        low=low,
        high=high,
        score_name=row.get("score_name") or "score",
        parts=parts,
        examples=int(numbers["n_examples"]) if "n_examples" in numbers else None,
        imported=True,
        energy_source=next(iter(said)) if len(said) == 1 else ESTIMATE,
    )


def _ends(every: Sequence[Mapping[str, float]]) -> tuple[float, float] | tuple[None, None]:
    """Find a score's interval, over examples and seeds where both are known."""
    scores = [one["score"] for one in every]
    mean, low, high = (_mean(every, name) for name in ("score", "score_low", "score_high"))
    assert mean is not None, "every row has a score"
    halves = [] if low is None or high is None else [(mean - low, high - mean)]
    if len(scores) > 1:
        lower, upper = over_seeds(scores)
        halves.append((mean - lower, upper - mean))
    if not halves:
        return None, None
    below, above = (math.hypot(*sides) for sides in zip(*halves, strict=True))
    return of_a_score(mean - below, mean + above)


def _mean(every: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [one[name] for one in every if name in one]
    return sum(values) / len(values) if len(values) == len(every) else None
