"""Splits that every machine makes alike, with no document in two of them."""

import json

import pytest

from longwatt.first_study.errors import FirstStudyError
from longwatt.first_study.fields import RowFields
from longwatt.first_study.splits import assigned, digest_of, rows_by_document, write_splits
from longwatt.first_study.texts_seen import RowTexts

FIELDS = RowFields("text", "answer", "question")
BOTH = ["validation", "test"]


def groups(count, rows=1, labels=("",)):
    made = (RowTexts("", f"text {n}", ("a",)) for n in range(count))
    return {digest_of(one): (rows, labels[n % len(labels)]) for n, one in enumerate(made)}


def sizes(of, held):
    return {split: sum(held[d][0] for d in of if of[d] == split) for split in ("train", *BOTH)}


def test_sixty_rows_leave_fifteen_per_cent_for_each():
    held = groups(60)
    assert sizes(assigned(held, BOTH, False), held) == {"train": 42, "validation": 9, "test": 9}


def test_many_rows_leave_ten_per_cent_and_no_more_than_is_of_use():
    held = groups(3000)
    assert sizes(assigned(held, BOTH, False), held)["test"] == 300
    held = groups(60, rows=1000)
    assert sizes(assigned(held, BOTH, False), held)["test"] == 2000


def test_the_order_of_rows_decides_nothing():
    held = groups(50)
    turned = dict(reversed(held.items()))
    assert assigned(held, BOTH, False) == assigned(turned, BOTH, False)


def test_three_documents_are_enough_and_two_are_not():
    assert sorted(assigned(groups(3), BOTH, False).values()) == ["test", "train", "validation"]
    with pytest.raises(FirstStudyError, match=r"2 rows with 2 .* takes 3 different"):
        assigned(groups(2), BOTH, False)


def test_every_split_has_every_label_that_has_three_documents():
    held = groups(61, labels=("a", "b", "a", "b", "a"))
    of = assigned(held, BOTH, True)
    for split in ("train", *BOTH):
        assert {held[d][1] for d in of if of[d] == split} == {"a", "b"}
    rare = {**groups(40, labels=("a", "b")), b"rare": (1, "c")}
    assert assigned(rare, BOTH, True)[b"rare"] == "train"


def test_labels_with_too_few_documents_are_refused():
    with pytest.raises(FirstStudyError, match="two labels with three different inputs each"):
        assigned(groups(30, labels=("a",)), BOTH, True)


def test_rows_of_one_document_stay_together_as_they_were(tmp_path):
    rows = [
        {"text": f"Story {n // 3}  told", "question": f"Who {n}?", "answer": "Anna", "more": [n]}
        for n in range(60)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    held, lacking = rows_by_document(source, FIELDS)
    assert len(held) == 20 and lacking == 0
    places = {split: tmp_path / f"{split}.jsonl" for split in ("train", *BOTH)}
    counts = write_splits(source, places, assigned(held, BOTH, False), FIELDS, None)
    read = {
        split: [json.loads(line) for line in path.read_text().splitlines()]
        for split, path in places.items()
    }
    assert {split: len(found) for split, found in read.items()} == counts
    texts = [{row["text"] for row in found} for found in read.values()]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert sorted((row for found in read.values() for row in found), key=str) == sorted(
        rows, key=str
    )


def test_white_space_makes_no_other_document():
    one, other = (RowTexts("", text, ("a",)) for text in ("a  b\n", "a b"))
    assert digest_of(one) == digest_of(other)
