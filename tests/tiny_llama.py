"""A tiny Llama with random weights as a checkpoint's folder, and a dataset of short questions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 160,
    "initializer_range": 0.2,  # large enough for a difference to show
}
QUESTIONS = ("Which code?", "Say the code of this report.")
WORDS = ("stone", "river", "cloud", "field", "house", "light", "paper", "glass")
ANSWERS = ("red fox", "red", "red fox of old")


def write_llama(folder: Path, **shape: Any) -> Path:
    """A checkpoint: one token per byte, a beginning before every text, and no padding token."""
    alphabet = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    inner.add_special_tokens([BOS, EOS])
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=BOS, eos_token=EOS).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    config = LlamaConfig(vocab_size=len(alphabet), **{**SHAPE, **ids, **shape})
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_questions(folder: Path, train: int = 24) -> Path:
    """Three splits of questions on documents of 1 to 24 words, the same at every call."""
    source = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in {"train": train, "validation": 10, "test": 4}.items():
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(count):
                row = {
                    "id": f"{split}-{number}",
                    "query": QUESTIONS[number % len(QUESTIONS)],
                    "input": " ".join(source.choices(WORDS, k=source.randint(1, 24))),
                    "output": ANSWERS[source.randrange(len(ANSWERS))],
                }
                stream.write(json.dumps(row) + "\n")
    return folder
