"""Write a study's tables for people: cells, scores by length, energy and datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt import flags, points
from longwatt.artefacts import read_artefact
from longwatt.batch_sizes import batch_sizes
from longwatt.datasets.visibility import unseen
from longwatt.displays import EXITS, PUBLISHED, TABLE_KINDS
from longwatt.endings import DIVERGED, in_words, marked
from longwatt.exits_table import early_exits, exit_columns
from longwatt.points import (
    CONFIDENCE,
    SERIES,
    EnergyUnit,
    any_diverged,
    energy_unit,
    series_name,
    with_series,
)
from longwatt.provenance import read_object, sha256, write_json
from longwatt.published_table import published_scores
from longwatt.settings_table import settings_in_force
from longwatt.summary import read_summary
from longwatt.table_files import write
from longwatt.wording import NA, beside_energy, interval, number, percent, random_weights

ENERGIES = {
    "train_steps": "of it steps",
    "validation": "of it validations",
    "checkpoint": "of it checkpoints",
    "train_net": "training above idle",
    "wasted": "wasted",
}
# Flags of the energies above, by the column that they stand in.
FLAGS = {
    "train_energy_flags": "flags: training",
    "train_steps_energy_flags": "flags: steps alone",
    "validation_energy_flags": "flags: validations",
    "checkpoint_energy_flags": "flags: checkpoints",
    "wasted_energy_flags": "flags: wasted",
    "inference_energy_flags": "flags: inference",
}
SPLITS = ("train", "validation", "test")


def readable(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate the main columns as text, one row per cell and inference point.

    An estimated energy says so in its cell, and an unknown value is NA.

    An estimated energy says so in its cell; what is unknown is NA.
    """
    unit = energy_unit(summary)
    exits = exit_columns(summary)
    rows = [
        _row({str(k): v for k, v in row.items()}, titles, unit, _baselines(row, summary), more)
        for row, more in zip(summary.to_dict("records"), exits, strict=True)
    ]
    return _without_alike(pd.DataFrame(rows))


def scores_by_length(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate scores with their intervals, one column per input length.

    Each dataset and series has a row, with the lead baseline at its end.
    """
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
                **_baselines(group.iloc[0], table),
            }
        )
    return pd.DataFrame(rows)


def energies(summary: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate the energy of training and inference as text, NA where unknown.

    Each cell and inference point has a row.
    """
    unit = energy_unit(summary)
    rows = [
        _energy_row({str(k): v for k, v in row.items()}, titles, unit)
        for row in summary.to_dict("records")
    ]
    return _without_alike(pd.DataFrame(rows))


def dataset_statistics(
    facts: Sequence[Mapping[str, str]], titles: Mapping[str, str], published: Mapping[str, Any]
) -> pd.DataFrame:
    """Tabulate the data in use, one row per dataset and tokenizer.

    A dataset is left out until its files are there.

    Args:
        facts: as `longwatt.report_settings.dataset_facts`.
        titles: how datasets are called.
        published: a study's `published`; its statistics stand beside the measured ones.
    """
    there = [
        fact for fact in facts if Path(fact["records"]).exists() and Path(fact["tokens"]).exists()
    ]
    theirs = published.get("datasets", {})
    rows = [_dataset(fact, titles, theirs) for fact in there]
    return pd.DataFrame(rows, columns=[*DATASET, *(PUBLISHED_DATASET if theirs else ())])


DATASET = ("dataset", "metric", "rows", "words in", "words out", "train/validation/test rows",
           "references unseen by metric", "tokenizer", "tokens in", "most tokens in",
           "references changed by tokenizer")  # fmt: skip
PUBLISHED_DATASET = (
    "published rows",
    "rows differ (%)",
    "published words in",
    "words in differ (%)",
    # Fmt: skip.
    "published words out",
    "words out differ (%)",
    "published train/validation/test rows",
)


def write_tables(summary: Path, folder: Path, settings: Mapping[str, Any], provenance: Any) -> None:
    """Write every table of `longwatt.displays.tables` into `folder`.

    Each becomes an .html, an .md and a .csv file; `tables.json` has their digests.

    Args:
        summary: a summary.csv, with the settings of its rows in the JSON beside it; its digest is
            recorded, so that a report can tell whether it shows what this made.
        folder: made if it is not there.
        settings: as `longwatt.stages.Stages.tabulate`.
        provenance: the stamp of tables.json.
    """
    table, groups = (
        read_summary(summary),
        read_object(summary.with_suffix(".json")).get("settings", []),
    )
    found = _tables(table, settings, groups)
    for name, shown in found.items():
        write(folder, name, shown)
    pages = [folder / f"{name}.{kind}" for name in found for kind in TABLE_KINDS]
    facts = {"rows": len(table), "sha256": {path.name: sha256(path) for path in pages}}
    write_json(
        folder / "tables.json",
        {**facts, "summary_sha256": sha256(summary), "provenance": provenance},
    )


def _tables(
    table: pd.DataFrame, settings: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    titles, published = settings["titles"], settings["published"]
    general = {
        "summary": readable(table, titles),
        "scores": scores_by_length(table, titles),
        "energy": energies(table, titles),
        "datasets": dataset_statistics(settings["datasets"], titles, published),
        "settings": settings_in_force(groups, titles),
        "batch_sizes": batch_sizes(table, settings),
    }
    if "exit_kind" in table and table["exit_kind"].notna().any():
        general[EXITS] = early_exits(table, titles)
    return (
        {**general, PUBLISHED: published_scores(table, published, titles)}
        if published.get("scores")
        else general
    )


def _without_alike(table: pd.DataFrame) -> pd.DataFrame:
    """Drop columns of settings that are equal in every row."""
    alike = [
        name
        for name in ("attention", "budget", "protocol", "seed", "inference")
        if table[name].nunique() == 1
    ]
    return table.drop(columns=alike)


def _cell(row: Mapping[str, Any], titles: Mapping[str, str], more: str = "") -> dict[str, str]:
    return {
        "dataset": titles.get(row["dataset"], row["dataset"]),
        "model": titles.get(row["model"], row["model"]) + more + marked(row),
        "attention": "" if pd.isna(row["attention_regime"]) else row["attention_regime"],
        "length (tokens)": str(row["seq_len"]),
        "budget": titles.get(row["budget"], str(row["budget"])),
        **{name: str(row[name]) for name in ("protocol", "seed", "inference")},
    }


def _baselines(row: Any, summary: pd.DataFrame) -> dict[str, str]:
    """Return the lead baseline, and for classification the majority class.

    A baseline is shown if any row of the table has it.
    """
    known = {
        name: name in summary and bool(summary[name].notna().any())
        for name in ("score_lead", "majority")
    }
    lead = (
        {"lead baseline": number(row["score_lead"])}
        if known["score_lead"] or not known["majority"]
        else {}
    )
    return {**lead, **({"majority class": number(row["majority"])} if known["majority"] else {})}


def _row(
    row: Mapping[str, Any],
    titles: Mapping[str, str],
    unit: EnergyUnit,
    baselines: Mapping[str, str],
    exits: Mapping[str, str],
) -> dict[str, str]:
    return {
        **_cell(row, titles, random_weights(row["initialisation"] == "random", brackets=True)),
        "metric": row["score_name"],
        "score": number(row["score"]),
        f"{percent(_confidence(row), 'g')} interval": interval(
            row["score_ci_low"], row["score_ci_high"]
        ),
        **exits,
        **baselines,
        "ceiling": number(row["score_ceiling"]),
        "training (s)": number(row["train_runtime_s"]),
        "of it validations (s)": number(row["validation_s"]),
        f"training energy ({unit.name})": _energy(row, "train", unit),
        "training (samples/s)": number(row["train_samples_per_second"]),
        "inference (samples/s)": number(row["inference_samples_per_second"]),
        "peak memory (GiB)": number(row["peak_memory_gib"], ".2f"),
        "steps": str(row["steps"]),
        "ended by": in_words(row),
    }


def _score(group: pd.DataFrame) -> str:
    if group.empty:
        return ""
    mark = f", {DIVERGED}" if any_diverged(group) else ""
    return f"{number(group['score'].mean())} ({interval(*points.interval(group))}){mark}"


def _dataset(
    fact: Mapping[str, str], titles: Mapping[str, str], published: Mapping[str, Any]
) -> dict[str, str]:
    records, tokens = (
        read_artefact(Path(fact[name]), shared=True) for name in ("records", "tokens")
    )
    splits: Mapping[str, Mapping[str, float]] = records["splits"]
    rows = {name: int(split["rows"]) for name, split in splits.items()}
    lengths = tokens["input_tokens"]
    examples = {name: int(split["examples"]) for name, split in splits.items()}
    words = {
        kind: _mean({n: s[f"{kind}_mean"] for n, s in splits.items()}, rows)
        for kind in ("words_in", "words_out")
    }
    return {
        "dataset": titles.get(fact["dataset"], fact["dataset"]),
        "metric": fact["metric"],
        "rows": number(sum(rows.values()), ","),
        "words in": number(words["words_in"], ",.0f"),
        "words out": number(words["words_out"], ",.1f"),
        "train/validation/test rows": _by_split(rows),
        "references unseen by metric": _unseen(records, fact),
        "tokenizer": fact["tokenizer"],
        "tokens in": f"{_mean({n: s['mean'] for n, s in lengths.items()}, examples):,.0f}",
        "most tokens in": f"{max(s['max'] for s in lengths.values()):,}",
        "references changed by tokenizer": _changed(records, tokens),
        **_published_dataset(rows, words, published.get(fact["dataset"], {})),
    }


def _unseen(records: Mapping[str, Any], fact: Mapping[str, str]) -> str:
    """Count the references without any word that the metric sees.

    The count is NA where it was not made, as for labels.
    """
    by_split = records.get("visibility")
    if not by_split:
        return NA
    return f"{sum(unseen(facts, fact['metric'], fact['text'])['references'] for facts in by_split.values()):,}"


def _changed(records: Mapping[str, Any], tokens: Mapping[str, Any]) -> str:
    """Count the references that a tokenizer does not give back unchanged.

    The count is NA for labels and where it was not made.
    """
    texts = tokens.get("round_trip")
    if not texts or "labels" in records:
        return NA
    return f"{sum(facts['references_changed'] for facts in texts.values()):,}"


def _published_dataset(
    rows: Mapping[str, int], words: Mapping[str, float], published: Mapping[str, Any]
) -> dict[str, str]:
    """Compare the measured statistics of a dataset with published ones.

    Rows are those of the splits in use.
    """
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


def _mean(means: Mapping[str, float], weights: Mapping[str, int]) -> float:
    return sum(means[name] * weights[name] for name in means) / sum(weights[name] for name in means)


def _confidence(row: Mapping[str, Any]) -> float:
    return CONFIDENCE if pd.isna(row["score_confidence"]) else float(row["score_confidence"])


def _energy_row(
    row: Mapping[str, Any], titles: Mapping[str, str], unit: EnergyUnit
) -> dict[str, str]:
    others = {
        f"{title} ({unit.name})": _in(unit, row[f"{name}_energy_kwh"])
        for name, title in ENERGIES.items()
    }
    currency = "" if pd.isna(row["currency"]) else f" ({row['currency']})"
    return {
        **_cell(row, titles),
        "source": str(row["train_energy_source"]),
        f"training ({unit.name})": _energy(row, "train", unit, flagged=False),
        **others,
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
        **{title: " ".join(flags.split(row.get(column))) for column, title in FLAGS.items()},
    }


def _energy(row: Mapping[str, Any], part: str, unit: EnergyUnit, flagged: bool = True) -> str:
    """Write an energy, marked if it is estimated.

    Its flags are added where they have no column of their own.
    """
    if pd.isna(row[f"{part}_energy_kwh"]):
        return NA
    estimated = row[f"{part}_energy_source"] == "estimate"
    said = beside_energy(estimated, flags.split(row.get(f"{part}_energy_flags")) if flagged else ())
    return _in(unit, row[f"{part}_energy_kwh"]) + said


def _in(unit: EnergyUnit, kwh: float | None) -> str:
    return number(None if kwh is None else unit.per_kwh * kwh, ".3f")
