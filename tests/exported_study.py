"""Made-up finished studies to export: GPU, estimated and unknown energy, adapters, cascades."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from longwatt.energy.reduction.reduce import J_PER_KWH
from longwatt.exports.facts import study_in_force
from longwatt.freshness.in_force import InForce
from longwatt.provenance.stamps import Stage
from tests.made_results import summarise, write_artefact

REVISION = "0123456789abcdef0123456789abcdef01234567"
ODD = 'Needle | "quoted" <b> `x` µ_2*'
STUDY = f"""
title: 'A study: "odd" | <i>title</i> #1'
description: What to tell of it.
datasets:
  needle:
    title: {json.dumps(ODD)}
    source: needle
    options: {{words_per_document: 40, train: 64, validation: 12, test: 4, answer_vocabulary: 8,
              filler_vocabulary: 40}}
    metric: f1
    training: {{max_target_tokens: 8}}
  qmsum:
    source: scrolls
    options: {{task: qmsum, revision: {REVISION}}}
    metric: rouge
    training: {{max_target_tokens: 8}}
tokenizers:
  bpe: {{kind: byte_level_bpe, vocab_size: 600}}
  smol: {{kind: checkpoint, repository: HuggingFaceTB/SmolLM2-135M, revision: {REVISION}}}
models:
  led:
    family: led
    initialisation: random
    tokenizer: bpe
    config: {{d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
             decoder_attention_heads: 2, encoder_ffn_dim: 16, decoder_ffn_dim: 16,
             attention_window: 16, max_encoder_position_embeddings: 128,
             max_decoder_position_embeddings: 32, init_std: 0.08}}
  smol:
    title: SmolLM2 135M
    family: causal
    initialisation: checkpoint
    repository: HuggingFaceTB/SmolLM2-135M
    revision: {REVISION}
    tokenizer: smol
    lora: {{rank: 4}}
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 4}}
  gpu: {{gpus: 2, per_device_batch_size: 4}}
training:
  learning_rate: 1e-3
  max_steps: 8
  validation: {{every_steps: 4, max_examples: 6, batch_size: 6}}
inference:
  greedy: {{split: validation, batch_size: 5}}
  tested: {{split: test, batch_size: 5}}
  zero_shot: {{split: validation, batch_size: 5, weights: initial}}
  both: {{split: test, batch_size: 5,
         cascade: {{first: {{seq_len: 32}}, calibrate_on: greedy}}}}
grid:
  - {{datasets: [needle], models: [led], seq_lens: [32], budgets: [cpu], seeds: [1, 2],
     inference: [greedy, tested]}}
  - {{datasets: [needle], models: [led], seq_lens: [64], budgets: [cpu], seeds: [1],
     inference: [greedy, tested, both]}}
  - {{datasets: [qmsum], models: [smol], seq_lens: [64], budgets: [gpu], seeds: [1],
     inference: [greedy, zero_shot]}}
"""
LABELS = """
title: Labels
datasets:
  sentences: {title: Sentences, source: aclsum_sentences, task: classification, metric: accuracy}
tokenizers:
  bpe: {kind: byte_level_bpe, vocab_size: 600}
models:
  exits:
    family: early_exit
    initialisation: random
    tokenizer: bpe
    config: {model_type: bert, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2,
             intermediate_size: 128, max_position_embeddings: 128}
    exits: {layers: [0, 1]}
budgets:
  cpu: {gpus: 0, per_device_batch_size: 4}
training:
  max_steps: 8
  validation: {every_steps: 4, max_examples: 6, batch_size: 6}
inference:
  leave: {split: test, batch_size: 5, exit: {threshold: 0.5}}
  last: {split: test, batch_size: 5}
grid:
  - {datasets: [sentences], models: [exits], seq_lens: [64], budgets: [cpu], seeds: [1]}
"""
LABELLED = "sentences/exits/64/cpu/classified/seed1"
DECLARED = """
export:
  license: cc-by-4.0
  license_url: https://creativecommons.org/licenses/by/4.0/
  language: [en]
  author: {name: "Ada <Lovelace>", id: "https://orcid.org/0000-0002-1825-0097",
           organization: Analytical Engines}
  confidentiality: public
"""
MACHINE = """
study: told
place: {country: France, location: Grenoble, infrastructure: onPremise}
carbon: {grams_per_kwh: 50, source: the grid's operator, year: 2025}
"""
ESTIMATED = "needle/led/32/cpu/generated/seed1"
UNKNOWN = "needle/led/32/cpu/generated/seed2"
LATER = "needle/led/64/cpu/generated/seed1"
ADAPTED = "qmsum/smol/64/gpu/generated/seed1"
BASIS = "3.76 W, a table of processors"
BEGAN = 1_760_000_000.25  # 2025-10-09 08:53:20 UTC
VERSIONS = {"python": "3.12.1", "torch": "2.13.0", "transformers": "5.23.0"}
ON_CPU = {"device": "cpu", "processor": "EPYC", "threads": 3, "processes": 2, "versions": VERSIONS}
ON_GPU = {**ON_CPU, "device": "NVIDIA H200"}
DONE = {
    "finetune": {"parameters": 2_000_000, "trainable_parameters": 1_000, "input_tokens": 5_000,
                 "epochs": 0.5, "best_score": 12.0, "steps": 8},
    "predict": {"input_tokens": 700, "output_tokens": 80, "samples": 12},
    "score": {"score_name": "f1", "score": 12.5, "examples": 12, "score_confidence": 0.95,
              "score_ci_low": 10.0, "score_ci_high": 15.0, "f1": 12.5},
    "download_dataset": {"licence": "made up", "origin": "longwatt.datasets",
                         "splits": {"train": {"examples": 64}, "validation": {"examples": 12}}},
}  # fmt: skip


def energy(stage: Stage) -> dict[str, Any]:
    """What energy.json says: measured on the GPUs, unknown of one cell, else estimated."""
    joules = 300.0 if stage.artefact.endswith("finetune/energy.json") else 7.0
    if UNKNOWN in stage.artefact:
        known = {"energy_j": None, "energy_kwh": None, "energy_source": "none", "measured": False}
    elif ADAPTED in stage.artefact:
        known = {
            "energy_source": "nvml_counter",
            "measured": True,
            "mean_gpu_utilization_pct": 80.0,
        }
    else:
        known = {"energy_source": "estimate", "measured": False, "watts_basis": BASIS}
    return {"energy_j": joules, "energy_kwh": joules / J_PER_KWH, "flags": ["short"], **known}


def facts_of(stage: Stage) -> dict[str, Any]:
    """What a job's artefact says beside its settings."""
    if stage.rule == "summarize_energy":
        return energy(stage)
    machine = (ON_GPU if ADAPTED in stage.artefact else ON_CPU) if stage.rule in (
        "finetune", "predict"
    ) else {}  # fmt: skip
    adapted = {"adaptation": "lora" if ADAPTED in stage.artefact else "full"}
    own = adapted if stage.rule == "finetune" else {}
    if stage.rule == "fit_cascade":
        return {"threshold": 0.5}
    labels = LABELLED in stage.artefact and stage.rule == "score"
    score = {"score_name": "accuracy", "accuracy": 62.5, "score": 62.5} if labels else {}
    return {**DONE.get(stage.rule, {}), **machine, **own, **score}


def write_study(text: str = STUDY, name: str = "told", machine: str = MACHINE) -> InForce:
    """Write a study's file, the machine's configuration, and all results, below this folder."""
    Path("studies").mkdir(exist_ok=True)
    Path("studies", f"{name}.yaml").write_text(text + DECLARED)
    Path("config.yaml").write_text(machine)
    results = Path("results", name)
    results.mkdir(parents=True)
    current = study_in_force(results, {})
    for stage in current.stages.before_summary():
        write_artefact(current, stage, **facts_of(stage))
        if stage.rule in ("finetune", "predict"):
            log = Path(stage.artefact).with_name("energy.jsonl.gz")
            lines = [{"run": "published", "of": 1}, {"run": "1.jsonl"}, {"wall_time_s": BEGAN}]
            log.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode(), mtime=0))
    if current.stages.with_exits:  # the comparison that the summary is made from
        write_artefact(current, current.stages.compare_exits(), rows={})
    summarise(current)
    return current
