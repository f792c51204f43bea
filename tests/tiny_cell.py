"""A tiny cell for tests of the engine: its study, its data, and its workers' specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longwatt.config.documents import merge
from longwatt.config.studies import read_study
from longwatt.energy.clock import Clock
from longwatt.energy.log import append, next_run
from longwatt.energy.recorder import Order, header
from longwatt.jobs.worker import Spec
from longwatt.study.cells import expand
from longwatt.study.execution import deciding_settings, execution
from longwatt.study.settings import execution_settings, finetune_settings, predict_settings
from tests.conftest import ROOT, TINY_STUDY
from tests.needle_data import make_needle_data

IDENTITY = {"settings": "s", "code": "c", "data": "d"}


def tiny_study(folder: Path) -> dict[str, Any]:
    """The tests' study, read from a folder."""
    path = folder / "s.yaml"
    path.write_text(TINY_STUDY)
    return read_study(path, ROOT / "workflow/schemas/study.schema.json")


def tiny_data(folder: Path, study: dict[str, Any]) -> Path:
    """Its data, made in a folder."""
    tokenizer = {"min_frequency": 2, **study["tokenizers"]["bpe"]}
    return make_needle_data(folder, study["datasets"]["needle"]["options"], tokenizer)


def made_from(data: Path) -> dict[str, str]:
    """The inputs that training and inference have in common."""
    names = {"tokens": "tokens", "tokenized": "tokenized.json", "dataset": "dataset.json"}
    found = {key: str(data / name) for key, name in names.items()}
    return {**found, "tokenizer": str(data / "bpe/tokenizer.json")}


def training_spec(
    study: dict, data: Path, out: Path, changes: dict | None = None, checkpoint: Path | None = None
) -> Spec:
    """One more attempt at the cell's training."""
    cell = list(expand(study).values())[1]
    settings = merge(finetune_settings(study, cell), changes or {})
    carried = {**execution_settings(study, cell), **settings["training"]}
    settings["training"] = deciding_settings(settings["training"])
    names = {"model": "model", "training": "training.json", "history": "history.csv"}
    paths = {name: str(out / file) for name, file in names.items()}
    inputs = {**made_from(data), "work": str(out / "work")}
    if checkpoint:
        inputs["checkpoint"] = str(checkpoint / "model.json")
    files, said = run_files(out), execution(carried)
    return Spec(settings, {**paths, **inputs}, IDENTITY, {"rule": "finetune"}, *files, said)


def inference_spec(
    study: dict, data: Path, model: Path, out: Path, changes: dict | None = None
) -> Spec:
    """One more attempt at the cell's inference."""
    settings = merge(
        predict_settings(study, list(expand(study).values())[1], "greedy"), changes or {}
    )
    names = {"predictions": "predictions.jsonl", "inference": "inference.json", "work": "work"}
    paths = {name: str(out / file) for name, file in names.items()}
    return Spec(
        settings, {**paths, **made_from(data), "model": str(model)}, IDENTITY, {}, *run_files(out)
    )


def run_files(out: Path) -> tuple[str, str]:
    """Where an error goes, and a new energy log with its header, as a job's recorder makes it."""
    log = next_run(out / "work")
    log.parent.mkdir(parents=True, exist_ok=True)
    append(log, header(Order(str(log)), Clock()))
    return str(out / "error.json"), str(log)
