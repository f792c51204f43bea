"""The table of a study, with a row per cell and inference point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.energy import costs, flags
from longwatt.energy.reduction.reduce import J_PER_KWH
from longwatt.files import read_object, sha256, whole_file
from longwatt.freshness import outdated
from longwatt.freshness.in_force import InForce, find
from longwatt.freshness.made_settings import settings_of_rows
from longwatt.freshness.outdated import Files, StaleSummary, differs
from longwatt.metrics.resampling import Resampling
from longwatt.provenance.artefacts import damaged, read_artefact, read_from
from longwatt.provenance.stamps import digest, write_json
from longwatt.results import search
from longwatt.results.differences import recorded_machine
from longwatt.results.frontier import frontier_columns
from longwatt.results.life_cycle import life_cycle_columns, priced_parts, trained_together
from longwatt.study import summary_columns
from longwatt.study.model_settings import INITIAL_WEIGHTS
from longwatt.study.settings import ANSWER_DEFAULTS
from longwatt.study.settings_in_force import rule_columns

BY_PHASE = {
    "train_steps_energy": "train", "validation_energy": "validation",
    "checkpoint_energy": "checkpoint",
}  # fmt: skip

Rows = Sequence[Mapping[str, Any]]


def artefacts(results: Path, row: Mapping[str, Any]) -> dict[str, Path]:
    """Return the paths of the JSON artefacts that one row is read from."""
    cell = results / row["cell"]
    point = cell / "predict" / row["inference"]
    of_training = {
        "training": cell / "finetune" / "training.json",
        "training_energy": cell / "finetune" / "energy.json",
    }
    return {
        **({} if row.get("weights") == INITIAL_WEIGHTS else of_training),
        "inference": point / "inference.json",
        "inference_energy": point / "energy.json",
        "scores": point / "scores.json",
    }


def sources(results: Path, row: Mapping[str, Any]) -> list[Path]:
    """Return the paths that one row is read from, with its examples where they are."""
    examples = results / row["cell"] / "predict" / row["inference"] / "examples.csv"
    return [*artefacts(results, row).values(), *([examples] if examples.is_file() else [])]


def summarize(
    results: Path,
    rows: Rows,
    prices: Mapping[str, Any],
    exits: Path | None = None,
    scoring: Mapping[str, Any] | None = None,
    requests: int = ANSWER_DEFAULTS["requests"],
) -> pd.DataFrame:
    """Read every row's artefacts into one table with the columns COLUMNS.

    Args:
        results: results/{study}.
        rows: what is known of each row beforehand (`longwatt.study.reported.report_settings.rows`).
        prices: as `longwatt.energy.costs.price_figures`.
        exits: the comparison of models with exits to their baselines; None for that of the whole
            study.
        scoring: how examples are resampled for the front; None for the defaults.
        requests: that a model answers in its life.
    """
    compared = read_object(exits or compared_in(results)).get("rows", {})
    table = []
    for row in rows:
        found = {name: read_artefact(path) for name, path in artefacts(results, row).items()}
        beside = compared.get(row["cell"], {}).get(row["inference"], {})
        own = {name: beside[name] for name in summary_columns.COMPARED_COLUMNS if name in beside}
        table.append(_row(row, found, prices) | own)
    # Of objects: whole numbers stay whole beside rows that lack them.
    rows_ = _with_front(_with_selected(table), results, scoring, requests)
    return pd.DataFrame(rows_, columns=list(summary_columns.COLUMNS), dtype=object)


def _with_selected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark rows of searched models as chosen or not, and others by None."""
    searched = [
        row for row in rows if row.get("variant_of") and row.get("weights") != INITIAL_WEIGHTS
    ]
    counting = search.chosen((row, row["best_validation_score"]) for row in searched)
    return [
        {**row, "selected": row["cell"] in counting if row.get("variant_of") else None}
        for row in rows
    ]


def _with_front(
    rows: list[dict[str, Any]], results: Path, scoring: Mapping[str, Any] | None, requests: int
) -> list[dict[str, Any]]:
    """Add what a life cycle costs, and each point's place towards the fronts."""
    how, priced = Resampling.of(scoring) if scoring else Resampling(), priced_parts(rows)
    both = trained_together(rows)
    whole = [row | life_cycle_columns(both(row), priced, requests) for row in rows]
    fronts = frontier_columns(whole, results, how, requests)
    return [row | front for row, front in zip(whole, fronts, strict=True)]


def compared_in(results: Path) -> Path:
    """Return the path of the comparison of exits, absent in studies without exits."""
    return results / "exits" / "exits.json"


def write_summary(
    results: Path,
    rows: Rows,
    prices: Mapping[str, Any],
    target: Path,
    provenance: Mapping[str, Any],
    exits: Path | None = None,
    scoring: Mapping[str, Any] | None = None,
    requests: int = ANSWER_DEFAULTS["requests"],
) -> None:
    """Write `target` (CSV), and beside it a JSON of the artefacts and settings behind it."""
    table = summarize(results, rows, prices, exits, scoring, requests)
    write_csv(target, table)
    files = sorted({str(path) for row in rows for path in sources(results, row)})
    compared = exits or compared_in(results)
    files += [str(compared)] if any(row.get("exit_rule") for row in rows) else []
    made_from = {path: sha256(Path(path)) for path in files}
    facts = {"rows": len(table), "sha256": sha256(target), "made_from": made_from}
    facts["settings"] = settings_of_rows(results, rows)
    write_json(target.with_suffix(".json"), {**facts, "provenance": provenance})


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all, with NA for unknown values."""
    with whole_file(path, newline="") as stream:
        table.to_csv(stream, index=False, na_rep="NA")


def read_summary(path: Path) -> pd.DataFrame:
    """Read a summary.csv and keep its NA values.

    Raises:
        longwatt.provenance.artefacts.Damaged: it is not the one that the JSON beside it speaks of,
            or no table.
    """
    report = path.with_suffix(".json")
    if report.exists() and read_artefact(report).get("sha256") != sha256(path):
        raise damaged(path, "its SHA-256 is not what was written")
    with read_from(path):
        return pd.read_csv(path, na_values=["NA"], keep_default_na=False)


def check_fresh(
    results: Path, wanted: Rows | None = None, claims: Mapping[str, Any] | None = None
) -> None:
    """Raise StaleSummary unless the summary and all made from it are up to date.

    Args:
        results: results/{study}.
        wanted: rows that the summary must have (cell, inference); None for those it has.
        claims: the settings by which claims must have been judged; None for those they were judged
            by, if any.
    """
    report = results / "summary.json"
    if not report.exists() or not (results / "summary.csv").exists():
        raise StaleSummary(
            f"{results} has no summary; run the study until nothing is left to do "
            f"(longwatt partial --study {results.name} says what is)"
        )
    found = read_object(report)
    if "made_from" not in found:
        raise StaleSummary(f"{report} is damaged; run the study again until nothing is left to do")
    if differs(results / "summary.csv", found.get("sha256", "")):
        raise StaleSummary(
            f"{results}/summary.csv is not the table that was written with {report} (it was "
            "changed, or comes from elsewhere); remove it and run the study again, then make the "
            "report"
        )
    recorded = Files(results).listed(report)
    wrong = [str(path) for path, digest in recorded.items() if differs(path, digest)]
    expected = {path for row in wanted or () for path in sources(results, row)}
    wrong += [
        f"{path} (not in the summary)" for path in sorted(map(str, expected - recorded.keys()))
    ]
    if wrong:
        listed = "\n  ".join(wrong[:20])
        raise StaleSummary(
            f"{results}/summary.csv is older than {len(wrong)} of the results it should speak of:"
            f"\n  {listed}\nRun the study again until nothing is left to do, then make the report. "
            f"Should it find nothing to do, first remove {report}"
        )
    _check_drawn(results)
    _check_claims(results / "claims.json", sha256(results / "summary.csv"), claims)


def check_current(results: Path, current: InForce) -> None:
    """Raise StaleSummary unless all results are of what is in force, and agree.

    Args:
        results: results/{study}.
        current: what the study, the machine's configuration and the code say now.
    """
    stages = current.stages
    claims = stages.judge_claims().settings if stages.claims else None
    check_fresh(results, stages.summarize().settings["rows"], claims)
    found = outdated.outdated(current, results)
    if found:
        raise StaleSummary(outdated.message(results.name, found))


def _check_drawn(results: Path) -> None:
    """Raise StaleSummary unless figures, tables, curves and answer show the present summary."""
    now = sha256(results / "summary.csv")
    artefacts_now = Files(results).listed(results / "summary.json")
    stale = [
        name
        for name in ("figures", "tables")
        if read_object(results / name / f"{name}.json").get("summary_sha256") != now
    ]
    if read_object(results / "answer.json").get("summary_sha256") != now:
        stale.append("answer.json")
    power = results / "power" / "power.json"
    curves = Files(results).listed(power).items()
    outdated_curves = any(artefacts_now.get(path) != digest for path, digest in curves)
    if outdated_curves or "made_from" not in read_object(power):
        stale.append("power")
    exits = compared_in(results)
    shown = read_object(exits.with_name("exits_figures.json")).get("exits_sha256")
    if exits in artefacts_now and shown != sha256(exits):
        stale.append("exits")
    for name in stale:
        raise StaleSummary(
            f"{results / name} is older than {results}/summary.csv, or missing; run the study "
            "again until nothing is left to do, then make the report"
        )


def _check_claims(judged: Path, summary: str, wanted: Mapping[str, Any] | None) -> None:
    """Raise StaleSummary unless the claims in force were judged by the present summary."""
    found = read_object(judged)
    if wanted is None and not found:
        return
    by = (found.get("provenance") or {}).get("settings_digest")
    if found.get("summary_sha256") != summary or (wanted is not None and by != digest(wanted)):
        raise StaleSummary(
            f"{judged} is older than the summary beside it or than the study's claims, or missing; "
            "run the study again until nothing is left to do, then make the report"
        )


def _row(
    known: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]], prices: Mapping[str, Any]
) -> dict[str, Any]:
    # The model before training has no training behind it, whatever became of its cell.
    training, energy = found.get("training", {}), found.get("training_energy", {})
    inference, scores, samples = found["inference"], found["scores"], training.get("samples")
    steps_kwh = _phase(energy, "train")
    return {
        **known,
        **_as_made(known, training, inference),
        **{name: scores.get(name) for name in summary_columns.SCORE_COLUMNS},
        **{name: training.get(name) for name in summary_columns.TRAINING_COLUMNS},
        "exit_layers": " ".join(map(str, training.get("exit_layers") or ())) or None,
        **{name: inference.get(name) for name in summary_columns.INFERENCE_COLUMNS},
        **recorded_machine(training, inference),
        "best_validation_score": training.get("best_score"),
        "train_steps_s": training.get("train_s"),
        "attempts": len(training["attempts"]) if training else None,
        **_energy("train", energy, training.get("train_runtime_s")),
        **{f"{name}_kwh": _phase(energy, phase) for name, phase in BY_PHASE.items()},
        **{f"{name}_flags": _phase_flags(energy, p, training) for name, p in BY_PHASE.items()},
        "train_idle_power_w": energy.get("idle_power_w"),
        "train_throttled_pct": energy.get("throttled_pct"),
        # Samples/s/W are samples/J.
        "train_power_efficiency": _ratio(samples, energy.get("energy_j")),
        "train_steps_power_efficiency": _ratio(samples, steps_kwh and steps_kwh * J_PER_KWH),
        **_wasted("", energy),
        "wasted_runtime_s": energy.get("wasted", {}).get("duration_s"),
        **_inference(inference, found["inference_energy"]),
        **{name: prices[name] for name in costs.COST_COLUMNS if name in prices},
        **costs.priced("train", energy, prices),
        **costs.priced("inference", found["inference_energy"], prices),
        "mean_gpu_utilization_pct": energy.get("mean_gpu_utilization_pct"),
        "mean_gpu_memory_gib": energy.get("mean_gpu_memory_gib"),
    }


def _as_made(
    known: Mapping[str, Any], training: Mapping[str, Any], inference: Mapping[str, Any]
) -> dict[str, Any]:
    """Take settings that are columns from the artefacts, as far as these record them."""
    found = {"initialisation": training["initialisation"]} if "initialisation" in training else {}
    made = (inference.get("provenance") or {}).get("settings") or {}
    if known.get("exit_rule") and made.get("inference"):
        found |= rule_columns(made["inference"])
    return found


def _energy(prefix: str, energy: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """Collect the energy columns that training and inference share."""
    return {
        f"{prefix}_energy_kwh": energy.get("energy_kwh"),
        f"{prefix}_energy_source": energy.get("energy_source"),
        f"{prefix}_energy_measured": energy.get("measured"),
        f"{prefix}_energy_basis": energy.get("watts_basis"),
        f"{prefix}_energy_flags": flags.joined_flags(flags.of_energy(energy, seconds)),
        f"{prefix}_net_energy_kwh": energy.get("net_energy_kwh"),
        f"{prefix}_energy_kwh_paper": energy.get("energy_kwh_paper"),
        f"{prefix}_crosscheck_pct": energy.get("crosscheck_pct"),
        f"{prefix}_mean_power_w": energy.get("mean_power_w"),
    }


def _inference(inference: Mapping[str, Any], energy: Mapping[str, Any]) -> dict[str, Any]:
    joules, samples = energy.get("energy_j"), inference.get("samples")
    return {
        **_energy("inference", energy, inference.get("inference_runtime_s")),
        "inference_power_efficiency": _ratio(samples, joules),
        "joules_per_example": _ratio(joules, samples),
        "joules_per_output_token": _ratio(joules, inference.get("output_tokens")),
        **_wasted("inference_", energy),
    }


def _phase(energy: Mapping[str, Any], phase: str) -> float | None:
    """Return a phase's kWh, 0 for an absent phase of a run with known energy."""
    phases = energy.get("phases", {})
    if phase in phases:
        kwh: float | None = phases[phase]["energy_kwh"]
        return kwh
    return None if energy.get("energy_kwh") is None else 0.0


def _phase_flags(energy: Mapping[str, Any], phase: str, training: Mapping[str, Any]) -> str | None:
    """Return the flags of a phase's energy, given the seconds that training counted in it."""
    found = energy.get("phases", {}).get(phase, {})
    return flags.joined_flags(flags.of_energy(found, training.get(f"{phase}_s")))


def _wasted(prefix: str, energy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns on the energy of killed attempts, 0 without any."""
    wasted: Mapping[str, Any] = energy.get("wasted", {})
    return {
        f"{prefix}wasted_energy_kwh": (
            0.0 if wasted.get("duration_s") == 0 else wasted.get("energy_kwh")
        ),
        f"{prefix}wasted_energy_flags": flags.joined_flags(wasted.get("flags", ())),
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def check_summary(results: Path, changes: Mapping[str, Any], set_aside: bool = False) -> str:
    """Check a study's results by its file, or without it against each other.

    Args:
        results: results/{study}.
        changes: of the machine's configuration, as given to Snakemake by `--config`.
        set_aside: whether to rename what does not count, so that the next run makes it again.

    Raises:
        StaleSummary: something does not count; names it.
        longwatt.config.errors.StudyError: the study or the configuration is wrong.
    """
    current = find(results, changes)
    if current is None:
        check_fresh(results)
        return (
            f"the summary speaks of the results beside it; studies/{results.name}.yaml is not "
            "here, so whether they are those of its settings is not known"
        )
    if set_aside:
        try:
            aside = outdated.set_outdated_aside(current, results)
        except OSError as error:
            raise StaleSummary(
                f"{error.filename} cannot be renamed ({error.strerror}); "
                "make its folder writable first"
            ) from None
        if aside:
            return "set aside, to be made by the next run:\n  " + "\n  ".join(aside)
    check_current(results, current)
    return "the summary is up to date"
