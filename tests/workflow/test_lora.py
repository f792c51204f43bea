"""A checkpoint trained whole, by adapters and merged, beside itself before training."""

import csv
import json
import re
import shutil

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from longwatt.models import load_family
from longwatt.models.__main__ import main
from longwatt.tokens.special_tokens import load_tokenizer
from tests.unit.models.attention_models import spread
from tests.workflow.conftest import Project

CONFIG = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
STUDY = """
title: Tiny adapters
datasets:
  needle:
    source: needle
    options: {words_per_document: 40, train: 64, validation: 12, test: 4, answer_vocabulary: 8,
              filler_vocabulary: 40}
    metric: f1
    training: {max_target_tokens: 8}
tokenizers:
  own: {kind: checkpoint, path: FOLDER}
models:
  whole: &base
    family: seq2seq
    initialisation: checkpoint
    tokenizer: own
    path: FOLDER
  adapted: {<<: *base, lora: {rank: 2, alpha: 16}}
  merged: {<<: *base, lora: {rank: 2, alpha: 16, merge: true}}
budgets:
  cpu: {gpus: 0, per_device_batch_size: 4}
training:
  learning_rate: 3e-2
  max_steps: 8
  checkpoint_every_s: 0
  validation: {every_steps: 4, max_examples: 6, batch_size: 6}
inference:
  greedy: {split: validation, batch_size: 6, generation: {max_new_tokens: 8}}
  before: {split: validation, batch_size: 6, generation: {max_new_tokens: 8}, weights: initial}
grid:
  - {datasets: [needle], models: [whole, adapted, merged], seq_lens: [48], budgets: [cpu],
     seeds: [1]}
claims:
  learnt:
    statement: Training changes what the models say.
    tests:
      - difference: {column: score, of: {inference: greedy}, to: {inference: before},
                     at_least: -100}
      - value: {column: trainable_parameters, of: {model: adapted}, above: 0}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, finished) -> Project:
    """A finished study, not to be changed, whose checkpoint has the tiny study's tokenizer."""
    folder = tmp_path_factory.mktemp("lora")
    (tokenizer,) = (finished.path / "resources/tokenizers").glob("*/*")
    shutil.copytree(tokenizer, folder / "base", ignore=shutil.ignore_patterns("provenance*"))
    torch.manual_seed(0)
    model = load_family("seq2seq").build({"config": CONFIG}, load_tokenizer(tokenizer), None, 48, 8)
    spread(model)
    model.save_pretrained(folder / "base")
    made = Project.create(folder / "project", STUDY.replace("FOLDER", str(folder / "base")))
    made.run()
    return made


def rows(project: Project) -> dict[tuple[str, str], dict[str, str]]:
    with (project.results / "summary.csv").open() as stream:
        return {(row["model"], row["inference"]): row for row in csv.DictReader(stream)}


def cell(model: str) -> str:
    return f"needle/{model}/48/cpu/generated/seed1"


def predictions(project: Project, model: str, point: str) -> list[str]:
    path = project.results / cell(model) / f"predict/{point}/predictions.jsonl"
    return [json.loads(line)["prediction"] for line in path.read_text().splitlines()]


@pytest.mark.long
def test_one_grid_trains_whole_and_by_adapters_from_one_download(project):
    assert len(list((project.path / "resources/models").iterdir())) == 1
    found = rows(project)
    adaptations = {model: found[model, "greedy"]["adaptation"] for model, _ in found}
    assert adaptations == {"whole": "full", "adapted": "lora r2", "merged": "lora r2"}
    whole, adapted = found["whole", "greedy"], found["adapted", "greedy"]
    assert whole["trainable_parameters"] == whole["parameters"] == adapted["parameters"]
    assert 0 < int(adapted["trainable_parameters"]) < int(whole["parameters"]) / 4
    sizes = {
        model: sum(p.stat().st_size for p in files.glob("*.safetensors"))
        for model in ("whole", "adapted")
        if (files := project.results / cell(model) / "finetune/model")
    }
    assert sizes["adapted"] < sizes["whole"] / 3


@pytest.mark.long
def test_adapters_merged_or_not_predict_alike_and_all_models_begin_alike(project):
    assert predictions(project, "adapted", "greedy") == predictions(project, "merged", "greedy")
    before = [predictions(project, model, "before") for model in ("whole", "adapted", "merged")]
    assert before[0] == before[1] == before[2] != predictions(project, "adapted", "greedy")


@pytest.mark.long
def test_a_row_before_training_has_scores_and_no_training(project):
    for model in ("whole", "adapted"):
        row = rows(project)[model, "before"]
        assert row["weights"] == "initial" and row["score"] != "NA"
        assert row["inference_runtime_s"] != "NA" and row["data_digest"] != "NA"
        for name in (
            "train_runtime_s",
            "train_energy_kwh",
            "parameters",
            "steps",
            "peak_memory_gib",
        ):
            assert row[name] == "NA", name
    table = (project.results / "tables/summary.md").read_text()
    assert "nan" not in table and "before" in table
    assert "nan" not in (project.results / "tables/energy.md").read_text()
    claims = (project.results / "claims.md").read_text()
    assert "before" in claims
    status = project.run("partial")
    assert re.search(r"3 cells: 3 finished", status)
    assert "before" in (project.results / "partial/summary.csv").read_text()


@pytest.mark.long
def test_nothing_is_left_to_do_and_the_model_before_training_outlives_a_new_one(project):
    assert project.would_run() == {}
    again = project.would_run("-R", "finetune")
    assert again["finetune"] == 3 and again["predict"] == 3, "those after training alone"


@pytest.mark.long
def test_adapters_are_merged_on_request(project, tmp_path, capsys):
    model = project.results / cell("adapted") / "finetune/model"
    (base,) = (project.path / "resources/models").iterdir()
    assert main(["merge", str(model), str(base), str(tmp_path / "out")]) == 0
    merged = project.results / cell("merged") / "finetune/model"
    one, other = (
        AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "out", merged)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "out/tokenizer.json").exists()
    assert not (tmp_path / "out/adapter_config.json").exists()
    shutil.copytree(base, tmp_path / "base")
    with (tmp_path / "base/model.safetensors").open("r+b") as stream:
        stream.seek(-9, 2)
        stream.write(b"x")
    again = ["merge", str(model), str(tmp_path / "base"), str(tmp_path / "other")]
    assert main(again) == 1
    said = capsys.readouterr().err
    assert "is not the file that the adapters were trained beside" in said
    assert f"base.json names their base: {base.name}" in said
    assert main(["merge", str(merged), str(base), str(tmp_path / "other")]) == 1
    assert "holds no adapters" in capsys.readouterr().err
