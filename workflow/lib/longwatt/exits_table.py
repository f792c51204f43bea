"""The table of early exit, and its columns in the table of all cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longwatt import flags
from longwatt.columns import RELATIVE_TO_BASELINE
from longwatt.endings import marked
from longwatt.wording import beside_energy, number, random_weights, with_interval

KINDS = {"early_exit": "early exit"}  # the other kinds are words already
# What stands in the summary's table for classification, in the order of its columns; each only
# where a row has it.
SHOWN = {"macro_f1": "macro F1", "exit_rule": "exit", "mean_layers": "mean layers"}
# Axes that are shown where they tell rows apart.
APART = {"seq_len": "length (tokens)", "budget": "budget", "seed": "seed"}


def early_exits(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate accuracy, speed and energy of models with exits as text.

    Each cell and inference point has a row. Relative time and speed-up are seconds per example
    against the standard baseline at the same batch size. An unknown value is NA, and an estimated
    energy says so.

    Relative time and speed-up are seconds per example against the standard baseline at the same
    batch size. What is unknown is NA; an estimated energy says so.

    Args:
        summary: rows of a summary.csv whose columns know of exits.
        titles: how datasets, models and budgets are called.
    """
    table = summary[summary["exit_kind"].notna()]
    apart = {name: title for name, title in APART.items() if table[name].nunique() > 1}
    rows = [
        _row({str(k): v for k, v in row.items()}, titles, apart) for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def exit_columns(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Return the columns on classification in the table of all cells, row by row.

    The mappings are empty where no row has any of these columns.
    """
    known = [name for name in SHOWN if name in summary and summary[name].notna().any()]
    return [
        {
            SHOWN[name]: exit_in_words(row) if name == "exit_rule" else number(row[name])
            for name in known
        }
        for row in summary.to_dict("records")
    ]


def exit_in_words(row: Mapping[Any, Any]) -> str:
    """Write a point's exit rule with its value, or '' where it has none.

    An example is "threshold 0.9".
    """
    if _unknown(row, "exit_rule"):
        return ""
    value = "" if _unknown(row, "exit_value") else f" {float(row['exit_value']):g}"
    return f"{row['exit_rule']}{value}"


def _row(
    row: Mapping[str, Any], titles: Mapping[str, str], apart: Mapping[str, str]
) -> dict[str, str]:
    random = random_weights(row["initialisation"] == "random", brackets=True)
    return {
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "model": titles.get(row["model"], row["model"]) + random + marked(row),
        **{title: titles.get(str(row[name]), str(row[name])) for name, title in apart.items()},
        "kind": KINDS.get(row["exit_kind"], row["exit_kind"]),
        "classifiers after layers": str(row["exit_layers"]),
        "rule": row["exit_rule"] if not _unknown(row, "exit_rule") else "",
        "value": "" if _unknown(row, "exit_value") else f"{float(row['exit_value']):g}",
        "batch size": number(row["inference_batch_size"], ".0f"),
        "accuracy (%)": _with_interval(row, "accuracy", ".1f"),
        "macro F1 (%)": _with_interval(row, "macro_f1", ".1f"),
        "mean layers": number(row["mean_layers"], ".2f"),
        "relative time": _with_interval(row, "relative_time", ".2f")
        + _across(row, "relative_time"),
        "speed-up": _speed_up(row) + _across(row, "relative_time"),
        "speed-up at equal accuracy": _with_interval(row, "speedup_at_equal_accuracy", ".2f")
        + _across(row, "speedup_at_equal_accuracy"),
        "J/example": _joules(row),
        "ms/example": _milliseconds(row),
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


def _speed_up(row: Mapping[str, Any]) -> str:
    return number(None if not row["relative_time"] > 0 else 1 / row["relative_time"], ".2f")


def _milliseconds(row: Mapping[str, Any]) -> str:
    speed = row["inference_samples_per_second"]
    return number(None if not speed > 0 else 1000 / speed, ".2f")


def _joules(row: Mapping[str, Any]) -> str:
    estimated = (
        not _unknown(row, "joules_per_example") and row["inference_energy_source"] == "estimate"
    )
    said = flags.split(row.get("inference_energy_flags"))
    return number(row["joules_per_example"], ".3f") + beside_energy(estimated, said)
