"""Answers of cells as a cascade reads them: from files, and of labels that one cell never gives."""

import json
from dataclasses import replace

import numpy as np
import pytest

from longwatt.cascades.members import Answered, CascadeError, paired_samples, read_answered
from longwatt.cascades.thresholds import cascaded, curve_of
from longwatt.metrics.classification import MACRO_F1, headline_score, labels_sample
from longwatt.metrics.document_samples import documents_of, with_documents
from longwatt.study.cascades import MEAN
from tests.unit.cascades.made import answers, ids

GOLD = ["a", "b", "c", "a", "b", "c"]
FIRST = ["a", "a", "a", "a", "b", "b"]  # never says c
LAST = ["a", "b", "c", "c", "c", "c"]


def labelled(said):
    rows = zip(ids(6), GOLD, said, strict=True)
    found = {id_: {"label": label, "prediction": one} for id_, label, one in rows}
    own = labels_sample(found, MACRO_F1)
    return Answered(own, tuple(said), ({"confidence": 0.5},) * 6, MACRO_F1, tuple(GOLD))


def test_macro_f1_of_a_cascade_counts_the_labels_of_both_cells():
    pair = paired_samples(labelled(FIRST), labelled(LAST))
    asked = np.array([False, True, True, False, False, True])
    mixed = [last if one else first for one, first, last in zip(asked, FIRST, LAST, strict=True)]
    gold = dict(zip(ids(6), GOLD, strict=True))
    for sample, said in ((cascaded(*pair, asked), mixed), (pair[0], FIRST), (pair[1], LAST)):
        expected = headline_score(MACRO_F1, dict(zip(ids(6), said, strict=True)), gold)
        assert sample.value == pytest.approx(expected)
    curve = curve_of(*pair, np.arange(6.0))
    assert curve.scores[[0, -1]] == pytest.approx([pair[0].value, pair[1].value])


def test_cells_of_different_examples_are_refused():
    with pytest.raises(CascadeError, match="the same examples"):
        paired_samples(answers([1.0, 2.0]), answers([1.0]))


def test_files_of_references_that_count_alone_give_one_answer_for_each_example(tmp_path):
    """Two references of e1, one of e2, in an order that is not that of their ids."""
    rows = [("e2#0", "e2", 10.0), ("e1#0", "e1", 40.0), ("e1#1", "e1", 60.0)]
    said = [{"id": id_, "prediction": f"of {own}", MEAN: -1.0 if own == "e1" else None}
            for id_, own, _ in rows]  # fmt: skip
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, said)))
    table = ["id,example,f1", *(f"{id_},{own},{score}" for id_, own, score in rows)]
    (tmp_path / "examples.csv").write_text("\n".join(table))
    for name in ("scores", "inference"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"score_name": "f1"}))
    files = {"predictions": "predictions.jsonl", "inference": "inference.json",
             "scores": "scores.json", "examples": "examples.csv"}  # fmt: skip
    found = read_answered(**{name: tmp_path / file for name, file in files.items()})
    assert found.sample.ids == ("e1", "e2") and found.answers == ("of e1", "of e2")
    assert found.confidence(MEAN)[0] == -1 and np.isnan(found.confidence(MEAN)[1])
    assert found.sample.value == pytest.approx(110 / 3)
    half = found.part(np.array([1]))
    assert (half.sample.ids, half.answers, half.sample.value) == (("e2",), ("of e2",), 10.0)


def test_a_part_of_examples_that_share_documents_draws_its_own_documents():
    answered = answers([1.0, 2.0, 3.0, 4.0])
    documents = dict(zip(answered.sample.ids, ("m1", "m1", "m2", "m3"), strict=True))
    shared = replace(answered, sample=with_documents(answered.sample, documents))
    part = shared.part(np.array([0, 1, 3])).sample
    assert documents_of(part) == (0, 0, 1) and len(part.draws(100, 0)) == 100


def test_both_cells_draw_the_documents_that_one_knows_labels_too():
    for one, other in ((answers([1.0, 2.0, 3.0]), answers([3.0, 2.0, 1.0])),
                       (labelled(FIRST), labelled(LAST))):  # fmt: skip
        documents = {id_: "m1" if place < 2 else id_ for place, id_ in enumerate(one.sample.ids)}
        known = replace(one, sample=with_documents(one.sample, documents))
        pair = paired_samples(known, other)
        wanted = (0, 0, *range(1, len(one.sample.ids) - 1))
        assert [documents_of(sample) for sample in pair] == [wanted, wanted]
