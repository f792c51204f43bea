"""A causal cell beside a plain loop, written with torch, transformers and peft alone."""

import json
import math
import re
import string
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

from longwatt.config.documents import merge
from longwatt.config.studies import read_study
from longwatt.models.weights.download import download_model
from longwatt.training import finetune
from longwatt.training.trainer import CellTrainer
from tests.conftest import ROOT
from tests.needle_data import make_data
from tests.tiny_cell import training_spec
from tests.tiny_llama import write_llama, write_questions

SEQ_LEN, MOST_TARGETS, MOST_NEW, STEPS = 128, 12, 16, 6
TEMPLATE = "Question: {query}\nReport: {input}\nAnswer: "
STUDY = f"""
title: Tiny causal
datasets:
  questions:
    source: jsonl
    options: {{{{files: {{{{train: {{folder}}/train.jsonl, validation: {{folder}}/validation.jsonl,
                       test: {{folder}}/test.jsonl}}}}, fields: {{{{query: query}}}}}}}}
    metric: f1
    training: {{{{max_target_tokens: {MOST_TARGETS}}}}}
tokenizers:
  llama: {{{{kind: checkpoint, path: {{folder}}/base}}}}
models:
  llama:
    family: causal
    initialisation: checkpoint
    path: {{folder}}/base
    tokenizer: llama
    prompt: {json.dumps(TEMPLATE).replace("{", "{{").replace("}", "}}")}
budgets:
  cpu: {{{{gpus: 0, per_device_batch_size: 4}}}}
generation: {{{{max_new_tokens: {MOST_NEW}}}}}
training:
  learning_rate: 1e-2
  # A small gradient's rounding would show in weights, divided by its own size.
  adam_epsilon: 1e-3
  weight_decay: 0.1
  max_steps: {STEPS}
  max_grad_norm: 0.5
  log_every_steps: 1
  validation: {{{{every_steps: {STEPS}, batch_size: 4}}}}
inference:
  greedy: {{{{split: validation}}}}
grid:
  - {{{{datasets: [questions], models: [llama], seq_lens: [96, {SEQ_LEN}], budgets: [cpu],
      seeds: [1]}}}}
"""
LORA = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0, "target_modules": None, "merge": False}
TRAINED = {"full": {}, "lora": {"model": {"lora": LORA}}}
MOST_TOKENS = 400  # of a micro-batch
TOKENS = {"per_device_batch_size": None, "max_tokens_per_batch": MOST_TOKENS}
BATCHES = {
    "examples": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "tokens": {**TOKENS, "gradient_accumulation_steps": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = write_questions(tmp_path_factory.mktemp("causal"))
    write_llama(made / "base")
    download_model({"path": str(made / "base")}, made / "model", {})
    return made


@pytest.fixture(scope="module")
def study(folder) -> dict:
    (folder / "s.yaml").write_text(STUDY.format(folder=folder))
    return read_study(folder / "s.yaml", ROOT / "workflow/schemas/study.schema.json")


@pytest.fixture(scope="module")
def data(study, folder) -> Path:
    source = study["datasets"]["questions"]
    return make_data(folder / "data", source, study["tokenizers"]["llama"])


@dataclass
class Cell:
    """What longwatt made of a cell."""

    facts: dict
    losses: list[float]  # of every optimiser step
    order: list[list[list[int]]]  # by step and micro-batch, positions of training examples
    initial: dict[str, torch.Tensor]
    out: Path


def train(study, data, folder, out, changes, monkeypatch) -> Cell:
    """Train a cell by longwatt's worker, and note what a plain loop must begin with."""
    losses, trainers, initial = [], [], {}
    make, step = finetune._trainer, CellTrainer.training_step

    def note(*args, **kwargs):
        trainers.append(make(*args, **kwargs))
        held = trainers[0].model.state_dict().items()
        initial.update({name: tensor.clone() for name, tensor in held})
        return trainers[0]

    def add(self, *args, **kwargs):
        loss = step(self, *args, **kwargs)
        losses[self.state.global_step :] = [sum(losses[self.state.global_step :]) + loss.item()]
        return loss

    monkeypatch.setattr(finetune, "_trainer", note)
    monkeypatch.setattr(CellTrainer, "training_step", add)
    finetune.train(training_spec(study, data, out, changes, folder / "model"))
    facts = json.loads((out / "training.json").read_text())
    order = order_of(trainers[0].micro_batches, facts["gradient_accumulation_steps"])
    return Cell(facts, losses, order[: facts["steps"]], initial, out)


def order_of(micro_batches, accumulation) -> list[list[list[int]]]:
    """The examples of the first steps, which are longwatt's to choose."""
    order = []
    for epoch in range(STEPS):
        micro_batches.set_epoch(epoch)
        found = [list(batch.positions) for batch in micro_batches]
        order += [found[n : n + accumulation] for n in range(0, len(found), accumulation)]
    return order


class Plain:
    """Examples, model and training, by none of longwatt's code."""

    def __init__(self, folder: Path, lora: dict | None = None) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "base")
        self.folder, self.lora = folder, lora
        self.model = AutoModelForCausalLM.from_pretrained(folder / "base")
        if lora:
            sizes = {"r": lora["rank"], "lora_alpha": lora["alpha"]}
            how = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "lora_dropout": 0}
            self.model = peft.get_peft_model(self.model, peft.LoraConfig(**sizes, **how))

    def rows(self, split: str) -> list[dict]:
        lines = (self.folder / f"{split}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt(self, row: dict) -> list[int]:
        """The document is cut so that prompt and answer have room."""
        before, after = TEMPLATE.replace("{query}", row["query"]).split("{input}")
        before, after = [self.tokenizer.bos_token_id, *self.ids(before)], self.ids(after)
        room = SEQ_LEN - len(before) - len(after) - max(MOST_TARGETS, MOST_NEW)
        return [*before, *self.ids(row["input"])[:room], *after]

    def answer(self, row: dict) -> list[int]:
        return [*self.ids(row["output"])[: MOST_TARGETS - 1], self.tokenizer.eos_token_id]

    def batch(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        pairs = [(self.prompt(row), self.answer(row)) for row in rows]
        width = max(len(prompt) + len(answer) for prompt, answer in pairs)
        made = {"input_ids": [], "attention_mask": [], "labels": []}
        for prompt, answer in pairs:
            used = len(prompt) + len(answer)
            rest = width - used
            made["input_ids"].append(prompt + answer + [self.tokenizer.eos_token_id] * rest)
            made["attention_mask"].append([1] * used + [0] * rest)
            made["labels"].append([-100] * len(prompt) + answer + [-100] * rest)
        return {name: torch.tensor(value) for name, value in made.items()}

    def train(self, order: list[list[list[int]]], training: dict, by_tokens: bool) -> list[float]:
        """Train on these examples, and return the loss of every step."""
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=training["learning_rate"],
            betas=(training["adam_beta1"], training["adam_beta2"]),
            eps=training["adam_epsilon"],
            weight_decay=training["weight_decay"],
        )
        warm_up = math.ceil(training["warmup_ratio"] * len(order))
        schedule = get_scheduler("linear", optimizer, warm_up, len(order))
        examples = self.rows("train")
        losses = []
        for step in order:
            batches = [self.batch([examples[n] for n in positions]) for positions in step]
            counts = [int((batch["labels"] != -100).sum()) for batch in batches]
            weights = [count / sum(counts) if by_tokens else 1 / len(step) for count in counts]
            total = 0.0
            for batch, weight in zip(batches, weights, strict=True):
                loss = self.model(**batch).loss * weight
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(trained, training["max_grad_norm"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(total)
        return losses

    @torch.no_grad()
    def generate(self, row: dict) -> str:
        """One example, one token at a time, the whole sequence anew for each."""
        self.model.eval()
        ids = self.prompt(row)
        start = len(ids)
        while len(ids) < start + MOST_NEW:
            ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == self.tokenizer.eos_token_id:
                break
        return self.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def f1(prediction: str, reference: str) -> float:
    """F1 of words as of SQuAD, in per cent."""

    def words(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    ours, theirs = words(prediction), words(reference)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 100 * 2 * same / (len(ours) + len(theirs))


def weights_of(out: Path, lora: bool) -> dict[str, torch.Tensor]:
    """The published weights, by their names in a plain model."""
    name = "adapter_model" if lora else "model"
    return load_file(out / f"model/{name}.safetensors")


def plain_weights(model, lora: bool) -> dict[str, torch.Tensor]:
    return peft.get_peft_model_state_dict(model) if lora else model.state_dict()


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("trained", TRAINED)
def test_losses_and_weights_are_those_of_a_plain_loop(
    study, data, folder, tmp_path, monkeypatch, trained, batches
):
    changes = merge(TRAINED[trained], {"budget": BATCHES[batches]})
    cell = train(study, data, folder, tmp_path, changes, monkeypatch)
    lora = changes.get("model", {}).get("lora")
    plain = Plain(folder, lora)
    if lora:  # the same random beginnings
        first = {f"base_model.model.{name}": tensor for name, tensor in cell.initial.items()}
        assert {n for n, _ in plain.model.named_parameters() if ".lora_" in n} <= first.keys()
        plain.model.load_state_dict(first, strict=False)
    before = {name: t.clone() for name, t in plain_weights(plain.model, bool(lora)).items()}
    training = {**training_spec(study, data, tmp_path / "spec", changes).settings["training"]}
    losses = plain.train(cell.order, training, by_tokens=batches == "tokens")
    assert len(cell.losses) == STEPS and len({len(step) for step in cell.order}) <= 2
    assert cell.losses == pytest.approx(losses, rel=1e-6)
    assert cell.facts["best_step"] == STEPS, "the published weights are the last ones"
    ours, theirs = weights_of(tmp_path, bool(lora)), plain_weights(plain.model, bool(lora))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-6, atol=1e-6, msg=name)
    moved = [float((theirs[name] - before[name]).abs().max()) for name in theirs]
    assert min(moved) > 1e-4, "a loop that trains nothing would be equal too"


def test_batches_of_tokens_hold_as_many_examples_as_fit(study, data, folder, tmp_path, monkeypatch):
    cell = train(study, data, folder, tmp_path, {"budget": BATCHES["tokens"]}, monkeypatch)
    plain = Plain(folder)
    lengths = [len(plain.prompt(row)) + len(plain.answer(row)) for row in plain.rows("train")]
    assert max(lengths) <= SEQ_LEN and len(set(lengths)) > 5
    fitting, size, left = 0, 0, sorted(lengths, reverse=True)
    while left:  # the longest first, each batch as large as its longest example lets it
        size = MOST_TOKENS // left[0]
        fitting, left = fitting + 1, left[size:]
    epoch = [part for step in cell.order for part in step][:fitting]
    assert sorted(n for part in epoch for n in part) == list(range(len(lengths)))
    assert all(len(part) * max(lengths[n] for n in part) <= MOST_TOKENS for part in epoch)


@pytest.mark.parametrize("trained", TRAINED)
def test_a_validation_scores_what_a_plain_greedy_loop_generates(
    study, data, folder, tmp_path, monkeypatch, trained
):
    longer = {"max_steps": 40, "adam_epsilon": 1e-6, "validation": {"every_steps": 40}}
    changes = merge(TRAINED[trained], {"training": longer})
    cell = train(study, data, folder, tmp_path, changes, monkeypatch)
    lora = changes.get("model", {}).get("lora")
    plain = Plain(folder, lora)
    held = weights_of(tmp_path, bool(lora))
    if lora:
        peft.set_peft_model_state_dict(plain.model, held)
    else:
        plain.model.load_state_dict(held)
    rows = plain.rows("validation")
    said = {row["id"]: plain.generate(row) for row in rows}
    scores = [f1(said[row["id"]], row["output"]) for row in rows]
    assert cell.facts["best_score"] == pytest.approx(sum(scores) / len(scores), abs=1e-9)
    assert 0 < cell.facts["best_score"] < 100, "all wrong and all right say little"
