"""Published scores in their own layout, beside those of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longwatt.jobs.endings import DIVERGED
from longwatt.layout.table_files import caption_of, captioned, grouped
from longwatt.layout.wording import NA, interval, number, random_weights
from longwatt.report.batch_sizes_table import trained
from longwatt.results.series import beside_published, place_of, records
from longwatt.study.reported import published as theirs

OTHER_PROTOCOL = "other protocol"
SHAPE, PUBLISHED_DIFFERENCE = ".2f", "+.2f"  # of published scores, and of what differs from them
SummaryRow = Mapping[str, Any]


def published_scores(
    summary: pd.DataFrame, published: Mapping[str, Any], titles: Mapping[str, str]
) -> pd.DataFrame:
    """Tabulate published scores beside the study's, with the columns COLUMNS per budget.

    Each dataset, model, length, protocol and inference point has a row.

    Args:
        summary: rows of a summary.csv.
        published: a study's `published`.
        titles: how datasets, models and budgets are called.
    """
    found = beside_published(summary, published)
    batches, budgets = trained(summary), list(dict.fromkeys(found["budget"]))
    rows = []
    axes = ["dataset", "model", "seq_len", "protocol", "inference"]
    for _, group in found.groupby(axes, sort=False):
        points = records(group)
        by_budget = {point["budget"]: point for point in points}
        row = _head(points[0], published, titles)
        for name in budgets:
            texts = _beside(by_budget[name], published, batches) if name in by_budget else {}
            title = titles.get(name, name)
            row |= {(title, column): texts.get(column, "") for column in PUBLISHED_COLUMNS}
        rows.append(row)
    table = _without_alike(pd.DataFrame(rows))
    return captioned(grouped(table), caption_of(table))


# Columns that are left out where all rows have the same.
CAPTION_COLUMNS = ("table", "model", "protocol", "inference")
PUBLISHED_COLUMNS = ("batch", "published", "ours", "difference", "in our interval")


def _head(
    row: SummaryRow, published: Mapping[str, Any], titles: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Return the cells that say what a row is about."""
    other = f" (published: {published['protocol']})"
    random = random_weights(row["initialisation"] == "random")
    texts = {
        "table": theirs.published_tables(published).get(place_of(row), ""),
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "metric": row["score_name"].replace("_", " ") or NA,
        "length (tokens)": str(row["seq_len"]),
        "model": titles.get(row["model"], row["model"]) + random,
        "protocol": row["protocol"] + ("" if row["protocol"] == published["protocol"] else other),
        "inference": row["inference"],
    }
    return {("", name): text for name, text in texts.items()}


def _beside(
    row: SummaryRow, published: Mapping[str, Any], batches: Mapping[tuple[Any, ...], str]
) -> dict[str, str]:
    """Return the cells of one budget."""
    place = place_of(row)
    batch = batches.get((*place, row["protocol"]), NA)
    other = theirs.published_batch_sizes(published).get(place)
    if other is not None and batch != str(other):
        batch = f"{batch} (published: {other})"
    word = "" if row["protocol"] == published["protocol"] else f", {OTHER_PROTOCOL}"
    held = "yes" if row["low"] <= row["published"] <= row["high"] else "no"
    return {
        "batch": batch,
        "published": number(row["published"], SHAPE),
        "ours": _beside_span(row, 0, SHAPE, f", {DIVERGED}" if row["diverged"] else ""),
        "difference": _beside_span(row, row["published"], PUBLISHED_DIFFERENCE, word),
        "in our interval": NA if pd.isna(row["low"]) else held,
    }


def _beside_span(row: SummaryRow, less: float, shape: str, word: str) -> str:
    """Write a score less a number, with its interval and a word behind it."""
    score, low, high = (row[name] - less for name in ("score", "low", "high"))
    span = NA if pd.isna(low) else interval(low, high, shape)
    return NA if pd.isna(score) else f"{number(score, shape)} ({span}){word}"


def _without_alike(table: pd.DataFrame) -> pd.DataFrame:
    """Drop columns with one value, which the caption names but for the inference point's."""
    alike = [name for name in CAPTION_COLUMNS if table[("", name)].nunique() == 1]
    said = {name: table[("", name)].iloc[0] for name in alike if name != "inference"}
    caption = "; ".join(f"{name}: {text}" for name, text in said.items() if text)
    return captioned(table.drop(columns=[("", name) for name in alike]), caption)
