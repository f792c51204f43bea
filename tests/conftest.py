"""What tests share: where things are, and a tiny study."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.nvml import Machine, can_build

ROOT = Path(__file__).parent.parent

# A shell starts `pytest &` with Ctrl-C ignored, and every process below would inherit that; some
# tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


def wait_for(condition, what: str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Machine:
    """The stand-in for the GPU driver's library, compiled once."""
    if not can_build():
        pytest.skip("no gcc here to build the stand-in for NVML")
    return Machine(tmp_path_factory.mktemp("nvml")).build()


@pytest.fixture
def machine(library, tmp_path) -> Machine:
    """A machine with stand-in GPUs, of its own for each test."""
    folder = tmp_path / "machine"
    folder.mkdir()
    shutil.copy(library.folder / "libnvidia-ml.so.1", folder)
    return Machine(folder)


@pytest.fixture
def study_schema() -> Path:
    return ROOT / "workflow" / "schemas" / "study.schema.json"


TINY_STUDY = """
title: Tiny
datasets:
  needle:
    source: needle
    options: {words_per_document: 40, train: 64, validation: 12, test: 4, answer_vocabulary: 8,
              filler_vocabulary: 40}
    metric: f1
    training: {max_target_tokens: 8}
tokenizers:
  bpe: {kind: byte_level_bpe, vocab_size: 600}
models:
  led:
    family: led
    initialisation: random
    tokenizer: bpe
    config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
             decoder_attention_heads: 2, encoder_ffn_dim: 16, decoder_ffn_dim: 16,
             attention_window: 16, max_encoder_position_embeddings: 128,
             max_decoder_position_embeddings: 32, init_std: 0.08}
budgets:
  cpu: {gpus: 0, per_device_batch_size: 4}
training:
  learning_rate: 1e-3
  max_steps: 8
  log_every_steps: 2
  checkpoint_every_s: 0
  validation: {every_steps: 4, max_examples: 6, batch_size: 6}
inference:
  greedy: {split: validation, batch_size: 5}
grid:
  - {datasets: [needle], models: [led], seq_lens: [32, 64], budgets: [cpu], seeds: [1]}
"""


@pytest.fixture
def tiny_study_text() -> str:
    return TINY_STUDY
