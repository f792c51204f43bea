"""Recorded logits as they are read."""

import json

import pytest

from longwatt.exits.logits import ExitsError, read_logits
from longwatt.provenance.artefacts import Damaged


def test_a_split_s_rows_are_read_as_they_stand(tmp_path):
    row = {
        "split": "test",
        "id": "a",
        "label": 1,
        "label_name": "yes",
        "input_tokens": 7,
        "logits": [[0, 1], [2, 3]],
    }
    (tmp_path / "logits.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "split": "validation"}) + "\n"
    )
    found = read_logits(tmp_path / "logits.jsonl")
    assert list(found) == ["test", "validation"]
    assert found["test"].logits.tolist() == [[[0, 1]], [[2, 3]]] and found["test"].label_names == (
        "yes",
    )
    assert (found["test"].gold.tolist(), found["test"].input_tokens.tolist()) == ([1], [7])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", r"logits\.jsonl is damaged \(line 2 is not JSON: "),
        ({"logits": [[0, 1]]}, r"rows of the split 'test' have other numbers of exits or classes"),
        ({"logits": [[0, 1], [float("inf"), 3]]}, r"1 examples of the split 'test'.*'a' first"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, second, message):
    row = {
        "split": "test",
        "id": "a",
        "label": 1,
        "label_name": "yes",
        "input_tokens": 7,
        "logits": [[0, 1], [2, 3]],
    }
    text = second if isinstance(second, str) else json.dumps({**row, **second})
    (tmp_path / "logits.jsonl").write_text(json.dumps(row) + "\n" + text + "\n")
    with pytest.raises((ExitsError, Damaged), match=message):
        read_logits(tmp_path / "logits.jsonl")
