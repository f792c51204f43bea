"""A study's tables as people read them, as Markdown, HTML and CSV: all cells, scores by length, datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.points import SERIES, interval, series_name, with_series
from longwatt.provenance import sha256, whole_file, write_json
from longwatt.summary import read_summary

NA = "NA"
STYLE = (
    "body{font:14px sans-serif;margin:1.5em}table{border-collapse:collapse}"
    "th,td{padding:.35em .8em;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}"
    "th{border-bottom:2px solid #666}"
)
PARTS = ("train", "inference")
WH_COLUMNS = {
    "train_steps": "of it steps (Wh)",
    "validation": "of it validations (Wh)",
    "checkpoint": "of it checkpoints (Wh)",
    "train_net": "training above idle (Wh)",
    "wasted": "wasted (Wh)",
}
SPLITS = ("train", "validation", "test")


def readable(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Texts of the columns that matter most, one row per cell and inference point.

    An estimated energy says so in its cell; what is unknown is NA.
    """
    rows = [_row({str(k): v for k, v in row.items()}, titles) for row in summary.to_dict("records")]
    return _without_alike(pd.DataFrame(rows))


def scores_by_length(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Scores with 95 % intervals: a row per dataset and series, a column per input length, and the lead baseline."""
    table = with_series(summary)
    lengths = sorted(table["seq_len"].unique())
    rows = []
    for key, group in table.groupby(["dataset", *SERIES], sort=False):
        dataset, *series = (str(part) for part in key)
        by_length = {length: group[group["seq_len"] == length] for length in lengths}
        rows.append(
            {
                "dataset": titles.get(dataset, dataset),
                "model": series_name(tuple(series), titles, table),
                "metric": group["score_name"].iloc[0],
                **{str(length): _score(found) for length, found in by_length.items()},
                "lead baseline": _number(group["score_lead"].iloc[0]),
            }
        )
    return pd.DataFrame(rows)


def energies(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Texts of what training and inference took, one row per cell and inference point; what is unknown is NA."""
    table = pd.DataFrame(
        [_energy_row({str(k): v for k, v in row.items()}, titles) for row in summary.to_dict("records")]
    )
    return _without_alike(table)


def dataset_statistics(facts: Sequence[Mapping[str, str]], titles: Mapping[str, str]) -> pd.DataFrame:
    """What the data in use are: a row per dataset and tokenizer; one whose files are not there yet is left out.

    Args:
        facts: as `longwatt.stages.Stages.dataset_facts`.
        titles: how datasets are called.
    """
    there = [fact for fact in facts if Path(fact["records"]).exists() and Path(fact["tokens"]).exists()]
    columns = ["dataset", "metric", "rows", "words in", "words out", "train/validation/test rows"]
    columns += ["tokenizer", "tokens in", "most tokens in"]
    return pd.DataFrame([_dataset(fact, titles) for fact in there], columns=columns)


def write_tables(summary: Path, folder: Path, settings: Mapping[str, Any], provenance: Any) -> None:
    """Write every table of `longwatt.stages.TABLES` as .html, .md and .csv, and `tables.json`, into `folder`.

    Args:
        summary: a summary.csv; its digest is recorded, so that a report can tell whether it shows what this made.
        folder: made if it is not there.
        settings: `titles` (how datasets and models are called) and `datasets` (`longwatt.stages.Stages.dataset_facts`).
        provenance: the stamp of tables.json.
    """
    table, titles = read_summary(summary), settings["titles"]
    tables = {
        "summary": readable(table, titles),
        "scores": scores_by_length(table, titles),
        "energy": energies(table, titles),
        "datasets": dataset_statistics(settings["datasets"], titles),
    }
    for name, found in tables.items():
        _write(folder, name, found)
    write_json(
        folder / "tables.json", {"rows": len(table), "summary_sha256": sha256(summary), "provenance": provenance}
    )


def _write(folder: Path, name: str, table: pd.DataFrame) -> None:
    for kind, text in (("html", _html(name, table)), ("md", _markdown(table)), ("csv", table.to_csv(index=False))):
        with whole_file(folder / f"{name}.{kind}", newline="") as stream:
            stream.write(text)


def _without_alike(table: pd.DataFrame) -> pd.DataFrame:
    """A column that says the same of every row and is a setting tells a reader nothing."""
    alike = [name for name in ("attention", "budget", "protocol", "seed", "inference") if table[name].nunique() == 1]
    return table.drop(columns=alike)


def _cell(row: Mapping[str, Any], titles: Mapping[str, str], more: str = "") -> dict[str, str]:
    return {
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "model": titles.get(row["model"], row["model"]) + more,
        "attention": "" if pd.isna(row["attention_regime"]) else row["attention_regime"],
        "length (tokens)": str(row["seq_len"]),
        **{name: str(row[name]) for name in ("budget", "protocol", "seed", "inference")},
    }


def _row(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, str]:
    return {
        **_cell(row, titles, " (random weights)" if row["initialisation"] == "random" else ""),
        "metric": row["score_name"],
        "score": _number(row["score"]),
        "95 % interval": f"{_number(row['score_ci_low'])} to {_number(row['score_ci_high'])}",
        "lead baseline": _number(row["score_lead"]),
        "ceiling": _number(row["score_ceiling"]),
        "training (s)": _number(row["train_runtime_s"]),
        "of it validations (s)": _number(row["validation_s"]),
        "training energy (Wh)": _energy(row, "train"),
        "training (samples/s)": _number(row["train_samples_per_second"]),
        "inference (samples/s)": _number(row["inference_samples_per_second"]),
        "peak memory (GiB)": _number(row["peak_memory_gib"], 2),
        "steps": str(row["steps"]),
    }


def _score(group: pd.DataFrame) -> str:
    if group.empty:
        return ""
    low, high = interval(group)
    return f"{_number(group['score'].mean())} ({_number(low)} to {_number(high)})"


def _dataset(fact: Mapping[str, str], titles: Mapping[str, str]) -> dict[str, str]:
    records, tokens = (json.loads(Path(fact[name]).read_text(encoding="utf-8")) for name in ("records", "tokens"))
    splits: Mapping[str, Mapping[str, float]] = records["splits"]
    rows = {name: int(split["rows"]) for name, split in splits.items()}
    lengths = tokens["input_tokens"]
    examples = {name: int(split["examples"]) for name, split in splits.items()}
    return {
        "dataset": titles.get(fact["dataset"], fact["dataset"]),
        "metric": fact["metric"],
        "rows": f"{sum(rows.values()):,}",
        "words in": f"{_mean({n: s['words_in_mean'] for n, s in splits.items()}, rows):,.0f}",
        "words out": f"{_mean({n: s['words_out_mean'] for n, s in splits.items()}, rows):,.1f}",
        "train/validation/test rows": "/".join(str(rows.get(name, NA)) for name in SPLITS),
        "tokenizer": fact["tokenizer"],
        "tokens in": f"{_mean({n: s['mean'] for n, s in lengths.items()}, examples):,.0f}",
        "most tokens in": f"{max(s['max'] for s in lengths.values()):,}",
    }


def _mean(means: Mapping[str, float], weights: Mapping[str, int]) -> float:
    return sum(means[name] * weights[name] for name in means) / sum(weights[name] for name in means)


def _energy_row(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, str]:
    wh = {name: _number(_thousand(row[f"{name}_energy_kwh"]), 3) for name in WH_COLUMNS}
    flags = " ".join(str(row[f"{part}_energy_flags"]) for part in PARTS if not pd.isna(row[f"{part}_energy_flags"]))
    currency = "" if pd.isna(row["currency"]) else f" ({row['currency']})"
    return {
        **_cell(row, titles),
        "source": str(row["train_energy_source"]),
        "training (Wh)": _energy(row, "train"),
        **{title: wh[name] for name, title in WH_COLUMNS.items()},
        "mean power x time, as the paper (Wh)": _number(_thousand(row["train_energy_kwh_paper"]), 3),
        "mean power (W)": _number(row["train_mean_power_w"]),
        "idle (W)": _number(row["train_idle_power_w"]),
        "throttled (%)": _number(row["train_throttled_pct"]),
        "integral against counter (%)": _number(row["train_crosscheck_pct"], 2),
        "inference (Wh)": _energy(row, "inference"),
        "J/example": _number(row["joules_per_example"], 2),
        "J/output token": _number(row["joules_per_output_token"], 3),
        "training gCO2e": _number(row["train_gco2e"], 2),
        f"energy cost{currency}": _number(row["train_energy_cost"], 4),
        f"GPU cost{currency}": _number(row["train_gpu_cost"], 4),
        "PUE": _number(row["pue"], 2),
        "flags": flags,
    }


def _energy(row: Mapping[str, Any], part: str) -> str:
    if pd.isna(row[f"{part}_energy_kwh"]):
        return NA
    word = " (estimated)" if row[f"{part}_energy_source"] == "estimate" else ""
    return _number(_thousand(row[f"{part}_energy_kwh"]), 3) + word


def _thousand(kilo: float | None) -> float | None:
    return None if kilo is None else 1000 * kilo


def _number(value: Any, digits: int = 1) -> str:
    return NA if value is None or pd.isna(value) else f"{value:.{digits}f}"


def _html(name: str, table: pd.DataFrame) -> str:
    page = f"<!doctype html><meta charset='utf-8'><title>{name.capitalize()}</title><style>{STYLE}"
    # Words to the left, numbers to the right.
    texts = [column for column in ("dataset", "model", "metric", "tokenizer", "attention") if column in table]
    for number in (list(table.columns).index(column) + 1 for column in texts):
        page += f"th:nth-child({number}),td:nth-child({number}){{text-align:left}}"
    return f"{page}</style>{table.to_html(index=False, border=0)}"


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
