"""Records and their sources."""

import json
from dataclasses import replace
from statistics import fmean

import pytest

from longwatt.config.documents import validate
from longwatt.config.errors import StudyError
from longwatt.datasets import aclsum, aclsum_sentences, needle, options_schema, source_names
from longwatt.datasets.records import (
    SPLITS,
    DatasetError,
    Record,
    SourceData,
    _check,
    download,
    read_records,
)

OPTIONS = {
    "words_per_document": 100,
    "train": 400,
    "validation": 20,
    "test": 5,
    "answer_vocabulary": 16,
}


@pytest.fixture(scope="module")
def needles() -> SourceData:
    return needle.read(OPTIONS)


def test_a_needle_is_in_its_document_once(needles):
    for record in needles.splits["train"]:
        (answer,) = record.references
        assert record.input.count(f"the secret code is {answer} .") == 1
        assert record.input.startswith("What is the secret code?\n\n")
        assert len(record.input.split("\n\n")[1].split()) == 100


def test_evidence_ends_where_each_answer_word_ends(needles):
    for record in needles.splits["train"]:
        words = [record.input[:end].split()[-1] for end in record.evidence]
        assert " ".join(words) == record.references[0]


def test_needles_lie_everywhere_alike(needles):
    places = [len(r.input[: r.evidence[0]].split()) / 105 for r in needles.splits["train"]]
    assert fmean(places) == pytest.approx(0.52, abs=0.05)
    for quarter in range(4):
        share = fmean(quarter / 4 <= place < (quarter + 1) / 4 for place in places)
        assert share == pytest.approx(0.25, abs=0.08)


def test_a_seed_makes_the_same_needles_again(needles):
    assert needle.read(OPTIONS).splits == needles.splits
    assert needle.read({**OPTIONS, "seed": 1}).splits != needles.splits


def test_the_floor_of_chance_is_that_of_a_constant_guess(needles):
    seconds = [record.references[0].split()[1] for record in needles.splits["train"]]
    assert len(set(seconds)) == 16
    assert needles.chance_per_hidden_word == 1 / 16
    assert fmean(word == seconds[0] for word in seconds) == pytest.approx(1 / 16, abs=0.04)


def test_aclsum_gives_whole_papers_and_their_aspects():
    data = aclsum.read({"aspects": ["outcome"]})
    assert {split: len(records) for split, records in data.splits.items()} == {
        "train": 100,
        "validation": 50,
        "test": 100,
    }
    words = [len(record.input.split()) for records in data.splits.values() for record in records]
    assert min(words) > 1000 and 3500 < fmean(words) < 5500
    record = data.splits["validation"][0]
    assert record.id.endswith("/outcome")
    assert record.input.startswith("What is the outcome of the paper?\n\n")
    assert len(record.references) == 1
    assert len(aclsum.read({}).splits["train"]) == 300


def test_a_full_text_has_each_heading_once():
    body = [
        {"section": "Intro", "text": "One."},
        {"section": "Intro", "text": "Two."},
        {"section": "", "text": " "},
    ]
    parse = {"pdf_parse": {"abstract": [{"text": "Short."}], "body_text": body}}
    assert aclsum.full_text("Title", parse) == "Title\nShort.\nIntro\nOne.\nTwo."


@pytest.mark.parametrize("source", source_names())
def test_a_misspelt_option_is_named(source):
    with pytest.raises(StudyError, match="unknown key 'sed'"):
        validate(
            {"sed": 1, **(OPTIONS if source == "needle" else {})},
            options_schema(source),
            "datasets.x.options",
        )


def test_records_survive_the_disk(tmp_path):
    download({"source": "needle", "options": OPTIONS}, tmp_path, {"rule": "x"})
    found = list(read_records(tmp_path / "records.jsonl"))
    expected = needle.read(OPTIONS).splits["test"]
    assert [replace(record, lead="") for split, record in found if split == "test"] == expected
    assert {record.lead for _, record in found} != {""}
    facts = json.loads((tmp_path / "dataset.json").read_text())
    assert (
        facts["splits"]["train"]["examples"] == 400
        and facts["splits"]["train"]["words_out_mean"] == 2
    )
    assert facts["provenance"]["rule"] == "x" and set(facts["sha256"]) == {"records.jsonl"}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "has no records"),
        ([Record("1", "text", ("out",)), Record("1", "text", ("out",))], "ids repeat"),
        ([Record("1", "  ", ("out",))], "id '1': no text"),
        ([Record("7", "text", ())], "id '7': no text"),
    ],
)
def test_records_that_cannot_be_used_are_refused(records, said):
    fine = [Record("1", "text", ("out",))]
    splits = {**dict.fromkeys(SPLITS, fine), "validation": records}
    with pytest.raises(DatasetError, match=f"'validation'.*{said}"):
        _check(SourceData(splits, "none", "here"), "x")


# Classification


def test_sentences_of_papers_have_one_class_each():
    data = aclsum_sentences.read({})
    assert {split: len(records) for split, records in data.splits.items()} == {
        "train": 3868 - 24,
        "validation": 1978 - 9,
        "test": 3766 - 26,
    }
    for records in data.splits.values():
        assert len({record.id for record in records}) == len(records)
        assert {record.references[0] for record in records} == {*aclsum.ASPECTS, "none"}
    first = data.splits["train"][1]
    assert first.id == "P06-1112/abstract/1" and first.references == ("approach",)
    assert first.input.startswith("Using the correlation measure")
    assert "24 of 3868 sentences of train have several aspects: left out" in data.notes
    assert "40 of 3740 records of test have the same text as one of train" in data.notes


def test_sentences_of_aspects_that_are_not_asked_for_are_none():
    data = aclsum_sentences.read({"aspects": ["outcome"]})
    assert {record.references[0] for record in data.splits["test"]} == {"outcome", "none"}
    assert len(data.splits["train"]) == 3868, "with one aspect no sentence has several"


def classified(tmp_path, **splits: str):
    """dataset.json of records with the labels that the letters say."""
    files = {}
    for split, labels in splits.items():
        rows = [{"input": f"{split} {n}", "label": label} for n, label in enumerate(labels)]
        files[split] = str(tmp_path / f"{split}.jsonl")
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"source": "labelled", "options": {"files": files}, "task": "classification"}
    download(settings, tmp_path / "out", {})
    return json.loads((tmp_path / "out/dataset.json").read_text())


def test_labels_are_counted_by_split(tmp_path):
    facts = classified(tmp_path, train="bbac", validation="ab", test="cb")
    assert facts["labels"] == ["a", "b", "c"]
    assert facts["splits"]["train"]["labels"] == {"a": 1, "b": 2, "c": 1}
    assert (
        facts["splits"]["test"]["labels"] == {"b": 1, "c": 1}
        and facts["splits"]["test"]["rows"] == 2
    )


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": "ab", "test": "axxy"},
         r"'test': the training split never has 'x' \(2\), 'y' \(1\); first at id"),
        ({"train": "aaa", "test": "ab"},
         "'train': every label is 'a'; a split needs two classes or more"),
        ({"train": "ab", "validation": "bb"}, "'validation': every label is 'b'"),
        ({"test": "ab"}, "classification needs a training split"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learnt_are_refused(tmp_path, splits, said):
    with pytest.raises(DatasetError, match=said):
        classified(tmp_path, **splits)
    assert not (tmp_path / "out").exists()


def test_a_record_with_two_labels_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "7", "input": "t", "output": ["a", "b"]}\n')
    settings = {"source": "jsonl", "options": {"files": {"train": str(tmp_path / "a.jsonl")}}}
    with pytest.raises(
        DatasetError,
        match=r"jsonl, split 'train', id '7': classification needs one label, .* 'a', 'b'",
    ):
        download({**settings, "task": "classification"}, tmp_path / "out", {})
    download(settings, tmp_path / "out", {})


def test_a_second_text_survives_the_disk_and_counts(tmp_path):
    rows = [{"input": "one two", "b": "three", "label": n} for n in (0, 1)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"files": {"train": str(tmp_path / "a.jsonl")}, "fields": {"second": "b"}}
    download({"source": "labelled", "options": options}, tmp_path / "out", {})
    (_, record), _ = read_records(tmp_path / "out/records.jsonl")
    assert (record.input, record.second) == ("one two", "three")
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    assert facts["splits"]["train"]["words_in_mean"] == 3 and "labels" not in facts
