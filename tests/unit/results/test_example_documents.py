"""Examples that share a document are found by its text, or by what their source knows."""

import csv
import json

import numpy as np
import pandas as pd
import pyarrow
import pytest

from longwatt.metrics.document_samples import documents_of
from longwatt.results.example_documents import shared_documents
from longwatt.results.example_scores import read_examples
from longwatt.tokens.special_tokens import load_split
from longwatt.tokens.stored_rows import StoredRows
from tests.needle_data import make_data
from tests.unit.results.test_scoring import run


def stored(*rows: tuple[str, list[int], list[int]]) -> StoredRows:
    """Rows of id, the query's token ids and the document's."""
    table = pyarrow.table(
        {
            "id": [id_ for id_, _, _ in rows],
            "input_ids": pyarrow.array([q + d for _, q, d in rows], pyarrow.list_(pyarrow.int32())),
            "document_start_tokens": [len(query) for _, query, _ in rows],
        }
    )
    return StoredRows(table, range(len(rows)))


def test_examples_with_one_text_after_their_query_share_it():
    rows = stored(("a", [1], [7, 8]), ("b", [2, 3], [7, 8]), ("c", [1], [8, 7]), ("d", [7], [8]))
    assert shared_documents(rows, {}) == {"a": "a", "b": "a", "c": "c", "d": "d"}
    assert shared_documents(rows.select([1, 2, 3]), {}) == {}, "each has its own"


def test_examples_without_a_document_share_none():
    assert shared_documents(stored(("a", [1, 2], []), ("b", [1, 2], [])), {}) == {}


def test_sentences_of_a_paper_share_it_though_their_texts_differ():
    rows = stored(
        ("p1/abstract/0", [], [1]), ("p1/abstract/1", [], [2]), ("p2/abstract/0", [], [3])
    )
    dataset = {"provenance": {"settings": {"source": "aclsum_sentences"}}}
    assert set(shared_documents(rows, dataset).values()) == {"p1", "p2"}


QUESTIONS = ("Who?", "Where?", "Who?", "When?")
MEETINGS = ("It rained all day.", "It rained all day.", "The sea was calm.", "The sea was calm.")


@pytest.fixture(scope="module")
def meetings(tmp_path_factory):
    """Two meetings of two questions each."""
    folder = tmp_path_factory.mktemp("meetings")
    lines = [
        json.dumps({"id": f"q{n}", "question": question, "input": text, "output": "nobody"}) + "\n"
        for n, (question, text) in enumerate(zip(QUESTIONS, MEETINGS, strict=True))
    ]
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    for path in files.values():
        (folder / path).write_text("".join(lines))
    options = {"files": files, "fields": {"query": "question"}}
    return make_data(
        folder / "made",
        {"source": "jsonl", "options": options},
        {"vocab_size": 300, "min_frequency": 1},
    )


@pytest.mark.parametrize("references", ["best", "each"])
def test_scoring_records_documents_and_draws_them(meetings, tmp_path, references):
    ids = load_split(meetings / "tokens", "validation", None)["id"]
    said = {f"{id_}#0" if references == "each" else id_: "nobody" for id_ in ids}
    found = run(meetings, tmp_path, said, seq_len=64, references=references)
    assert "over 2 documents (widened, since they are few)" in found["interval"]
    assert found["score_ci_low"] < 60, "2 documents alike leave more open than 4 answers"
    with (tmp_path / "examples.csv").open() as stream:
        assert [row["document"] for row in csv.DictReader(stream)] == ["q0", "q0", "q2", "q2"]
    examples = read_examples(tmp_path / "examples.csv")
    for column in ("score", "score_lead", "f1"):
        assert documents_of(examples.sample(column, "f1")) == (0, 0, 1, 1)


def test_files_without_the_column_draw_examples(meetings, tmp_path):
    ids = load_split(meetings / "tokens", "validation", None)["id"]
    run(meetings, tmp_path, dict.fromkeys(ids, "nobody"), seq_len=64)
    pd.read_csv(tmp_path / "examples.csv").drop(columns="document").to_csv(
        tmp_path / "examples.csv", index=False
    )
    (tmp_path / "scores.json").unlink()  # with the digest of what was written
    sample = read_examples(tmp_path / "examples.csv").sample("score", "f1")
    assert documents_of(sample) is None and np.array_equal(sample.rows, [1, 1, 1, 1])
