"""References that a tokenizer does not give back."""

import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from longwatt.datasets.records import download
from longwatt.tokens.round_trip import RoundTrip, round_trip_notes
from longwatt.tokens.tokenize import tokenize_dataset
from longwatt.tokens.tokenizers import make_tokenizer


def tokenized(folder, references, tokenizer=None, text="a plain input") -> dict:
    """tokenized.json of a dataset with these references."""
    rows = [{"id": f"r{n}", "input": text, "output": output} for n, output in enumerate(references)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    download(
        {"source": "jsonl", "options": {"files": {"train": str(folder / "train.jsonl")}}},
        folder,
        {},
    )
    if tokenizer is None:
        make_tokenizer(
            {"kind": "byte_level_bpe", "vocab_size": 300, "min_frequency": 1},
            folder / "records.jsonl",
            folder / "t",
        )
    else:
        tokenizer.save_pretrained(folder / "t")
    tokenize_dataset(
        folder / "records.jsonl", folder / "t", folder / "tokens", folder / "tokenized.json", {}
    )
    return json.loads((folder / "tokenized.json").read_text())


def lower_case() -> PreTrainedTokenizerFast:
    """Words of a small vocabulary, in lower case."""
    words = ["<unk>", "a", "plain", "input", "rain", "today"]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<unk>")


def test_texts_that_come_back_are_counted_as_such(tmp_path):
    found = tokenized(tmp_path, ["rain today", "春天来了", " rain\n  today ", "naïve 😀"])
    assert found["notes"] == []
    assert found["round_trip"]["train"] == {
        "references": 4, "references_changed": 0, "references_changed_beyond_space": 0,
        "references_with_unknown_tokens": 0, "inputs": 4, "inputs_with_unknown_tokens": 0,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["rain , today .", "it is n't so", "why ? because !"])
def test_the_clean_up_of_spaces_is_told(tmp_path, capsys, text):
    found = tokenized(tmp_path, ["rain today", text])["round_trip"]["train"]
    assert (found["references"], found["references_changed"], found["first_id"]) == (2, 1, "r1")
    assert (
        "1 of 2 references of train are not what the tokenizer gives back"
        in capsys.readouterr().out
    )


def test_white_space_alone_is_told_apart(tmp_path):
    found = tokenized(tmp_path, ["Rain  today", "RAIN"], lower_case())["round_trip"]["train"]
    assert (found["references_changed"], found["references_changed_beyond_space"]) == (2, 2)
    assert (found["first_reference"], found["first_decoded"]) == ("Rain  today", "rain today")
    found = tokenized(tmp_path, ["rain  today"], lower_case())["round_trip"]["train"]
    assert (found["references_changed"], found["references_changed_beyond_space"]) == (1, 0)


def test_what_a_vocabulary_lacks_is_counted_in_inputs_too(tmp_path):
    found = tokenized(tmp_path, ["snow today", "rain"], lower_case(), "a plain snow")
    facts = found["round_trip"]["train"]
    assert (facts["references_with_unknown_tokens"], facts["inputs_with_unknown_tokens"]) == (1, 2)
    assert found["notes"][1:] == [
        "1 of 2 references of train have characters that the vocabulary lacks",
        "2 of 2 inputs of train have characters that the vocabulary lacks",
    ]


def test_a_note_shows_where_a_long_text_changes():
    counted = RoundTrip(None)
    start = "word " * 100
    counted.add_reference("7", f"{start}, end", [1], f"{start.strip()}, end")
    (said,) = round_trip_notes("test", counted.facts())
    assert "first at id '7'" in said and " , end' becomes" in said and len(said) < 400
    counted = RoundTrip(None)
    counted.add_reference("7", "cut short", [1], "cut")
    assert counted.facts()["first_decoded"] == "cut"
