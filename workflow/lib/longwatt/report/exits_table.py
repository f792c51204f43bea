"""The table of early exit, and its columns in the table of all cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longwatt.energy import flags
from longwatt.jobs.endings import marked
from longwatt.layout.wording import beside_energy, number, random_weights, with_interval
from longwatt.results.differences import threads_in_words
from longwatt.results.series import records
from longwatt.study.summary_columns import RELATIVE_TO_BASELINE

KIND_WORDS = {"early_exit": "early exit"}  # the other kinds are words already
# Columns of the summary's table on classification, in order, each only where a row has it.
SHOWN_COLUMNS = {"macro_f1": "macro F1", "exit_rule": "exit", "mean_layers": "mean layers"}
# Axes that are shown where they tell rows apart.
CAPTION_OF_COLUMN = {"seq_len": "length (tokens)", "budget": "budget", "seed": "seed"}


def early_exits(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate models with exits as text, one row per cell and inference point.

    Relative time and speed-up are seconds per example against the standard baseline at the same
    batch size. An unknown value is NA, and an estimated energy says so.

    Args:
        summary: rows of a summary.csv whose columns know of exits.
        titles: how datasets, models and budgets are called.
    """
    table = summary[summary["exit_kind"].notna()]
    apart = {name: title for name, title in CAPTION_OF_COLUMN.items() if table[name].nunique() > 1}
    return pd.DataFrame([_row(row, titles, apart) for row in records(table)])


def exit_columns(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Return each row's texts on classification, for columns that any row has."""
    known = [name for name in SHOWN_COLUMNS if name in summary and summary[name].notna().any()]
    return [
        {
            SHOWN_COLUMNS[name]: exit_in_words(row) if name == "exit_rule" else number(row[name])
            for name in known
        }
        for row in summary.to_dict("records")
    ]


def exit_in_words(row: Mapping[Any, Any]) -> str:
    """Write a point's exit rule and value, such as threshold 0.9, or ''."""
    if _unknown(row, "exit_rule"):
        return ""
    return " ".join(filter(None, (str(row["exit_rule"]), _value(row))))


def _value(row: Mapping[Any, Any]) -> str:
    return "" if _unknown(row, "exit_value") else f"{float(row['exit_value']):g}"


def _row(
    row: Mapping[str, Any], titles: Mapping[str, str], apart: Mapping[str, str]
) -> dict[str, str]:
    random = random_weights(row["initialisation"] == "random", brackets=True)
    time, speed = row["relative_time"], row["inference_samples_per_second"]
    across = _across(row, "relative_time")
    estimated = row["inference_energy_source"] == "estimate"
    said = beside_energy(
        estimated and not _unknown(row, "joules_per_example"),
        flags.split(row.get("inference_energy_flags")),
    )
    return {
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "model": titles.get(row["model"], row["model"]) + random + marked(row),
        **{title: titles.get(str(row[name]), str(row[name])) for name, title in apart.items()},
        "kind": KIND_WORDS.get(row["exit_kind"], row["exit_kind"]),
        "classifiers after layers": str(row["exit_layers"]),
        "rule": "" if _unknown(row, "exit_rule") else row["exit_rule"],
        "value": _value(row),
        "batch size": number(row["inference_batch_size"], ".0f"),
        "accuracy (%)": _with_interval(row, "accuracy", ".1f"),
        "macro F1 (%)": _with_interval(row, "macro_f1", ".1f"),
        "mean layers": number(row["mean_layers"], ".2f"),
        "relative time": _with_interval(row, "relative_time", ".2f") + across,
        "speed-up": number(1 / time if time > 0 else None, ".2f") + across,
        "speed-up at equal accuracy": _with_interval(row, "speedup_at_equal_accuracy", ".2f")
        + _across(row, "speedup_at_equal_accuracy"),
        "J/example": number(row["joules_per_example"], ".3f") + said,
        "ms/example": number(1000 / speed if speed > 0 else None, ".2f"),
        "threads": threads_in_words(row),
    }


def _unknown(row: Mapping[Any, Any], column: str) -> bool:
    return bool(pd.isna(row.get(column)))


def _with_interval(row: Mapping[str, Any], column: str, shape: str) -> str:
    # The summary has a headline's interval only as the score's.
    ends = "score" if row["score_name"] == column else column
    low, high = (row.get(f"{ends}_ci_{end}") for end in ("low", "high"))
    return with_interval(row.get(column), low, high, shape)


def _across(row: Mapping[str, Any], column: str) -> str:
    """Return a note on how the machine of a relative time's baseline differs."""
    across = RELATIVE_TO_BASELINE[column]
    return "" if _unknown(row, column) or _unknown(row, across) else f" (baseline: {row[across]})"
