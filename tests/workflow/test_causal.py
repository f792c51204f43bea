"""A tiny study of a decoder-only model, trained whole and by adapters, from nothing to claims."""

import csv
import json

import pytest

from longwatt.results.judge_claims import HOLDS, SUPPORTED, WHOLE_RUN
from tests.tiny_llama import write_llama
from tests.workflow.conftest import Project

pytestmark = pytest.mark.long
LENGTHS = ("96", "128")
MODELS, POINTS = ("full", "lora"), ("greedy", "zero_shot")
STUDY = """
title: Tiny causal study
datasets:
  needle:
    source: needle
    options: {{words_per_document: 16, train: 32, validation: 8, test: 4, answer_words: 1,
              answer_vocabulary: 4, filler_vocabulary: 40}}
    metric: f1
    prompt: "Report: {{input}}\\nQuestion: {{query}}\\nAnswer: "
    training: {{max_target_tokens: 8}}
tokenizers:
  llama: {{kind: checkpoint, path: {folder}}}
models:
  full: &llama
    family: causal
    initialisation: checkpoint
    path: {folder}
    tokenizer: llama
  lora: {{<<: *llama, lora: {{rank: 4, alpha: 8}}}}
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 4}}
training:
  learning_rate: 1e-2
  max_steps: 12
  log_every_steps: 2
  validation: {{every_steps: 6, batch_size: 4}}
inference:
  greedy: {{split: validation, batch_size: 4}}
  zero_shot: {{split: validation, batch_size: 3, weights: initial}}
grid:
  - {{datasets: [needle], models: [full, lora], seq_lens: [96, 128], budgets: [cpu], seeds: [1],
      inference: [greedy, zero_shot]}}
claims:
  few_are_trained:
    statement: Adapters are less than a quarter of the weights that full fine-tuning trains.
    tests:
      - ratio: {{column: trainable_parameters, of: {{model: lora, inference: greedy}},
                to: {{model: full}}, below: 0.25}}
  training_is_no_worse_than_nothing:
    statement: No score falls by more than there is.
    tests:
      - difference: {{column: score, of: {{inference: greedy}}, to: {{inference: zero_shot}},
                     at_least: -100}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("causal")
    write_llama(folder / "llama")
    project = Project.create(folder / "p", STUDY.format(folder=folder / "llama"))
    project.run()
    return project


@pytest.fixture(scope="module")
def rows(finished) -> dict[tuple[str, str, str], dict[str, str]]:
    with (finished.results / "summary.csv").open() as stream:
        found = list(csv.DictReader(stream))
    return {(row["model"], row["seq_len"], row["inference"]): row for row in found}


def cell(project: Project, model: str, length: str):
    return project.results / f"needle/{model}/{length}/cpu/generated/seed1"


def predictions(project: Project, model: str, length: str, point: str) -> dict[str, str]:
    path = cell(project, model, length) / f"predict/{point}/predictions.jsonl"
    lines = map(json.loads, path.read_text().splitlines())
    return {row["id"]: row["prediction"] for row in lines}


def test_each_model_length_and_point_has_its_row(rows):
    assert set(rows) == {(m, n, p) for m in MODELS for n in LENGTHS for p in POINTS}
    for (model, _, point), row in rows.items():
        assert 0 <= float(row["score"]) <= 100 and row["score_name"] == "f1"
        if point == "zero_shot":
            assert (row["weights"], row["trainable_parameters"]) == ("initial", "NA")
            continue
        total, trained = int(row["parameters"]), int(row["trainable_parameters"])
        assert trained == total if model == "full" else 0 < trained < total
        assert row["adaptation"] == {"full": "full", "lora": "lora r4"}[model]
    totals = {row["parameters"] for key, row in rows.items() if key[2] == "greedy"}
    assert len(totals) == 1, "adapters count apart"


def test_both_models_share_one_download(finished):
    assert len(list((finished.path / "resources/models").iterdir())) == 1


def test_what_is_trained_alone_is_kept(finished):
    kept = {
        model: {path.name for path in (cell(finished, model, "96") / "finetune/model").iterdir()}
        for model in MODELS
    }
    assert "model.safetensors" in kept["full"] and "adapter_model.safetensors" not in kept["full"]
    assert "adapter_model.safetensors" in kept["lora"] and "model.safetensors" not in kept["lora"]


def test_before_training_both_are_one_model_and_after_it_neither_is_that(finished):
    for length in LENGTHS:
        before = [predictions(finished, model, length, "zero_shot") for model in MODELS]
        assert len(before[0]) == 8 and before[0] == before[1]
        for model in MODELS:
            assert predictions(finished, model, length, "greedy") != before[0], model


def test_a_length_is_that_of_prompt_and_answer(finished):
    """A token per byte: the shorter length cuts documents, and both leave the answer its room."""
    for length in LENGTHS:
        path = cell(finished, "lora", length) / "finetune/training.json"
        training = json.loads(path.read_text())
        longest = int(length) * training["samples"]
        assert training["input_tokens"] <= training["padded_input_tokens"] <= longest
        assert training["input_tokens"] > 0.8 * longest, "documents fill what is left of it"


def test_claims_are_judged(finished):
    judged = json.loads((finished.results / "claims.json").read_text())["claims"]
    verdicts = {name: claim["verdicts"][WHOLE_RUN] for name, claim in judged.items()}
    names = ("few_are_trained", "training_is_no_worse_than_nothing")
    assert verdicts == dict.fromkeys(names, SUPPORTED)
    pairs = {name: claim["tests"][0]["judged"][WHOLE_RUN][HOLDS] for name, claim in judged.items()}
    assert pairs == dict(zip(names, (len(LENGTHS), len(LENGTHS) * len(MODELS)), strict=True))
