"""Records and their sources."""

import json
from dataclasses import replace
from statistics import fmean

import pytest

from longwatt.datasets import aclsum, needle, options_schema, sources
from longwatt.datasets.records import SPLITS, DatasetError, Record, SourceData, _check, download, read_records
from longwatt.study import StudyError, validate

OPTIONS = {"words_per_document": 100, "train": 400, "validation": 20, "test": 5, "answer_vocabulary": 16}


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
    body = [{"section": "Intro", "text": "One."}, {"section": "Intro", "text": "Two."}, {"section": "", "text": " "}]
    parse = {"pdf_parse": {"abstract": [{"text": "Short."}], "body_text": body}}
    assert aclsum.full_text("Title", parse) == "Title\nShort.\nIntro\nOne.\nTwo."


@pytest.mark.parametrize("source", sources())
def test_a_misspelt_option_is_named(source):
    with pytest.raises(StudyError, match="unknown key 'sed'"):
        validate({"sed": 1, **(OPTIONS if source == "needle" else {})}, options_schema(source), "datasets.x.options")


def test_records_survive_the_disk(tmp_path):
    download({"source": "needle", "options": OPTIONS}, tmp_path, {"rule": "x"})
    found = list(read_records(tmp_path / "records.jsonl"))
    expected = needle.read(OPTIONS).splits["test"]
    assert [replace(record, lead="") for split, record in found if split == "test"] == expected
    assert {record.lead for _, record in found} != {""}
    facts = json.loads((tmp_path / "dataset.json").read_text())
    assert facts["splits"]["train"]["examples"] == 400 and facts["splits"]["train"]["words_out_mean"] == 2
    assert facts["provenance"] == {"rule": "x"}


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
