"""Made-up results of a whole study, each artefact stamped as its rule stamps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.energy import costs
from longwatt.files import sha256
from longwatt.freshness.in_force import InForce
from longwatt.provenance.identity import deciding_inputs
from longwatt.provenance.stamps import Stage, stamp, write_json
from longwatt.report.claims_page import write_claims
from longwatt.results.summary import write_summary
from longwatt.study.outputs import energy_files
from longwatt.study.stages import Stages

FACTS: dict[str, dict[str, Any]] = {
    "tokenize_dataset": {"sha256": {"validation.arrow": "1"}},
    "finetune": {"attempts": [1], "samples": 100, "train_s": 5.0, "train_runtime_s": 6.0,
                 "steps": 8},
    "predict": {"samples": 12, "inference_samples_per_second": 3.0, "inference_runtime_s": 4.0},
    "score": {"score": 12.5, "score_name": "f1", "score_ci_low": 10.0, "score_ci_high": 15.0,
              "f1": 12.5},
    "summarize_energy": {"energy_j": 200.0, "energy_kwh": 200 / 3.6e6,
                         "energy_source": "nvml_counter"},
}  # fmt: skip


def write_study_results(current: InForce) -> None:
    """Write all that a finished study leaves, below the current folder."""
    for stage in current.stages.before_summary():
        write_artefact(current, stage)
    summarise(current)


def write_artefact(current: InForce, stage: Stage, **facts: Any) -> None:
    """Write the artefact of one job, made from what is there."""
    path = Path(stage.artefact)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in ("predictions.jsonl", "energy.jsonl.gz"):
        if stage.rule in ("finetune", "predict"):
            path.with_name(name).write_text(f"{name} {stage.artefact} {facts}\n")
    if stage.rule == "make_tokenizer":
        path.with_name("tokenizer.json").write_text(
            json.dumps({"vocabulary": dict(stage.settings)})
        )
    made_by = stamp(
        stage.rule, dict(stage.settings), current.code(stage), _inputs(current.stages, stage)
    )
    known = {**FACTS.get(stage.rule, {}), **_path_taken(stage), **facts}
    write_json(path, {**known, "provenance": made_by})


def _path_taken(stage: Stage) -> dict[str, Any]:
    """The path of attention that a training or an inference records: the chosen one."""
    chosen = stage.settings.get("model", stage.settings)
    taken = stage.rule in ("finetune", "predict")
    return {"attention": chosen["attention"]} if taken else {}


def _inputs(stages: Stages, stage: Stage) -> list[str]:
    path = Path(stage.artefact)
    cell = _cell_of(stages, path)
    data = path.parts[2] if path.parts[0] == "resources" else ""
    match stage.rule:
        case "make_tokenizer":
            return [f"resources/datasets/{data}/dataset.json"]
        case "tokenize_dataset":
            tokenizer = f"resources/tokenizers/{data}/{path.parts[3]}/tokenizer.json"
            return [f"resources/datasets/{data}/dataset.json", tokenizer]
        case "finetune":
            return deciding_inputs(stages.finetune_inputs(cell))
        case "predict":
            return deciding_inputs(stages.predict_inputs(cell, path.parts[-2]))
        case "score":
            return [stages.inputs(cell)["tokenized"], str(path.with_name("predictions.jsonl"))]
        case "summarize_energy":
            return [str(path.with_name("energy.jsonl.gz"))]
    return []


def _cell_of(stages: Stages, path: Path) -> str:
    return next((name for name in stages.cells if f"{stages.results}/{name}/" in str(path)), "")


def summarise(current: InForce) -> None:
    """Write summary, tables, figures, curves and claims from the results, each with its stamp."""
    stages = current.stages
    results, summary = Path(stages.results), Path(stages.results) / "summary.csv"

    def made(stage: Stage, inputs: list[str] | None = None) -> dict[str, Any]:
        return stamp(stage.rule, dict(stage.settings), current.code(stage), inputs)

    rows = stages.summarize().settings["rows"]
    write_summary(
        results, rows, costs.price_figures(stages.machine), summary, made(stages.summarize())
    )
    for stage in (stages.tabulate(), stages.plot()):
        page = Path(stage.artefact).with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(pd.read_csv(summary).to_string())
        facts = {"summary_sha256": sha256(summary), "sha256": {page.name: sha256(page)}}
        write_json(stage.artefact, {**facts, "provenance": made(stage, [str(summary)])})
    energies = [path for path in energy_files(stages) if path.endswith(".json")]
    power = {"made_from": {path: sha256(Path(path)) for path in energies}}
    write_json(stages.plot_power().artefact, {**power, "provenance": made(stages.plot_power())})
    page = Path(stages.results) / "answer.html"
    page.write_text("the answer")
    answer = {"summary_sha256": sha256(summary), "sha256": {page.name: sha256(page)}}
    answered = made(stages.answer(), [str(summary)])
    write_json(stages.answer().artefact, {**answer, "provenance": answered})
    if stages.claims:
        judged = stages.judge_claims()
        write_claims(summary, Path(judged.artefact), judged.settings, made(judged, [str(summary)]))
