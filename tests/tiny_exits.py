"""A tiny study of early exit: one word decides a sentence's label; four narrow layers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from longwatt.config.studies import read_study
from tests.conftest import ROOT

WORDS = ("stone", "river", "cloud", "field", "house", "light", "paper", "glass")
LABELS = {"good": ("fine", "great"), "bad": ("poor", "awful"), "none": ("plain",)}
STUDY = """
title: Tiny exits
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
  bpe: {{kind: byte_level_bpe, vocab_size: 400}}
models:
  exits: &tiny
    family: early_exit
    initialisation: random
    tokenizer: bpe
    config: {{model_type: bert, hidden_size: 32, num_hidden_layers: 4, num_attention_heads: 2,
             intermediate_size: 64, max_position_embeddings: 64, hidden_dropout_prob: 0,
             attention_probs_dropout_prob: 0}}
    exits: {{layers: [0, 1, 3]}}
  standard: {{<<: *tiny, exits: {{layers: [3]}}}}
  shallow: {{<<: *tiny, exits: {{layers: [1]}}}}
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 16}}
training:
  learning_rate: 5e-3
  max_steps: 80
  log_every_steps: 10
  validation: {{every_steps: 40, batch_size: 16}}
inference:
  last: {{split: test, batch_sizes: [1, 8]}}
  early: {{split: test, batch_sizes: [1, 8], regroup_batches: 3, exit: {{thresholds: [0.7]}}}}
  patient: {{split: test, batch_size: 1, exit: {{patiences: [2]}}}}
  oracle: {{split: test, batch_size: 1, exit: {{oracle: true}}}}
grid:
  - {{datasets: [words], models: [exits], seq_lens: [24], budgets: [cpu],
      inference: [last, early, patient, oracle]}}
  - {{datasets: [words], models: [standard, shallow], seq_lens: [24], budgets: [cpu],
      inference: [last]}}
claims:
  calibration:
    statement: Temperatures bring confidence nearer to accuracy.
    random_weights: true
    tests:
      - {{value: {{column: ece_drop, of: {{model: exits, inference: early-t0.7-b1}}, above: 0}}}}
"""


def write_data(folder: Path, rows: int = 60) -> None:
    """Three splits of JSON lines, the same at every call."""
    source = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(rows * (3 if split == "train" else 1)):
                label = list(LABELS)[number % 3]
                words = [source.choice(WORDS) for _ in range(source.randint(2, 12))]
                words.insert(source.randint(0, len(words)), source.choice(LABELS[label]))
                stream.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")


def study_text(data: Path) -> str:
    """The study file, its data in a folder."""
    return STUDY.format(folder=data)


def read_tiny_exits(folder: Path) -> dict[str, Any]:
    """The study as the workflow reads it, with its data."""
    write_data(folder / "data")
    path = folder / "s.yaml"
    path.write_text(study_text(folder / "data"))
    return read_study(path, ROOT / "workflow/schemas/study.schema.json")
