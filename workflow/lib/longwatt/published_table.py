"""Published scores in their own layout, beside those of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longwatt import published as theirs
from longwatt.batch_sizes import trained
from longwatt.endings import DIVERGED
from longwatt.points import beside_published, place_of
from longwatt.table_files import caption_of, captioned, grouped
from longwatt.wording import NA, interval, number, random_weights

OTHER_PROTOCOL = "other protocol"
SHAPE, DIFFERENCE = ".2f", "+.2f"  # of published scores, and of what differs from them
Row = Mapping[str, Any]


def published_scores(
    summary: pd.DataFrame, published: Mapping[str, Any], titles: Mapping[str, str]
) -> pd.DataFrame:
    """Tabulate published scores beside the study's, with a block of columns per budget.

    Each dataset, model, length, protocol and inference point has a row. A budget's columns are
    COLUMNS.

    Args:
        summary: rows of a summary.csv.
        published: a study's `published`.
        titles: how datasets, models and budgets are called.
    """
    found = beside_published(summary, published)
    batches, budgets = trained(summary), list(dict.fromkeys(found["budget"]))
    rows = []
    for _, group in found.groupby(
        ["dataset", "model", "seq_len", "protocol", "inference"], sort=False
    ):
        points = [
            {str(key): value for key, value in point.items()} for point in group.to_dict("records")
        ]
        by_budget = {point["budget"]: point for point in points}
        row = _head(points[0], published, titles)
        for name in budgets:
            texts = _beside(by_budget[name], published, batches) if name in by_budget else {}
            row |= {(titles.get(name, name), column): texts.get(column, "") for column in COLUMNS}
        rows.append(row)
    table = _without_alike(pd.DataFrame(rows))
    return captioned(grouped(table), caption_of(table))


CAPTION = ("table", "model", "protocol", "inference")  # columns of which one value needs no column
COLUMNS = ("batch", "published", "ours", "difference", "in our interval")


def _head(
    row: Row, published: Mapping[str, Any], titles: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Return the cells that say what a row is about."""
    other = (
        "" if row["protocol"] == published["protocol"] else f" (published: {published['protocol']})"
    )
    texts = {
        "table": theirs.tables(published).get(place_of(row), ""),
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "metric": row["score_name"].replace("_", " ") or NA,
        "length (tokens)": str(row["seq_len"]),
        "model": titles.get(row["model"], row["model"])
        + random_weights(row["initialisation"] == "random"),
        "protocol": row["protocol"] + other,
        "inference": row["inference"],
    }
    return {("", name): text for name, text in texts.items()}


def _beside(
    row: Row, published: Mapping[str, Any], batches: Mapping[tuple[Any, ...], str]
) -> dict[str, str]:
    """Return the cells of one budget."""
    place = place_of(row)
    return {
        "batch": _batch(
            batches.get((*place, row["protocol"]), NA), theirs.batch_sizes(published).get(place)
        ),
        "published": number(row["published"], SHAPE),
        "ours": _beside_span(row, 0, SHAPE, f", {DIVERGED}" if row["diverged"] else ""),
        "difference": _difference(row, published),
        "in our interval": _held(row),
    }


def _batch(ours: str, published: int | None) -> str:
    return (
        ours if published is None or ours == str(published) else f"{ours} (published: {published})"
    )


def _difference(row: Row, published: Mapping[str, Any]) -> str:
    word = "" if row["protocol"] == published["protocol"] else f", {OTHER_PROTOCOL}"
    return _beside_span(row, row["published"], DIFFERENCE, word)


def _beside_span(row: Row, less: float, shape: str, word: str) -> str:
    """Write a score less a number, with its interval and a word behind it."""
    score, low, high = (row[name] - less for name in ("score", "low", "high"))
    span = NA if pd.isna(low) else interval(low, high, shape)
    return NA if pd.isna(score) else f"{number(score, shape)} ({span}){word}"


def _held(row: Row) -> str:
    """Say whether our interval holds the published value."""
    if pd.isna(row["low"]):
        return NA
    return "yes" if row["low"] <= row["published"] <= row["high"] else "no"


def _without_alike(table: pd.DataFrame) -> pd.DataFrame:
    """Drop columns that are equal in every row, and name their values in the caption.

    The inference point is dropped without a word.
    """
    alike = [name for name in CAPTION if table[("", name)].nunique() == 1]
    said = {name: table[("", name)].iloc[0] for name in alike if name != "inference"}
    caption = "; ".join(f"{name}: {text}" for name, text in said.items() if text)
    return captioned(table.drop(columns=[("", name) for name in alike]), caption)
