"""Small tokenizers of decoder-only models' kinds, and stored rows with queries, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from longwatt.tokens.tokenize import tokenize_dataset

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# It strips messages, begins with the token that the tokenizer itself puts there, and ends answers
# by the end of text after a space.
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "[INST] {{ m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
CORPUS = (
    "What is the secret code? Read the text and answer. Question: Answer: the code is 17 of 42.",
    "user assistant [INST] [/INST] a report of ships and towns,\nwith many words in it ... ?!",
)


def byte_level(chat: str | None = None, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE as of GPT-2 and Qwen, without a padding token."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(CORPUS, _trainer(trainers.BpeTrainer, 400, alphabet))
    return _finished(inner, chat, bos)


def sentence_pieces(chat: str | None = None) -> PreTrainedTokenizerFast:
    """A BPE as of Llama 2: a space before every text, no splitting of words, and a beginning."""
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<s>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    alphabet = sorted({*"".join(CORPUS), "▁", "\n"})
    inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # in training alone
    inner.train_from_iterator(CORPUS, _trainer(trainers.BpeTrainer, 300, alphabet))
    inner.pre_tokenizer = None
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finished(inner, chat, bos=True)


def _trainer(kind: Any, size: int, alphabet: Sequence[str]) -> Any:
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    return kind(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )


def _finished(inner: Tokenizer, chat: str | None, bos: bool) -> PreTrainedTokenizerFast:
    if bos:
        inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    made.chat_template = chat
    return made


def stored(
    folder: Path, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Mapping[str, Any]]
) -> Path:
    """Tokenize training rows of query, document and answer into a folder, and return its tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder / "own")
    with (folder / "records.jsonl").open("w", encoding="utf-8") as stream:
        for number, row in enumerate(rows):
            begun = f"{row['query']}\n\n" if row["query"] else ""
            record = {
                "split": "train", "id": str(number), "input": begun + row["document"],
                "references": list(row.get("answers", ["17"])), "document_start": len(begun),
                "evidence": list(row.get("evidence", [])),
            }  # fmt: skip
            stream.write(json.dumps(record) + "\n")
    records, own = folder / "records.jsonl", folder / "own"
    tokenize_dataset(records, own, folder / "tokens", folder / "tokenized.json", {})
    return folder / "tokens"
