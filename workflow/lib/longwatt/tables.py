"""The summary as people read it: one table with units, as Markdown, HTML and CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.provenance import sha256, write_json
from longwatt.summary import read_summary

NA = "NA"
STYLE = (
    "body{font:14px sans-serif;margin:1.5em}table{border-collapse:collapse}"
    "th,td{padding:.35em .8em;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}"
    "th:nth-child(-n+3),td:nth-child(-n+3){text-align:left}th{border-bottom:2px solid #666}"
)


def readable(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Texts of the columns that matter most, one row per cell and inference point.

    An estimated energy says so in its cell; what is unknown is NA.
    """
    rows = [_row({str(k): v for k, v in row.items()}, titles) for row in summary.to_dict("records")]
    table = pd.DataFrame(rows)
    # A column that says the same of every row and is a setting tells a reader nothing.
    alike = [name for name in ("budget", "protocol", "seed", "inference") if table[name].nunique() == 1]
    return table.drop(columns=alike)


def write_tables(summary: Path, folder: Path, titles: Mapping[str, str], provenance: Any) -> None:
    """Write `summary.md`, `summary.html`, `summary.csv` and `tables.json` into `folder`.

    Args:
        summary: a summary.csv; its digest is recorded, so that a report can tell whether it shows what this made.
        folder: made if it is not there.
        titles: how datasets and models are called.
        provenance: the stamp of tables.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = readable(read_summary(summary), titles)
    page = f"<!doctype html><meta charset='utf-8'><title>Summary</title><style>{STYLE}</style>"
    (folder / "summary.html").write_text(page + table.to_html(index=False, border=0), encoding="utf-8")
    (folder / "summary.md").write_text(_markdown(table), encoding="utf-8")
    table.to_csv(folder / "summary.csv", index=False)
    write_json(
        folder / "tables.json", {"rows": len(table), "summary_sha256": sha256(summary), "provenance": provenance}
    )


def _row(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, str]:
    random = " (random weights)" if row["initialisation"] == "random" else ""
    return {
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "model": titles.get(row["model"], row["model"]) + random,
        "length (tokens)": str(row["seq_len"]),
        **{name: str(row[name]) for name in ("budget", "protocol", "seed", "inference")},
        "metric": row["score_name"],
        "score": _number(row["score"]),
        "95 % interval": f"{_number(row['score_ci_low'])} to {_number(row['score_ci_high'])}",
        "ceiling": _number(row["score_ceiling"]),
        "training (s)": _number(row["train_runtime_s"]),
        "of it validations (s)": _number(row["validation_s"]),
        "training energy (Wh)": _energy(row),
        "training (samples/s)": _number(row["train_samples_per_second"]),
        "inference (samples/s)": _number(row["inference_samples_per_second"]),
        "peak memory (GiB)": _number(row["peak_memory_gib"], 2),
        "steps": str(row["steps"]),
    }


def _energy(row: Mapping[str, Any]) -> str:
    if pd.isna(row["train_energy_kwh"]):
        return NA
    word = " (estimated)" if row["train_energy_source"] == "estimate" else ""
    return _number(1000 * row["train_energy_kwh"], 3) + word


def _number(value: Any, digits: int = 1) -> str:
    return NA if value is None or pd.isna(value) else f"{value:.{digits}f}"


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
