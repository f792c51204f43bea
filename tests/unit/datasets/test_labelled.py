"""Labelled examples from four formats, zips, a mirror's folder and the hub, good and bad."""

import json
import zipfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from longwatt import datasets
from longwatt.config.documents import validate
from longwatt.config.errors import StudyError
from longwatt.datasets import labelled
from longwatt.datasets.records import DatasetError, Record
from longwatt.hub import client
from longwatt.hub.client import HubError

ROWS = [{"input": "good", "label": 1}, {"input": "bad", "label": 0}, {"input": "fine", "label": 1}]
NAMES = ["negative", "positive"]


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(path: Path, rows=ROWS) -> str:
    """A file of rows in the format that its name says."""
    fields = list(rows[0])
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_bytes(lines(rows))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text(
            "".join(
                mark.join(map(str, row)) + "\n" for row in [fields, *(r.values() for r in rows)]
            )
        )
    return str(path)


def read(path: str | list[str], **options) -> list[Record]:
    """The training split of checked options."""
    chosen = {"files": {"train": path}, **options}
    validate(chosen, labelled.OPTIONS_SCHEMA, "options")
    return list(labelled.read(chosen).splits["train"])


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_records(tmp_path, ending):
    expected = [
        Record("1", "good", ("positive",)),
        Record("2", "bad", ("negative",)),
        Record("3", "fine", ("positive",)),
    ]
    assert read(write(tmp_path / f"a.{ending}"), labels=NAMES) == expected


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_zips_member_is_read_in_place(tmp_path, ending):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(write(tmp_path / f"a.{ending}"), f"inner/a.{ending}")
    path = f"{tmp_path}/z.zip::inner/a.{ending}"
    assert [record.references for record in read(path)] == [("1",), ("0",), ("1",)]
    assert datasets.files("labelled", {"files": {"train": path}}) == [f"{tmp_path}/z.zip"]
    with pytest.raises(
        DatasetError, match=r"z\.zip::b\.jsonl: the zip has no such member; it has inner/a"
    ):
        read(f"{tmp_path}/z.zip::b.jsonl")


def test_quotes_mean_something_in_csv_and_nothing_in_tsv(tmp_path):
    (tmp_path / "a.csv").write_text('input,label\n"two\nlines, ""quoted""",x\n')
    (tmp_path / "a.tsv").write_text('input\tlabel\n"half a quote\tx\n')
    assert read(str(tmp_path / "a.csv"))[0].input == 'two\nlines, "quoted"'
    assert read(str(tmp_path / "a.tsv"))[0].input == '"half a quote'


def test_a_split_may_have_several_files_and_rows_are_numbered_through(tmp_path):
    found = read([write(tmp_path / "a.jsonl"), write(tmp_path / "b.csv")])
    assert [record.id for record in found] == list("123456")


def test_fields_may_have_other_names_and_a_second_text(tmp_path):
    rows = [{"premise": "A dog runs.", "hypothesis": "It moves.", "gold": "yes", "n": 7}]
    fields = {"input": "premise", "second": "hypothesis", "label": "gold", "id": "n"}
    assert read(write(tmp_path / "a.parquet", rows), fields=fields) == [
        Record("7", "A dog runs.", ("yes",), second="It moves.")
    ]


def test_both_texts_of_a_pair_may_stand_in_one_field(tmp_path):
    path = write(
        tmp_path / "a.jsonl", [{"input": "It moves.\n\nA dog.\n\nIt runs.", "label": "yes"}]
    )
    assert read(path, pair={"second_first": True}) == [
        Record("1", "A dog.\n\nIt runs.", ("yes",), second="It moves.")
    ]
    assert read(path, pair={}) == [Record("1", "It moves.", ("yes",), second="A dog.\n\nIt runs.")]
    with pytest.raises(
        DatasetError,
        match=r"a\.jsonl, line 1: .*two texts with ' # ' between them, but is 'It moves",
    ):
        read(path, pair={"separator": " # "})


def test_labels_are_named_by_number_or_by_value(tmp_path):
    path = write(
        tmp_path / "a.jsonl", [{"input": "t", "label": value} for value in (0, 1.0, "1", "-", -1)]
    )
    drop = {"drop": [-1, "-"]}
    assert [r.references[0] for r in read(path, labels=["no", "yes"], **drop)] == [
        "no",
        "yes",
        "yes",
    ]
    assert [r.references[0] for r in read(path, labels={"0": "zero", "1": "one"}, **drop)] == [
        "zero",
        "one",
        "one",
    ]
    assert [r.id for r in read(path, labels=["no", "yes"], drop=["-", "-1", "no"])] == ["2", "3"], (
        "or a name"
    )
    assert labelled.read({"files": {"train": path}, **drop}).notes == [
        "2 rows of train have no label that is asked for ('label'): left out"
    ]


def test_a_score_falls_into_a_class_of_equal_width(tmp_path):
    scores = [0, 0.2, 0.39, 0.4, 0.59, 0.6, 0.99, 1.0]
    path = write(tmp_path / "a.jsonl", [{"input": str(score), "label": score} for score in scores])
    classes = {"classes": 5, "names": ["negative", "negative", None, "positive", "positive"]}
    found = read(path, score_classes=classes)
    assert [(record.input, record.references[0]) for record in found] == [
        ("0", "negative"), ("0.2", "negative"), ("0.39", "negative"),
        ("0.6", "positive"), ("0.99", "positive"),
        ("1.0", "positive"),
    ]  # fmt: skip


def test_a_split_is_drawn_from_another_the_same_everywhere(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"input": f"text {n}", "label": n % 2} for n in range(20)])
    options = {
        "files": {"train": path},
        "held_out": {"split": "validation", "from": "train", "examples": 5},
    }
    assert datasets.splits("labelled", options) == ("train", "validation")
    found = labelled.read(options).splits
    assert list(found) == ["train", "validation"]
    ids = {split: [int(record.id) for record in records] for split, records in found.items()}
    assert ids["validation"] == [4, 6, 8, 13, 16], "Python's own promise: the same on every machine"
    assert sorted(ids["train"] + ids["validation"]) == list(range(1, 21)) and ids[
        "train"
    ] == sorted(ids["train"])
    other = labelled.read({**options, "held_out": {**options["held_out"], "seed": 1}}).splits
    assert other["validation"] != found["validation"]
    with pytest.raises(
        DatasetError, match=r"held_out asks for 20 examples of train, which has 20; some must stay"
    ):
        labelled.read({**options, "held_out": {**options["held_out"], "examples": 20}})


def test_rows_without_text_are_refused_or_left_out(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        [{"input": "a", "b": None, "label": "x"}, {"input": "c", "b": "d", "label": "y"}],
    )
    fields = {"fields": {"second": "b"}}
    with pytest.raises(DatasetError, match=r"line 1: the field 'b' must be text, but is null"):
        read(path, **fields)
    found = labelled.read({"files": {"train": path}, "drop_empty": True, **fields})
    assert [record.id for record in found.splits["train"]] == ["2"]
    assert found.notes == ["1 rows of train have an empty 'b': left out"]


def test_texts_in_two_splits_are_counted(tmp_path):
    files = {
        "train": write(tmp_path / "a.jsonl"),
        "test": write(tmp_path / "b.jsonl", [*ROWS[:2], {**ROWS[2], "input": "x"}]),
    }
    assert labelled.read({"files": files}).notes == [
        "2 of 3 records of test have the same text as one of train"
    ]


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (lines([{"input": "t"}]), {},
         r"a\.jsonl, line 1: the field 'label' is missing; the row has 'input'"),
        (lines([{"input": "t", "label": None}]), {},
         r"line 1: the field 'label' must be a label .*, but is null"),
        (lines([{"input": "t", "label": 0.5}]), {},
         "the field 'label' must be a label .*but is a number .'0.5'"),
        (lines([{"input": "t", "label": 7}]), {"labels": NAMES},
         "line 1: the field 'label' holds '7', but options.labels names '0', '1'; name it there, "
         "or leave"),
        (lines([{"input": "t", "label": 1.5}]),
         {"score_classes": {"classes": 2, "names": ["a", "b"]}},
         "line 1: the field 'label' must be a number from 0 to 1, but is a number .'1.5'"),
        (lines([{"input": "t", "label": "x", "id": 3}] * 2), {"fields": {"id": "id"}},
         "line 2: the field 'id' repeats the id '3'"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_file_line_field_and_value(tmp_path, content, options, said):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        read(str(tmp_path / "a.jsonl"), **options)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"input,label\nx\n", r"a\.csv, line 2 has 1 fields, but the header has 2"),
        ("a.csv", b"input,input\nx,y\n", r"a\.csv, line 1: the header names 'input' twice"),
        ("a.csv", b"", r"a\.csv is empty: it has no bytes"),
        ("a.csv", b'input,label\n"x,y\n', r"a\.csv, line 2: unexpected end of data"),
        (
            "a.tsv",
            b"input\tlabel\nok\ty\n\xff\ty\n",
            r"a\.tsv is not UTF-8 \(invalid start byte, after line",
        ),
        ("a.parquet", b"no parquet at all", r"a\.parquet is no parquet, though its name ends so"),
        ("a.zip::b.csv", b"no zip", r"a\.zip::b\.csv is damaged or no zip"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, said):
    (tmp_path / name.partition("::")[0]).write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        read(str(tmp_path / name))


def test_a_parquets_missing_column_and_odd_value_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", [{"input": "t", "label": b"x"}])
    with pytest.raises(
        DatasetError,
        match=r"a\.parquet: the field 'gold' is missing; the file has 'input', 'label'",
    ):
        read(path, fields={"label": "gold"})
    with pytest.raises(
        DatasetError, match=r"a\.parquet, row 1: .* must be a label .*, but is of the type bytes"
    ):
        read(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"labels": NAMES, "score_classes": {"classes": 2, "names": ["a", "b"]}},
            "labels and options.score_classes both",
        ),
        (
            {"score_classes": {"classes": 3, "names": ["a", "b"]}},
            "score_classes.names needs 3 names, but has 2",
        ),
        (
            {"pair": {}, "fields": {"second": "b"}},
            "options.pair splits .*, and options.fields.second names another",
        ),
        (
            {"held_out": {"split": "train", "from": "test", "examples": 1}},
            "held_out draws train from test: .* names train",
        ),
        (
            {"repository": "a/b", "revision": "c" * 40},
            r"options.files: mirror:x\.csv is no path in the repository",
        ),
        (
            {},
            r"options.files: mirror:x\.csv lies in the mirror's folder, but none is set; "
            "give a folder as `mirror`",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_said_before_anything_runs(monkeypatch, options, said):
    monkeypatch.delenv(client.MIRROR, raising=False)
    chosen = {"files": {"train": "mirror:x.csv"}, **options}
    validate(chosen, labelled.OPTIONS_SCHEMA, "options")
    found = datasets.missing("labelled", chosen)
    assert found is not None
    with pytest.raises(DatasetError, match=said):
        labelled.read(chosen)


def test_a_file_of_no_known_format_is_named():
    with pytest.raises(
        StudyError,
        match=r"files\.train\.1: expected a file that ends in \.jsonl.*but found 'a\.xlsx'",
    ):
        validate({"files": {"train": ["a.csv", "a.xlsx"]}}, labelled.OPTIONS_SCHEMA, "options")


def test_files_of_the_mirrors_folder_make_nothing_again(tmp_path, monkeypatch):
    monkeypatch.setenv(client.MIRROR, str(tmp_path))
    write(tmp_path / "a.csv")
    options = {"files": {"train": "mirror:a.csv", "test": "mirror:b.csv"}}
    assert datasets.files("labelled", options) == []
    assert f"{tmp_path}/b.csv does not exist" in (datasets.missing("labelled", options) or "")
    assert [record.input for record in read("mirror:a.csv")] == ["good", "bad", "fine"]
    monkeypatch.setenv(client.MIRROR, "https://me:secret@somewhere.org/data")
    said = datasets.missing("labelled", options) or ""
    assert "is a URL; give a folder" in said and "secret" not in said


def test_a_repositorys_files_come_from_the_hub_at_a_pinned_revision(served, tmp_path):
    write(tmp_path / "a.parquet")
    content = {
        "plain/train-00000-of-00001.parquet": (tmp_path / "a.parquet").read_bytes(),
        "README.md": b"words",
    }
    commit = served.add("dataset", "some/words", content)
    options = {
        "files": {"train": "plain/train-00000-of-00001.parquet"},
        "repository": "some/words",
        "revision": commit,
    }
    validate(options, labelled.OPTIONS_SCHEMA, "options")
    found = labelled.read({**options, "labels": NAMES})
    assert [record.references[0] for record in found.splits["train"]] == [
        "positive",
        "negative",
        "positive",
    ]
    assert found.origin.startswith(
        f"some/words, revision {commit}: plain/train-00000-of-00001.parquet (sha256 "
    )
    assert (
        found.notes == []
        and datasets.files("labelled", options) == []
        and datasets.missing("labelled", options) is None
    )
    with pytest.raises(HubError, match=r"it has no b\.csv; it has README\.md, plain/train"):
        labelled.read({**options, "files": {"train": "b.csv"}})
    with pytest.raises(StudyError, match="'revision' is a dependency of 'repository'"):
        validate(
            {"files": {"train": "a.csv"}, "repository": "a/b"}, labelled.OPTIONS_SCHEMA, "options"
        )


def test_a_mirrors_copy_of_a_repository_says_that_it_is_unverified(tmp_path, monkeypatch):
    monkeypatch.setenv(client.MIRROR, str(tmp_path))
    (tmp_path / "some/words").mkdir(parents=True)
    write(tmp_path / "some/words/a.csv")
    found = labelled.read(
        {"files": {"train": "a.csv"}, "repository": "some/words", "revision": "a" * 40}
    )
    assert len(found.splits["train"]) == 3
    assert found.notes == [
        f"unverified: nothing says that the files in {tmp_path}/some/words are of "
        f"dataset repository some/words, revision {'a' * 40}"
    ]
