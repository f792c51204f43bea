"""Write a study's tables for people: cells, scores by length, energy and datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.datasets.records import SPLITS
from longwatt.datasets.visibility import unseen
from longwatt.energy import flags
from longwatt.files import read_object, sha256
from longwatt.jobs.endings import DIVERGED, ending_words, marked
from longwatt.layout.table_files import write
from longwatt.layout.wording import (
    NA,
    beside_energy,
    interval,
    is_known,
    number,
    percent,
    random_weights,
)
from longwatt.provenance.artefacts import read_artefact
from longwatt.provenance.stamps import write_json
from longwatt.report.batch_sizes_table import batch_sizes_table
from longwatt.report.exits_table import early_exits, exit_columns
from longwatt.report.published_table import published_scores
from longwatt.report.settings_table import settings_in_force
from longwatt.results import series as points
from longwatt.results.differences import threads_in_words
from longwatt.results.series import SERIES, EnergyUnit, records, with_series
from longwatt.results.summary import read_summary
from longwatt.study.reported.report_items import EXITS_TABLE, PUBLISHED_ITEM, TABLE_KINDS

ENERGIES = {
    "train_steps": "of it steps",
    "validation": "of it validations",
    "checkpoint": "of it checkpoints",
    "train_net": "training above idle",
    "wasted": "wasted",
}
# Flags of the energies above, by the column that they stand in.
FLAG_NOTES = {
    "train_energy_flags": "flags: training",
    "train_steps_energy_flags": "flags: steps alone",
    "validation_energy_flags": "flags: validations",
    "checkpoint_energy_flags": "flags: checkpoints",
    "wasted_energy_flags": "flags: wasted",
    "inference_energy_flags": "flags: inference",
}
# The fronts that the table of all cells may show, the first that is known.
FRONT_TITLES = {
    "lifecycle_energy": "front (life-cycle energy)",
    "inference_time": "front (time of a request)",
}
Row = Mapping[str, Any]
Titles = Mapping[str, str]


def readable(summary: pd.DataFrame, titles: Titles) -> pd.DataFrame:
    """Tabulate the main columns as text, one row per cell and inference point.

    An estimated energy says so in its cell, and an unknown value is NA.
    """
    unit = points.energy_unit(summary)
    front = _shown_front(summary)
    rows = [
        _row(row, titles, unit, _baselines(row, summary), more, _front(row, front))
        for row, more in zip(records(summary), exit_columns(summary), strict=True)
    ]
    return _without_alike(rows)


def scores_by_length(summary: pd.DataFrame, titles: Titles) -> pd.DataFrame:
    """Tabulate scores and the lead baseline by dataset and series, a column per input length."""
    table = with_series(summary)
    lengths = sorted(table["seq_len"].unique())
    rows = []
    for key, group in table.groupby(["dataset", *SERIES], sort=False):
        dataset, *series = (str(part) for part in key)
        by_length = {length: group[group["seq_len"] == length] for length in lengths}
        row = {
            "dataset": titles.get(dataset, dataset),
            "model": points.series_name(tuple(series), titles, table),
            "metric": group["score_name"].iloc[0],
            **{str(length): _score(found) for length, found in by_length.items()},
            **_baselines(group.iloc[0], table),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def energies_table(summary: pd.DataFrame, titles: Titles) -> pd.DataFrame:
    """Tabulate the energy of training and inference as text, a row per cell and point."""
    unit = points.energy_unit(summary)
    return _without_alike([_energy_row(row, titles, unit) for row in records(summary)])


def dataset_statistics(
    facts: Sequence[Mapping[str, str]], titles: Titles, published: Mapping[str, Any]
) -> pd.DataFrame:
    """Tabulate the data whose files are there, one row per dataset and tokenizer.

    Args:
        facts: as `longwatt.study.reported.report_settings.dataset_facts`.
        titles: how datasets are called.
        published: a study's `published`; its statistics stand beside the measured ones.
    """
    theirs = published.get("datasets", {})
    rows = [
        _dataset(fact, titles, theirs)
        for fact in facts
        if Path(fact["records"]).exists() and Path(fact["tokens"]).exists()
    ]
    return pd.DataFrame(rows, columns=[*DATASET, *(PUBLISHED_DATASET if theirs else ())])


DATASET = (
    "dataset", "metric", "rows", "words in", "words out", "train/validation/test rows",
    "references unseen by metric", "tokenizer", "tokens in", "most tokens in",
    "references changed by tokenizer",
)  # fmt: skip
PUBLISHED_DATASET = (
    "published rows", "rows differ (%)", "published words in", "words in differ (%)",
    "published words out", "words out differ (%)", "published train/validation/test rows",
)  # fmt: skip


def write_tables(summary: Path, folder: Path, settings: Mapping[str, Any], provenance: Any) -> None:
    """Write every table of a study as .html, .md and .csv, and `tables.json`.

    `longwatt.study.reported.report_items.tables` names them.

    Args:
        summary: a summary.csv, with the settings of its rows in the JSON beside it; a report
            compares its digest, which is recorded, with the present one.
        folder: made if it is not there.
        settings: as `longwatt.study.stages.Stages.tabulate`.
        provenance: the stamp of tables.json.
    """
    table = read_summary(summary)
    groups = read_object(summary.with_suffix(".json")).get("settings", [])
    found = _tables(table, settings, groups)
    for name, shown in found.items():
        write(folder, name, shown)
    pages = [folder / f"{name}.{kind}" for name in found for kind in TABLE_KINDS]
    facts = {"rows": len(table), "sha256": {path.name: sha256(path) for path in pages}}
    facts |= {"summary_sha256": sha256(summary), "provenance": provenance}
    write_json(folder / "tables.json", facts)


def _tables(
    table: pd.DataFrame, settings: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    titles, published = settings["titles"], settings["published"]
    found = {
        "summary": readable(table, titles),
        "scores": scores_by_length(table, titles),
        "energy": energies_table(table, titles),
        "datasets": dataset_statistics(settings["datasets"], titles, published),
        "settings": settings_in_force(groups, titles),
        "batch_sizes": batch_sizes_table(table, settings),
    }
    if "exit_kind" in table and table["exit_kind"].notna().any():
        found[EXITS_TABLE] = early_exits(table, titles)
    if published.get("scores"):
        found[PUBLISHED_ITEM] = published_scores(table, published, titles)
    return found


def _without_alike(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Tabulate rows without the columns of settings that are equal in all."""
    table = pd.DataFrame(rows)
    settings = ("attention", "attention path", "budget", "protocol", "seed", "inference")
    return table.drop(columns=[name for name in settings if table[name].nunique() == 1])


def _cell(row: Row, titles: Titles, more: str = "") -> dict[str, str]:
    return {
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "model": titles.get(row["model"], row["model"]) + more + marked(row),
        "attention": "" if pd.isna(row["attention_regime"]) else row["attention_regime"],
        "attention path": _path(row),
        "length (tokens)": str(row["seq_len"]),
        "budget": titles.get(row["budget"], str(row["budget"])),
        **{name: str(row[name]) for name in ("protocol", "seed", "inference")},
    }


def _path(row: Row) -> str:
    """Name the path of attention of a row, NA where it is not known."""
    return points.attention_words(row).replace(" attention", "") or NA


def _baselines(row: Any, summary: pd.DataFrame) -> dict[str, str]:
    """Return the lead baseline and the majority class, where any row has them."""
    lead, majority = (
        name in summary and bool(summary[name].notna().any()) for name in ("score_lead", "majority")
    )
    found = {"lead baseline": number(row["score_lead"])} if lead or not majority else {}
    return found | ({"majority class": number(row["majority"])} if majority else {})


def _row(
    row: Row, titles: Titles, unit: EnergyUnit, baselines: Titles, exits: Titles, front: Titles
) -> dict[str, str]:
    confidence = row["score_confidence"]
    confidence = points.CONFIDENCE if pd.isna(confidence) else float(confidence)
    return {
        **_cell(row, titles, random_weights(row["initialisation"] == "random", brackets=True)),
        "metric": row["score_name"],
        "score": number(row["score"]),
        f"{percent(confidence, 'g')} interval": interval(row["score_ci_low"], row["score_ci_high"]),
        **exits,
        **baselines,
        "ceiling": number(row["score_ceiling"]),
        **front,
        "training (s)": number(row["train_runtime_s"]),
        "of it validations (s)": number(row["validation_s"]),
        f"training energy ({unit.name})": _energy(row, "train", unit),
        "training (samples/s)": number(row["train_samples_per_second"]),
        "inference (samples/s)": number(row["inference_samples_per_second"]),
        "threads": threads_in_words(row),
        "peak memory (GiB)": number(row["peak_memory_gib"], ".2f"),
        "steps": number(row["steps"], ".0f"),
        "ended by": ending_words(row),
    }


def _shown_front(summary: pd.DataFrame) -> str | None:
    """Name the cost whose front the table shows: life-cycle energy, or time without any."""
    named = (f"frontier_{cost}" for cost in FRONT_TITLES)
    return next((name for name in named if name in summary and summary[name].notna().any()), None)


def _front(row: Row, column: str | None) -> dict[str, str]:
    """Write the place of a point towards a front, nothing where no point has one."""
    if column is None:
        return {}
    title = FRONT_TITLES[column.removeprefix("frontier_")]
    if not is_known(row[column]):
        return {title: NA}
    return {title: f"{row[column]} ({percent(row[f'{column}_share'])})"}


def _score(group: pd.DataFrame) -> str:
    if group.empty:
        return ""
    mark = f", {DIVERGED}" if points.any_diverged(group) else ""
    return f"{number(group['score'].mean())} ({interval(*points.mean_interval(group))}){mark}"


def _dataset(
    fact: Mapping[str, str], titles: Titles, published: Mapping[str, Any]
) -> dict[str, str]:
    records, tokens = (read_artefact(Path(fact[of]), shared=True) for of in ("records", "tokens"))
    splits: Mapping[str, Mapping[str, float]] = records["splits"]
    rows = {name: int(split["rows"]) for name, split in splits.items()}
    examples = {name: int(split["examples"]) for name, split in splits.items()}
    words = {name: _mean(splits, f"{name}_mean", rows) for name in ("words_in", "words_out")}
    lengths = tokens["input_tokens"]
    return {
        "dataset": titles.get(fact["dataset"], fact["dataset"]),
        "metric": fact["metric"],
        "rows": number(sum(rows.values()), ","),
        "words in": number(words["words_in"], ",.0f"),
        "words out": number(words["words_out"], ",.1f"),
        "train/validation/test rows": _by_split(rows),
        "references unseen by metric": _unseen(records, fact),
        "tokenizer": fact["tokenizer"],
        "tokens in": f"{_mean(lengths, 'mean', examples):,.0f}",
        "most tokens in": f"{max(s['max'] for s in lengths.values()):,}",
        "references changed by tokenizer": _changed(records, tokens),
        **_published_dataset(rows, words, published.get(fact["dataset"], {})),
    }


def _unseen(records: Mapping[str, Any], fact: Mapping[str, str]) -> str:
    """Count the references without a word that the metric sees, NA where uncounted."""
    by_split = (records.get("visibility") or {}).values()
    found = [unseen(facts, fact["metric"], fact["text"])["references"] for facts in by_split]
    return f"{sum(found):,}" if found else NA


def _changed(records: Mapping[str, Any], tokens: Mapping[str, Any]) -> str:
    """Count the references that a tokenizer changes, NA for labels and where not counted."""
    texts = tokens.get("round_trip")
    if not texts or "labels" in records:
        return NA
    return f"{sum(facts['references_changed'] for facts in texts.values()):,}"


def _published_dataset(
    rows: Mapping[str, int], words: Mapping[str, float], published: Mapping[str, Any]
) -> dict[str, str]:
    """Compare the measured statistics of a dataset, over the splits in use, with published ones."""
    theirs: Mapping[str, int] = published.get("rows", {})
    same = sum(theirs[split] for split in rows) if rows.keys() <= theirs.keys() else None
    pairs = {
        "rows": (sum(rows.values()), same, ",.0f"),
        "words in": (words["words_in"], published.get("words_in"), ",.0f"),
        "words out": (words["words_out"], published.get("words_out"), ",.1f"),
    }
    found = {}
    for name, (ours, known, shape) in pairs.items():
        found[f"published {name}"] = number(known, shape)
        found[f"{name} differ (%)"] = number(known and 100 * (ours / known - 1), "+z.1f")
    return {**found, "published train/validation/test rows": _by_split(theirs)}


def _by_split(rows: Mapping[str, int]) -> str:
    return "/".join(str(rows.get(name, NA)) for name in SPLITS)


def _mean(
    splits: Mapping[str, Mapping[str, float]], name: str, weights: Mapping[str, int]
) -> float:
    total = sum(split[name] * weights[of] for of, split in splits.items())
    return total / sum(weights[of] for of in splits)


def _energy_row(row: Row, titles: Titles, unit: EnergyUnit) -> dict[str, str]:
    parts = {f"{title} ({unit.name})": f"{name}_energy_kwh" for name, title in ENERGIES.items()}
    currency: str = "" if pd.isna(row["currency"]) else f" ({row['currency']})"
    return {
        **_cell(row, titles),
        "source": str(row["train_energy_source"]) if is_known(row["train_energy_source"]) else NA,
        f"training ({unit.name})": _energy(row, "train", unit, flagged=False),
        **{title: _in(unit, row[column]) for title, column in parts.items()},
        f"mean power x time, as the paper ({unit.name})": _in(unit, row["train_energy_kwh_paper"]),
        "mean power (W)": number(row["train_mean_power_w"]),
        "idle (W)": number(row["train_idle_power_w"]),
        "throttled (%)": number(row["train_throttled_pct"]),
        "integral against counter (%)": number(row["train_crosscheck_pct"], ".2f"),
        f"inference ({unit.name})": _energy(row, "inference", unit, flagged=False),
        "J/example": number(row["joules_per_example"], ".2f"),
        "J/output token": number(row["joules_per_output_token"], ".3f"),
        "training gCO2e": number(row["train_gco2e"], ".2f"),
        f"energy cost{currency}": number(row["train_energy_cost"], ".4f"),
        f"GPU cost{currency}": number(row["train_gpu_cost"], ".4f"),
        "PUE": number(row["pue"], ".2f"),
        **{title: " ".join(flags.split(row.get(column))) for column, title in FLAG_NOTES.items()},
    }


def _energy(row: Row, part: str, unit: EnergyUnit, flagged: bool = True) -> str:
    """Write an energy, marked if estimated, with its flags unless a column has them."""
    if pd.isna(row[f"{part}_energy_kwh"]):
        return NA
    estimated = row[f"{part}_energy_source"] == "estimate"
    said = beside_energy(estimated, flags.split(row.get(f"{part}_energy_flags")) if flagged else ())
    return _in(unit, row[f"{part}_energy_kwh"]) + said


def _in(unit: EnergyUnit, kwh: float | None) -> str:
    return number(None if kwh is None else unit.per_kwh * kwh, ".3f")
