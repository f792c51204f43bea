"""The cells that `bench.peers` trains, and both trainers of each."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    LEDForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from bench import step_overhead
from longwatt.config.documents import merge
from longwatt.config.studies import read_study
from longwatt.datasets.records import download
from longwatt.jobs.work_folder import WorkFolder
from longwatt.jobs.worker import Spec
from longwatt.models.exits.model import EarlyExitModel
from longwatt.models.family import IGNORED, Example
from longwatt.models.weights.download import download_model
from longwatt.study.cells import Cell, expand
from longwatt.study.execution import deciding_settings, execution
from longwatt.study.settings import execution_settings, finetune_settings
from longwatt.tokens.special_tokens import load_tokenizer
from longwatt.tokens.tokenize import tokenize_dataset
from longwatt.tokens.tokenizers import make_tokenizer
from longwatt.training import finetune
from longwatt.training.ledger import Ledger

ROOT = Path(__file__).parent.parent
LED, EARLY_EXIT, CAUSAL = "led", "early_exit", "causal"
WARM_UP_STEPS = 2
LORA = {"rank": 16, "alpha": 32}
LABELS = ("fine", "poor", "plain")
BPE = {"kind": "byte_level_bpe", "vocab_size": 4000, "min_frequency": 2}
Row = dict[str, Any]


@dataclass(frozen=True)
class PeerCase:
    """One cell that both train.

    Attributes:
        family: LED, EARLY_EXIT or CAUSAL.
        steps: optimiser steps that are timed.
        changes: settings that its family's study gets.
        source: the case of `bench.step_overhead` it is, where its family is LED.
        equal_code: whether both compute with the same code, and not only the same numbers.
    """

    family: str
    steps: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    equal_code: bool = True


def _led(source: str, steps: int, attention: str) -> PeerCase:
    changes = {"models": {"led_tiny": {"attention": attention}}}
    return PeerCase(LED, steps, changes, source, attention == "stock")


CASES: Mapping[str, PeerCase] = {
    "led_demo": _led("demo", 20, "stock"),
    "led_d256": _led("d256", 6, "stock"),
    "early_exit": PeerCase(EARLY_EXIT, 20),
    "causal_full": PeerCase(CAUSAL, 8),
    "causal_lora": PeerCase(CAUSAL, 8, {"models": {"llama": {"lora": LORA}}}),
    "led_demo_fast": _led("demo", 20, "fast"),
    "led_d256_fast": _led("d256", 6, "fast"),
}

EXITS_STUDY = """
title: "Early exit: a small encoder on made sentences"
datasets:
  words:
    source: labelled
    options:
      files: {{train: {folder}/train.jsonl, validation: {folder}/validation.jsonl,
              test: {folder}/test.jsonl}}
      fields: {{input: text}}
    task: classification
    metric: accuracy
tokenizers:
  bpe: {{kind: byte_level_bpe, vocab_size: 4000}}
models:
  bert:
    family: early_exit
    initialisation: random
    tokenizer: bpe
    config: {{model_type: bert, hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4,
             intermediate_size: 1024, max_position_embeddings: 128, hidden_dropout_prob: 0,
             attention_probs_dropout_prob: 0}}
    exits: {{layers: [0, 1, 3]}}
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 16}}
inference: {{last: {{split: test}}}}
grid:
  - {{datasets: [words], models: [bert], seq_lens: [128], budgets: [cpu], inference: [last]}}
"""
CAUSAL_STUDY = """
title: "A small Llama on needles"
datasets:
  needle:
    source: needle
    options: {{words_per_document: 480, train: 8, validation: 8, test: 8, answer_words: 2,
              answer_vocabulary: 32, filler_vocabulary: 300, seed: 0}}
    metric: f1
    training: {{max_target_tokens: 8}}
tokenizers:
  bpe: {{kind: byte_level_bpe, vocab_size: 4000}}
models:
  llama:
    family: causal
    initialisation: checkpoint
    path: {folder}/base
    tokenizer: bpe
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 4}}
inference: {{greedy: {{split: validation}}}}
grid:
  - {{datasets: [needle], models: [llama], seq_lens: [512], budgets: [cpu]}}
"""
# Llama's own configuration at a small size; its vocabulary is larger than its tokenizer's.
LLAMA: Mapping[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}


def study_of(case: PeerCase, folder: Path, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the study of a case's family with its changes and `more`, and enough examples.

    Args:
        folder: of its data.
        more: further changes, such as those for a device.
    """
    steps = case.steps + WARM_UP_STEPS
    if case.family == LED:
        study = step_overhead.study_of(case.source, steps)
    else:
        text = EXITS_STUDY if case.family == EARLY_EXIT else CAUSAL_STUDY
        path = folder / "study.yaml"
        path.write_text(text.format(folder=folder), encoding="utf-8")
        study = read_study(path, ROOT / "workflow/schemas/study.schema.json")
    training = {
        # One step more than is timed, since the last one ends in a validation.
        "max_steps": steps + 1,
        "log_every_steps": 10,
        "checkpoint_every_s": 10**9,
        "validation": {"every_steps": 10**6},
    }
    dataset = {"training": training}
    if case.family == CAUSAL:
        dataset["options"] = {"train": examples_of(study, steps)}
    named = dict.fromkeys(study["datasets"], dataset)
    return dict(merge(study, {"datasets": named}, case.changes, more))


def examples_of(study: Mapping[str, Any], steps: int) -> int:
    """Count the training examples of a warm-up and the timed steps, with some to spare."""
    return int(study["budgets"]["cpu"]["per_device_batch_size"]) * (steps + 2)


def cell_of(study: dict[str, Any]) -> Cell:
    """Return the cell to train: of LED with needles at its longest input, else the only one."""
    cells = list(expand(study).values())
    return step_overhead.cell_of(study) if len(cells) > 1 else cells[0]


def make_data(case: PeerCase, study: dict[str, Any], folder: Path) -> dict[str, str]:
    """Make a case's examples, tokens and base in a folder, and return a training's inputs."""
    (name,) = (name for name in study["datasets"] if name in ("needle", "words"))
    if case.family == EARLY_EXIT:
        write_sentences(folder, examples_of(study, case.steps + WARM_UP_STEPS))
    records, bpe = folder / "records.jsonl", folder / "bpe"
    entry = study["datasets"][name]
    download({"options": {}, **entry}, folder, {})
    make_tokenizer(BPE, records, bpe)
    tokenize_dataset(records, bpe, folder / "tokens", folder / "tokenized.json", {})
    names = {"tokens": "tokens", "tokenized": "tokenized.json", "dataset": "dataset.json"}
    names |= {"tokenizer": "bpe/tokenizer.json", "work": "work"}
    if case.family == CAUSAL:
        make_base(folder / "base", bpe)
        download_model({"path": str(folder / "base")}, folder / "model", {})
        names["checkpoint"] = "model/model.json"
    return {name: str(folder / file) for name, file in names.items()}


def write_sentences(folder: Path, train: int) -> None:
    """Write sentences in which one word tells the label, as JSON lines, into a folder."""
    source, words = random.Random(0), [f"word{number}" for number in range(400)]
    for split, count in {"train": train, "validation": 12, "test": 12}.items():
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(count):
                label = LABELS[number % len(LABELS)]
                text = [label, *source.choices(words, k=source.randint(40, 160))]
                stream.write(json.dumps({"text": " ".join(text), "label": label}) + "\n")


def make_base(folder: Path, tokenizer: Path) -> None:
    """Write a small Llama with random weights and a tokenizer into a folder, as a checkpoint."""
    torch.manual_seed(0)
    ours = load_tokenizer(tokenizer)
    roles = ("pad_token_id", "bos_token_id", "eos_token_id")
    ids = {role: getattr(ours, role) for role in roles}
    LlamaForCausalLM(LlamaConfig(**LLAMA, **ids)).save_pretrained(folder)
    ours.save_pretrained(folder)


def spec_of(case: PeerCase, folder: Path, more: Mapping[str, Any]) -> Spec:
    """Make a case's data, and return the specification of its training."""
    study = study_of(case, folder, more)
    cell = cell_of(study)
    settings = finetune_settings(study, cell)
    if case.family == LED:  # the demo's cells end at 256 tokens
        settings["seq_len"] = step_overhead.CASES[case.source]["seq_len"]
    carried = execution({**execution_settings(study, cell), **settings["training"]})
    settings["training"] = deciding_settings(settings["training"])
    paths = make_data(case, study, folder)
    return Spec(settings, paths, {}, {}, str(folder / "error.json"), None, carried)


def prepare(case: PeerCase, folder: Path, more: Mapping[str, Any]) -> None:
    """Make in a folder all that both trainers start from.

    That is the specification of longwatt's training, its examples in their order as a dataset of
    the library `datasets`, and the weights that it begins with.
    """
    spec = spec_of(case, folder, more)
    (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")
    trainer = longwatt_trainer(spec)
    order = chain.from_iterable(batch.positions for batch in trainer.micro_batches)
    examples = trainer.train_dataset
    rows = [row_of(case.family, examples[position]) for position in order]
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "rows"))
    if case.family == CAUSAL:  # the base is whole already; adapters are all that it lacks
        held = trainer.model.state_dict()
        first = {name: held[name].clone() for name in held if ".lora_" in name}
        save_file(first, folder / "adapters.safetensors")
    else:
        trainer.model.save_pretrained(folder / "first")


def row_of(family: str, example: Example) -> Row:
    """Return an example as users of the library's Trainer have it."""
    ids, labels = example.input_ids, example.labels
    if family == CAUSAL:
        ids, labels = [*ids, *labels], [IGNORED] * len(ids) + labels
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def read_spec(folder: Path) -> Spec:
    """Read the specification that `prepare` wrote."""
    return Spec(**json.loads((folder / "spec.json").read_text(encoding="utf-8")))


def longwatt_trainer(spec: Spec) -> Any:
    """Return longwatt's trainer of a case, as its job makes it, but without validations."""
    work = WorkFolder(Path(spec.paths["work"]), {}, None)
    work.begin(execution=spec.execution)
    trainer: Any = finetune._trainer(spec, work, Ledger(), None, attempt=1)
    trainer.evaluate = lambda *args, **more: {}
    return trainer


def plain_trainer(case: PeerCase, spec: Spec, folder: Path) -> Trainer:
    """Return the library's own Trainer of the same examples, weights and optimiser."""
    tokenizer = load_tokenizer(Path(spec.paths["tokenizer"]).parent)
    model = plain_model(case, spec, folder)
    return Trainer(
        model=model,
        args=plain_arguments(spec, folder),
        train_dataset=datasets.load_from_disk(str(folder / "rows")),
        data_collator=collator_of(case.family, tokenizer),
    )


def plain_model(case: PeerCase, spec: Spec, folder: Path) -> Any:
    """Load the model with the weights that longwatt begins with, as the library's users do."""
    if case.family == LED:
        return LEDForConditionalGeneration.from_pretrained(folder / "first")
    if case.family == EARLY_EXIT:
        return EarlyExitModel.from_pretrained(folder / "first")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    if lora := spec.settings["model"].get("lora"):
        model = with_adapters(model, lora, folder / "adapters.safetensors")
    return model


def with_adapters(model: Any, lora: Mapping[str, Any], weights: Path) -> Any:
    """Give a model adapters by peft on all linear layers, with these weights."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": lora["rank"], "lora_alpha": lora["alpha"], "lora_dropout": lora["dropout"]}
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **settings)
    adapted = get_peft_model(model, config)
    held = {f"base_model.model.{name}": tensor for name, tensor in load_file(weights).items()}
    adapters = {name for name, _ in adapted.named_parameters() if ".lora_" in name}
    assert adapters == set(held), "both have adapters on the same layers"
    adapted.load_state_dict(held, strict=False)
    return adapted


def plain_arguments(spec: Spec, folder: Path) -> TrainingArguments:
    """Return the library's defaults with a cell's optimiser, schedule, batch and precision."""
    training, budget = spec.settings["training"], spec.settings["budget"]
    same = ("learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay")
    return TrainingArguments(
        **{name: training[name] for name in (*same, "max_grad_norm", "max_steps")},
        output_dir=str(folder / "plain"),
        per_device_train_batch_size=budget["per_device_batch_size"],
        gradient_accumulation_steps=budget["gradient_accumulation_steps"],
        lr_scheduler_type=training["lr_scheduler"],
        warmup_steps=training["warmup_ratio"],  # below 1 it is a ratio
        train_sampling_strategy="sequential",  # of examples in longwatt's order
        logging_steps=spec.execution["log_every_steps"],
        bf16=budget["precision"] == "bf16",
        use_cpu=budget["gpus"] == 0,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def collator_of(family: str, tokenizer: Any) -> Any:
    """Return the library's collator, with the global attention mask that LED needs after it."""
    if family == EARLY_EXIT:
        return DataCollatorWithPadding(tokenizer)
    collator = DataCollatorForSeq2Seq(tokenizer)
    return partial(_first_is_global, collator) if family == LED else collator


def _first_is_global(collator: Any, rows: list[Row]) -> Any:
    batch = collator(rows)
    batch["global_attention_mask"] = torch.zeros_like(batch["input_ids"])
    batch["global_attention_mask"][:, 0] = 1
    return batch
