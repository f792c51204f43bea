"""Whole inputs are tokenized once; a cut equals the tokenizer's own truncation."""

import json
import random

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from longwatt.tokens.special_tokens import (
    SpecialTokens,
    TokenizerError,
    evenly_spread,
    load_split,
    load_tokenizer,
    visible_evidence,
)
from longwatt.tokens.tokenize import tokenize_dataset
from longwatt.tokens.tokenizers import make_tokenizer
from tests.needle_data import make_needle_data

OPTIONS = {"words_per_document": 60, "train": 40, "validation": 10, "test": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A needle set, a byte-level BPE trained on it, and its tokens."""
    path = tmp_path_factory.mktemp("tokens")
    return make_needle_data(path, OPTIONS, {"vocab_size": 700, "min_frequency": 2})


def t5_like() -> PreTrainedTokenizerFast:
    """A suffix and no prefix, as T5 has."""
    words = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefgh"])}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.mark.parametrize("length", [3, 4, 7, 20, 64, 500])
def test_a_cut_equals_the_tokenizers_own_truncation(folder, length):
    tokenizer = load_tokenizer(folder / "bpe")
    special = SpecialTokens.of(tokenizer)
    assert (len(special.prefix), len(special.suffix)) == (1, 1)
    records = dict(
        zip(
            *(load_split(folder / "tokens", "train", None)[c] for c in ("id", "input_ids")),
            strict=True,
        )
    )
    for line in (folder / "records.jsonl").read_text().splitlines()[:40]:
        row = json.loads(line)
        own = tokenizer(row["input"], truncation=True, max_length=length)["input_ids"]
        assert special.cut(records[row["id"]], length) == own


@pytest.mark.parametrize("length", [2, 3, 8, 30])
def test_a_cut_equals_truncation_without_a_prefix_too(length):
    tokenizer = t5_like()
    special = SpecialTokens.of(tokenizer)
    assert (special.prefix, special.suffix) == ((), (1,))
    text = " ".join(random.Random(length).choices("abcdefgh", k=20))
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert (
        special.cut(whole, length)
        == tokenizer(text, truncation=True, max_length=length)["input_ids"]
    )


def test_a_length_without_room_is_refused():
    with pytest.raises(TokenizerError, match="length 1 leaves no room"):
        SpecialTokens((), (1,)).cut([5], 1)


def test_rows_hold_ids_references_and_evidence(folder):
    tokenizer = load_tokenizer(folder / "bpe")
    for row in load_split(folder / "tokens", "validation", None):
        assert row["input_tokens"] == len(row["input_ids"])
        assert tokenizer.decode(row["labels"][0]).strip() == row["references"][0]
        seen = [
            tokenizer.decode(row["input_ids"][:end]).split()[-1] for end in row["evidence_ends"]
        ]
        assert " ".join(seen) == row["references"][0]
        first, _ = row["evidence_ends"]
        assert tokenizer.decode(row["input_ids"][: first - 1]).split()[-1] != seen[0]


def test_rows_hold_the_query_and_where_the_document_begins(folder):
    tokenizer = load_tokenizer(folder / "bpe")
    for row in load_split(folder / "tokens", "validation", None):
        assert row["query"] == "What is the secret code?"
        ids, start = row["input_ids"], row["document_start_tokens"]
        before, document = (tokenizer.decode(part) for part in (ids[:start], ids[start:]))
        assert before.strip() == row["query"] and not document[0].isspace()
        assert f"{row['query']}\n\n{document}" == tokenizer.decode(ids).strip()


def tokenized(tmp_path, made: PreTrainedTokenizerFast, text: str, start: int) -> dict:
    """The stored row of one text, tokenized as a dataset of it alone."""
    made.save_pretrained(tmp_path / "own")
    row = {"split": "train", "id": "a", "input": text, "references": ["b"], "document_start": start}
    (tmp_path / "records.jsonl").write_text(json.dumps(row))
    paths = (tmp_path / name for name in ("records.jsonl", "own", "tokens", "tokenized.json"))
    tokenize_dataset(*paths, {})
    (found,) = load_split(tmp_path / "tokens", "train", None)
    return found


@pytest.mark.parametrize(
    ("text", "start", "query", "ids"),
    [
        ("a b", 0, "", 0),
        ("a\n\nb c", 3, "a", 1),
        ("a\n\n  b", 3, "a", 1),  # the tokenizer drops white space
        ("a\n\n  ", 3, "a", 1),  # and here it has no token of the document
        ("a b\n\nc", 5, "a b", 2),
        ("ab\n\nc", 1, "a", 0),  # a token across the boundary
    ],
)
def test_a_document_begins_with_its_first_token(tmp_path, text, start, query, ids):
    words = {"[UNK]": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, "ab": 5}
    inner = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="[UNK]")
    row = tokenized(tmp_path, made, text, start)
    assert (row["query"], row["document_start_tokens"]) == (query, ids)


def test_evidence_is_seen_only_when_it_is_whole():
    assert [visible_evidence([5, 9], kept) for kept in (4, 5, 8, 9)] == [0, 1, 1, 2]


def test_the_report_names_every_file_by_its_digest(folder):
    report = json.loads((folder / "tokenized.json").read_text())
    assert len(report["sha256"]) == 3 and report["special_tokens"] == 2
    assert report["input_tokens"]["train"]["max"] > 60


def test_the_tokenizer_is_trained_on_the_training_split_alone(folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for row in rows:
        if row["split"] != "train":
            row["input"] = "zyxwv " * 200
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"kind": "byte_level_bpe", "vocab_size": 700, "min_frequency": 2}
    make_tokenizer(settings, tmp_path / "records.jsonl", tmp_path / "bpe")
    assert (tmp_path / "bpe/tokenizer.json").read_text() == (
        folder / "bpe/tokenizer.json"
    ).read_text()


def test_a_checkpoints_own_tokenizer_is_copied(folder, tmp_path):
    settings = {"kind": "checkpoint", "path": str(folder / "bpe")}
    make_tokenizer(settings, folder / "records.jsonl", tmp_path / "own")
    text = "the secret code"
    assert (
        load_tokenizer(tmp_path / "own")(text)["input_ids"]
        == load_tokenizer(folder / "bpe")(text)["input_ids"]
    )
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json; save the tokenizer"):
        make_tokenizer(
            {"kind": "checkpoint", "path": str(tmp_path)},
            folder / "records.jsonl",
            tmp_path / "none",
        )


def test_a_part_of_a_split_is_evenly_spread(folder):
    assert evenly_spread(10, 5) == [1, 3, 5, 7, 9]
    assert evenly_spread(7, 7) == list(range(7))
    assert len(load_split(folder / "tokens", "train", 7)) == 7
    assert len(load_split(folder / "tokens", "train", 400)) == 40
