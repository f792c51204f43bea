"""Stored tokens are read as the library that writes them reads them."""

import shutil

import pytest
from datasets import Dataset, Features, List, Value, load_from_disk

from longwatt.tokens.special_tokens import load_split
from longwatt.tokens.stored_rows import read_split, read_splits
from tests.needle_data import make_needle_data

OPTIONS = {"words_per_document": 30, "train": 90, "validation": 10, "test": 5}
IDS = List(Value("int32"))
FEATURES = Features({"id": Value("string"), "input_ids": IDS, "labels": List(IDS)})


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """The tokens of a needle set; its training split has several batches of records."""
    path = tmp_path_factory.mktemp("tokens")
    return make_needle_data(path, OPTIONS, {"vocab_size": 500, "min_frequency": 2}) / "tokens"


def test_rows_and_columns_are_those_of_datasets(tokens):
    theirs = load_from_disk(str(tokens))
    ours = read_splits(tokens)
    assert list(ours) == list(theirs) == ["train", "validation", "test"]
    for split, rows in ours.items():
        assert list(rows) == list(theirs[split])
        assert {name: rows[name] for name in theirs[split].column_names} == {
            name: list(theirs[split][name]) for name in theirs[split].column_names
        }


def test_ids_are_cut_on_the_way(tokens):
    rows, theirs = read_split(tokens, "train"), load_from_disk(str(tokens))["train"]
    for row in (0, 63, 64, 89):  # around the edge of two record batches
        whole = theirs[row]["input_ids"]
        assert rows.ids("input_ids", row) == whole and rows.ids("second_ids", row) == []
        assert rows.ids("input_ids", row, 5) == whole[:5]
        assert rows.ids("input_ids", row, 10_000) == whole
        (label,) = theirs[row]["labels"]
        assert rows.ids_of_part("labels", row, 0) == label
        assert rows.ids_of_part("labels", row, 0, 1) == label[:1]


@pytest.fixture
def uneven(tmp_path):
    """Rows with several labels, empty ones and none."""
    made = [
        {"id": "a", "input_ids": [1, 2, 3], "labels": [[4], [], [5, 6]]},
        {"id": "b", "input_ids": [], "labels": []},
        {"id": "c", "input_ids": [7], "labels": [[8, 9, 10]]},
    ]
    Dataset.from_list(made, features=FEATURES).save_to_disk(str(tmp_path / "tokens/train"))
    return read_split(tmp_path / "tokens", "train"), made


def test_uneven_rows_keep_their_parts_apart(uneven):
    rows, made = uneven
    assert rows.sizes("labels") == [3, 0, 1]
    assert rows.sizes_of_parts("labels") == [[1, 0, 2], [], [3]]
    for number, row in enumerate(made):
        assert rows.ids("input_ids", number) == row["input_ids"]
        parts = [rows.ids_of_part("labels", number, part) for part in range(len(row["labels"]))]
        assert parts == row["labels"]


def test_chosen_rows_come_in_the_order_asked_for(uneven):
    rows, made = uneven
    chosen = rows.select([2, 0])
    assert list(chosen) == [made[2], made[0]] and len(chosen) == 2
    assert chosen.select([1])["id"] == ["a"] and chosen.sizes("labels") == [1, 3]


def test_a_part_of_a_split_is_spread_evenly(tokens):
    whole = read_split(tokens, "train")["id"]
    assert load_split(tokens, "train", 3)["id"] == [whole[15], whole[45], whole[75]]


@pytest.mark.parametrize("name", ["dataset_dict.json", "train/state.json"])
def test_missing_files_are_an_error_and_no_empty_split(tokens, tmp_path, name):
    copy = tmp_path / "tokens"
    shutil.copytree(tokens, copy)
    (copy / name).unlink()
    with pytest.raises(KeyError):
        read_splits(copy)
