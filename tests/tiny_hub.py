"""Tiny repositories like the published study's, in memory: LED, BigBird-Pegasus, SCROLLS."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path

import sentencepiece
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BigBirdPegasusConfig,
    BigBirdPegasusForConditionalGeneration,
    LEDConfig,
    LEDForConditionalGeneration,
)

from tests.hub_server import Hub

VOCABULARY = 400
# Pegasus' settings in the repositories of BigBird-Pegasus: no ids before the pieces, and a mask
# among these.
BIGBIRD_TOKENIZER = {
    "tokenizer_class": "PegasusTokenizer", "offset": 0, "mask_token_sent": None,
    "mask_token": "[MASK]", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
    "bos_token": "<s>", "cls_token": "[CLS]", "sep_token": "[SEP]",
}  # fmt: skip
CONTROLS = ["[CLS]", "[SEP]", "[MASK]", *(f"<unused_{n}>" for n in range(20))]
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Text with words of many lengths, capitals, numbers and marks, some of them not of ASCII."""
    source = random.Random(seed)
    words = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(300)]
    ends = [".", "?", " (see 3.1).", ",", " -- naïve ﬁne ½", "…"]
    return [
        " ".join(source.choices(words, k=source.randint(3, 14))).capitalize() + source.choice(ends)
        for _ in range(count)
    ]


def led_model() -> LEDForConditionalGeneration:
    """Two layers and tied weights, as the published ones have."""
    torch.manual_seed(0)
    config = LEDConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        attention_window=16, init_std=0.05, max_encoder_position_embeddings=128,
        max_decoder_position_embeddings=64,
    )  # fmt: skip
    return LEDForConditionalGeneration(config).eval()


def bigbird_model() -> BigBirdPegasusForConditionalGeneration:
    """Of the kind of the published one, its blocks small."""
    torch.manual_seed(0)
    config = BigBirdPegasusConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        max_position_embeddings=128, block_size=8, num_random_blocks=1, init_std=0.05,
    )  # fmt: skip
    return BigBirdPegasusForConditionalGeneration(config).eval()


def pickled(model: torch.nn.Module) -> bytes:
    """pytorch_model.bin, tied weights sharing their memory."""
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return stream.getvalue()


def led_files(folder: Path) -> dict[str, bytes]:
    """Make files as in allenai/led-base-16384: pickled weights, vocab.json and merges.txt."""
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(
        sentences(300), vocab_size=VOCABULARY, special_tokens=special, show_progress=False
    )
    folder.mkdir(parents=True)
    bpe.save_model(str(folder))
    model = led_model()
    return {
        "config.json": model.config.to_json_string().encode(),
        "pytorch_model.bin": pickled(model),
        "tf_model.h5": b"not wanted",
        "tokenizer_config.json": b'{"model_max_length": 16384}',
        **{name: (folder / name).read_bytes() for name in ("vocab.json", "merges.txt")},
    }


def bigbird_files(folder: Path) -> dict[str, bytes]:
    """Make files as in google/bigbird-pegasus-large-pubmed: safetensors, a SentencePiece model."""
    folder.mkdir(parents=True)
    bigbird_model().save_pretrained(folder)
    kept = ("config.json", "generation_config.json", "model.safetensors")
    return {
        **{name: (folder / name).read_bytes() for name in kept},
        "README.md": b"not wanted",
        "spiece.model": spiece(folder),
        "tokenizer_config.json": json.dumps(BIGBIRD_TOKENIZER).encode(),
    }


def spiece(folder: Path, controls: list[str] = CONTROLS) -> bytes:
    """A unigram model with NFKC, its special pieces first."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(300)),
        model_prefix=str(folder / "spiece"),
        vocab_size=VOCABULARY,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        pad_id=0, eos_id=1, bos_id=2, unk_id=3 + len(controls),
        control_symbols=controls,
        hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return (folder / "spiece.model").read_bytes()


def scrolls_files(task: str = "qmsum") -> dict[str, bytes]:
    """As tau/scrolls: a zip for each task."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, count in (("train", 24), ("validation", 6)):
            lines = sentences(4 * count, seed=len(split))
            rows = [
                {"id": f"{split}-{n}", "pid": f"{n}",
                 "input": f"What?\n\n{' '.join(lines[4 * n : 4 * n + 3])}",
                 "output": lines[4 * n + 3]}
                for n in range(count)
            ]  # fmt: skip
            archive.writestr(
                f"{task}/{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows)
            )
    return {f"{task}.zip": stream.getvalue(), "README.md": b"words", "scrolls.py": b"not wanted"}


STUDY = """
title: From the hub
datasets:
  qmsum:
    source: scrolls
    options: {{task: qmsum, revision: {data}}}
    metric: rouge
    training: {{max_target_tokens: 8}}
tokenizers:
  led: {{kind: checkpoint, repository: some/led, revision: {led}}}
  bigbird: {{kind: checkpoint, repository: some/bigbird, revision: {bigbird}}}
models:
  led: {{family: led, initialisation: checkpoint,
         repository: some/led, revision: {led}, tokenizer: led}}
  bigbird: {{family: bigbird_pegasus, initialisation: checkpoint,
             repository: some/bigbird, revision: {bigbird}, tokenizer: bigbird}}
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 8}}
training:
  max_steps: 2
  validation: {{every_steps: 2, max_examples: 2, batch_size: 2}}
inference:
  greedy: {{split: validation, batch_size: 6, max_examples: 2}}
grid:
  - {{datasets: [qmsum], models: [led, bigbird], seq_lens: [64], budgets: [cpu]}}
"""


def repositories(folder: Path) -> dict[tuple[str, str], dict[str, bytes]]:
    """All of them, by kind and name."""
    return {
        ("dataset", "tau/scrolls"): scrolls_files(),
        ("model", "some/led"): led_files(folder / "led"),
        ("model", "some/bigbird"): bigbird_files(folder / "bigbird"),
    }


def study_of(served: Hub) -> str:
    """A study of theirs, with the commits that they have there."""
    commits = {
        name.rpartition("/")[2]: entry.branches["main"]
        for (_, name), entry in served.repositories.items()
    }
    return STUDY.format(data=commits["scrolls"], led=commits["led"], bigbird=commits["bigbird"])
