"""Needles near the beginning: the same documents, with a share of the needles moved."""

import pytest

from longwatt.config.documents import validate
from longwatt.config.errors import StudyError
from longwatt.datasets import leading_needle, needle, options_schema

OPTIONS = {"words_per_document": 200, "train": 300, "validation": 300, "test": 10, "seed": 3}
LEAD = {"lead_share": 0.7, "lead_words": 30}


def seen_words(record) -> int:
    """Words of the document up to the answer's last."""
    return len(record.input[record.document_start : record.evidence[-1]].split())


def test_a_share_of_the_needles_moves_and_nothing_else_changes():
    before, after = needle.read(OPTIONS), leading_needle.read({**OPTIONS, **LEAD})
    near = {True: 0, False: 0}
    for split, records in before.splits.items():
        for record, moved in zip(records, after.splits[split], strict=True):
            assert (moved.id, moved.references) == (record.id, record.references)
            assert sorted(moved.input.split()) == sorted(record.input.split())
            words = moved.references[0].split()
            ends = zip(moved.evidence, words, strict=True)
            assert [moved.input[end - len(word) : end] for end, word in ends] == words
            near[seen_words(moved) <= 30] += 1
            if moved != record:
                assert seen_words(moved) <= 30
    uniform = 1 - LEAD["lead_share"]
    expected = LEAD["lead_share"] + uniform * 24 / 194  # a needle has seven words
    assert near[True] / sum(near.values()) == pytest.approx(expected, abs=0.05)
    assert after.chance_per_hidden_word == before.chance_per_hidden_word


def test_all_may_stand_at_the_beginning_and_the_options_are_checked():
    found = leading_needle.read({**OPTIONS, "lead_share": 1, "lead_words": 16})
    assert max(map(seen_words, found.splits["train"])) <= 16
    schema = options_schema("leading_needle")
    validate({**OPTIONS, **LEAD}, schema, "here")
    with pytest.raises(StudyError, match="lead_share"):
        validate({**OPTIONS, **LEAD, "lead_share": 1.5}, schema, "here")
    with pytest.raises(StudyError, match="lead_words"):
        validate({**OPTIONS, "lead_share": 0.5}, schema, "here")
