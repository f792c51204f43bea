"""One table per study: a row per cell and inference point, unknown values NA."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.provenance import sha256, whole_file, write_json

COLUMNS = (
    "cell", "dataset", "model", "seq_len", "budget", "protocol", "seed", "inference", "initialisation",
    "attention_regime",
    "score", "score_name", "score_ci_low", "score_ci_high", "score_lead", "score_ceiling", "examples",
    "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1", "exact_match", "accuracy",
    "train_samples_per_second", "train_runtime_s", "train_steps_s", "validation_s",
    "train_energy_kwh", "train_energy_source", "train_energy_measured", "train_mean_power_w",
    "train_power_efficiency",
    "inference_samples_per_second", "inference_runtime_s", "inference_energy_kwh",
    "inference_energy_source", "inference_energy_measured",
    "mean_gpu_utilization_pct", "mean_gpu_memory_gib", "peak_memory_gib", "peak_memory_kind",
    "effective_batch_size", "samples", "input_tokens", "steps", "best_step", "validations",
    "stopped_early", "attempts", "parameters", "device",
)  # fmt: skip
FROM_TRAINING = (
    "train_samples_per_second", "train_runtime_s", "validation_s", "peak_memory_gib", "peak_memory_kind",
    "effective_batch_size", "samples", "input_tokens", "steps", "best_step", "validations",
    "stopped_early", "parameters", "device", "attention_regime",
)  # fmt: skip
FROM_SCORES = (
    "score", "score_name", "score_ci_low", "score_ci_high", "score_lead", "score_ceiling", "examples",
    "rouge1", "rouge2", "rougeL", "rouge_geometric_mean", "f1", "exact_match", "accuracy",
)  # fmt: skip
FROM_INFERENCE = ("inference_samples_per_second", "inference_runtime_s")


class StaleSummary(RuntimeError):
    """A summary that does not speak of the results beside it; names the artefacts."""


def artefacts(results: Path, row: Mapping[str, Any]) -> dict[str, Path]:
    """The JSON artefacts that one row is read from."""
    cell = results / row["cell"]
    point = cell / "predict" / row["inference"]
    return {
        "training": cell / "finetune" / "training.json",
        "training_energy": cell / "finetune" / "energy.json",
        "inference": point / "inference.json",
        "inference_energy": point / "energy.json",
        "scores": point / "scores.json",
    }


def summarize(results: Path, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Read every row's artefacts into one table with the columns COLUMNS.

    Args:
        results: results/{study}.
        rows: what is known of each row beforehand (`longwatt.stages.Stages.rows`).
    """
    table = [_row(row, {name: _read(p) for name, p in artefacts(results, row).items()}) for row in rows]
    return pd.DataFrame(table, columns=list(COLUMNS))


def write_summary(
    results: Path, rows: Sequence[Mapping[str, Any]], target: Path, provenance: Mapping[str, Any]
) -> None:
    """Write `target` (CSV) and beside it a JSON that says from which artefacts it was made."""
    table = summarize(results, rows)
    write_csv(target, table)
    files = sorted({str(path) for row in rows for path in artefacts(results, row).values()})
    made_from = {path: sha256(Path(path)) for path in files}
    facts = {"rows": len(table), "sha256": sha256(target), "made_from": made_from}
    write_json(target.with_suffix(".json"), {**facts, "provenance": provenance})


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all; what is unknown is NA."""
    with whole_file(path, newline="") as stream:
        table.to_csv(stream, index=False, na_rep="NA")


def read_summary(path: Path) -> pd.DataFrame:
    """Read a summary.csv; NA stays NA."""
    return pd.read_csv(path, na_values=["NA"], keep_default_na=False)


def check_fresh(results: Path, wanted: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Raise StaleSummary unless the summary, its figures and its tables speak of the artefacts that are there now.

    Args:
        results: results/{study}.
        wanted: rows that the summary must have (cell, inference); None for those it has.
    """
    report = results / "summary.json"
    if not report.exists() or not (results / "summary.csv").exists():
        raise StaleSummary(f"{results} has no summary; run the study first, or `snakemake partial`")
    recorded = _read(report)["made_from"]
    wrong = [path for path, digest in recorded.items() if not _same(Path(path), digest)]
    expected = {str(path) for row in wanted or () for path in artefacts(results, row).values()}
    wrong += [f"{path} (not in the summary)" for path in sorted(expected - recorded.keys())]
    if wrong:
        listed = "\n  ".join(wrong[:20])
        raise StaleSummary(
            f"{results}/summary.csv is older than {len(wrong)} of the results it should "
            f"speak of:\n  {listed}\nRun the study again until nothing is left to do, then make the report"
        )
    _check_drawn(results)


def _check_drawn(results: Path) -> None:
    """Raise StaleSummary unless figures and tables were made from the summary beside them."""
    now = sha256(results / "summary.csv")
    for path in (results / "figures" / "figures.json", results / "tables" / "tables.json"):
        if not path.exists() or _read(path).get("summary_sha256") != now:
            raise StaleSummary(
                f"{path.parent} is older than {results}/summary.csv, or missing; run the study again until "
                "nothing is left to do, then make the report"
            )


def _row(known: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    training, energy = found["training"], found["training_energy"]
    inference_energy = found["inference_energy"]
    joules, samples = energy.get("energy_j"), training.get("samples")
    return {
        **known,
        **{name: found["scores"].get(name) for name in FROM_SCORES},
        **{name: training.get(name) for name in FROM_TRAINING},
        **{name: found["inference"].get(name) for name in FROM_INFERENCE},
        "train_steps_s": training.get("train_s"),
        "attempts": len(training["attempts"]),
        "train_energy_kwh": energy.get("energy_kwh"),
        "train_energy_source": energy.get("energy_source"),
        "train_energy_measured": energy.get("measured"),
        "train_mean_power_w": energy.get("mean_power_w"),
        # samples/s/W = samples/J
        "train_power_efficiency": samples / joules if joules and samples else None,
        "inference_energy_kwh": inference_energy.get("energy_kwh"),
        "inference_energy_source": inference_energy.get("energy_source"),
        "inference_energy_measured": inference_energy.get("measured"),
        "mean_gpu_utilization_pct": energy.get("mean_gpu_utilization_pct"),
        "mean_gpu_memory_gib": energy.get("mean_gpu_memory_gib"),
    }


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _same(path: Path, digest: str) -> bool:
    return path.exists() and sha256(path) == digest


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m longwatt.summary", description=__doc__)
    parser.add_argument("command", choices=["check"], help="say whether a study's summary is up to date")
    parser.add_argument("results", type=Path, help="results/NAME")
    try:
        check_fresh(parser.parse_args().results)
    except StaleSummary as error:
        print(error, file=sys.stderr)
        return 1
    print("the summary is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
