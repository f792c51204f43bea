"""One value in YAML, JSON, CSV and parquet is one label; useless numbers are refused by key."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from longwatt.canonical import text_of, value_key
from longwatt.config.documents import normalise, read_yaml, validate
from longwatt.config.errors import StudyError
from longwatt.datasets import labelled
from longwatt.datasets.records import DatasetError


def labels_of(path: Path, options: str) -> list[str]:
    """Names of the training labels of a file, by options written in YAML."""
    written = path.parent / "options.yaml"
    written.write_text(options)
    chosen = {"files": {"train": str(path)}, **normalise(read_yaml(written))}
    validate(chosen, labelled.OPTIONS_SCHEMA, "options")
    return [record.references[0] for record in labelled.read(chosen).splits["train"]]


def files_of(folder: Path, values: list, csv: list[str]) -> list[Path]:
    """The same labels as JSON lines, parquet and CSV."""
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"input": "t", "label": v}) + "\n" for v in values)
    )
    parquet.write_table(
        pyarrow.table({"input": ["t"] * len(values), "label": values}), folder / "a.parquet"
    )
    (folder / "a.csv").write_text("input,label\n" + "".join(f"t,{value}\n" for value in csv))
    return [folder / name for name in ("a.jsonl", "a.parquet", "a.csv")]


@pytest.mark.parametrize("csv", [["true", "false"], ["True", "False"], ["TRUE", " FALSE "]])
@pytest.mark.parametrize("keys", [("true", "false"), ("True", "FALSE"), ('"true"', '"False"')])
def test_truth_values_are_one_label_however_they_are_written(tmp_path, csv, keys):
    options = f"labels: {{{keys[0]}: agrees, {keys[1]}: differs}}"
    for path in files_of(tmp_path, [True, False], csv):
        assert labels_of(path, options) == ["agrees", "differs"], path


@pytest.mark.parametrize("csv", [["1", "0"], ["1.0", "0.0"], [" 1", "+0"]])
@pytest.mark.parametrize("keys", [("1", "0"), ("1.0", "0.0"), ('"1"', '" 0"'), ("1e0", "0")])
@pytest.mark.parametrize("values", [[1, 0], [1.0, 0.0]])
def test_whole_numbers_are_one_label_however_they_are_written(tmp_path, csv, keys, values):
    options = f"labels: {{{keys[0]}: agrees, {keys[1]}: differs}}"
    for path in files_of(tmp_path, values, csv):
        assert labels_of(path, options) == ["agrees", "differs"], path


def test_without_names_for_them_one_value_is_one_class_in_every_file(tmp_path):
    for values, csv, names in (
        ([True, False], ["TRUE", "False"], ["true", "false"]),
        ([1.0, 0.0], ["+1", "0.0"], ["1", "0"]),
    ):
        for path in files_of(tmp_path, values, csv):
            assert labels_of(path, "licence: mine") == names, path
    (tmp_path / "b.csv").write_text("input,label\nt,1\nt,1.0\nt,01\nt,1.5\n")
    assert labels_of(tmp_path / "b.csv", "licence: mine") == ["1", "1", "01", "1.5"]


def test_a_number_of_thousands_of_digits_is_a_label_like_others(tmp_path):
    (tmp_path / "a.csv").write_text(f"input,label\nt,{'9' * 5000}\n")
    assert labels_of(tmp_path / "a.csv", "licence: mine") == ["9" * 5000]
    with pytest.raises(DatasetError, match=r"line 2: .* options\.labels names '0', '1'"):
        labels_of(tmp_path / "a.csv", "labels: [no, yes]")


def test_words_that_yaml_took_for_truth_values_and_dates_are_text(tmp_path):
    for values, keys in (
        (["yes", "no"], "yes: agrees, no: differs"),
        (["on", "off"], "on: agrees, off: differs"),
    ):
        for path in files_of(tmp_path, values, values):
            assert labels_of(path, f"labels: {{{keys}}}") == ["agrees", "differs"], path
            assert labels_of(path, f"drop: [{values[1]}]") == [values[0]]
    days = [datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)]
    parquet.write_table(pyarrow.table({"input": ["t", "t"], "label": days}), tmp_path / "d.parquet")
    options = "labels: {2024-01-31: agrees, 2024-02-01: differs}"
    assert labels_of(tmp_path / "d.parquet", options) == ["agrees", "differs"]


def test_dropped_values_and_codes_match_in_every_spelling(tmp_path):
    for path in files_of(tmp_path, [True, False], ["True", "False"]):
        assert [label.lower() for label in labels_of(path, "drop: [false]")] == ["true"]
    (tmp_path / "z.csv").write_text("input,label\nt,010\nt,10\n")
    assert labels_of(tmp_path / "z.csv", "labels: {010: agrees, 10: differs}") == [
        "agrees",
        "differs",
    ]


@pytest.mark.parametrize("keys", ["1: a, '1.0': b", "'True': a, true: b", "1: a, '1 ': b"])
def test_one_value_under_two_names_is_refused(tmp_path, keys):
    (tmp_path / "a.jsonl").write_text('{"input": "t", "label": 1}\n')
    with pytest.raises(
        DatasetError, match=r"options\.labels names one value twice, as '.*' and as '.*'; keep one"
    ):
        labels_of(tmp_path / "a.jsonl", f"labels: {{{keys}}}")


@pytest.mark.parametrize(
    "keys", ["1: a, '1': b", "1: a, 1.0: b", "true: a, TRUE: b", "null: a, ~: b"]
)
def test_a_key_in_two_spellings_is_given_twice(tmp_path, keys):
    (tmp_path / "a.yaml").write_text(f"{{{keys}}}")
    with pytest.raises(StudyError, match=r"a\.yaml, line 1: the key .* is given twice"):
        read_yaml(tmp_path / "a.yaml")


def test_values_of_every_origin_have_one_spelling():
    alike = [1, 1.0, "1", " 1 ", Decimal("1.0"), numpy.int64(1), numpy.float32(1)]
    assert {value_key(text_of(value)) for value in alike} == {"1"}
    assert {value_key(text_of(value)) for value in (True, "true", "True", numpy.bool_(True))} == {
        "true"
    }
    assert text_of(10**30) == "1" + "0" * 30 and value_key("-0") == "0"
    assert [text_of(value) for value in (None, float("nan"), 0.5, b"x", float("inf"))] == [None] * 5
    assert value_key("1.5") == "1.5" and value_key("01") == "01"


def test_a_missing_label_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"input": "t", "label": NaN}\n')
    with pytest.raises(
        DatasetError,
        match=r"line 1: the field 'label' must be a label .*but is not a number \(NaN\)",
    ):
        labels_of(tmp_path / "a.jsonl", "drop: [x]")


def test_types_are_those_of_yaml_1_2(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "[yes, NO, on, true, False, 010, 12:30, 2024-01-01, 1_000, 1.5e3, -.5, 0x10, 0]"
    )
    expected = [
        "yes",
        "NO",
        "on",
        True,
        False,
        "010",
        "12:30",
        "2024-01-01",
        1000,
        1500.0,
        -0.5,
        16,
        0,
    ]
    assert repr(read_yaml(tmp_path / "a.yaml")) == repr(expected)


@pytest.mark.parametrize(
    "number",
    [".nan", ".inf", "-.INF", "1e400", "1" + "0" * 30, "[1, .nan]", "{c: 1e999}", "9" * 5000],
)
def test_a_number_that_nothing_can_use_is_refused_by_key(tmp_path, number):
    (tmp_path / "a.yaml").write_text(f"a: {{b: {number}}}")
    with pytest.raises(
        StudyError, match=r"a\.yaml(: a\.b(\.1|\.c)?: expected a (finite )?number| is not YAML)"
    ):
        validate(read_yaml(tmp_path / "a.yaml"), {"type": "object"}, "a.yaml")


def test_text_that_yaml_takes_for_a_number_is_to_be_quoted():
    with pytest.raises(
        StudyError, match=r"study: expected text, but found 1; put it in quotation marks \(\"1\"\)"
    ):
        validate({"study": 1}, {"properties": {"study": {"type": "string"}}}, "config")


def test_a_list_as_a_key_and_a_folder_as_a_study_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("[1, 2]: b")
    with pytest.raises(StudyError, match=r"(?s)a\.yaml is not YAML.*a key of one word"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").mkdir()
    with pytest.raises(StudyError, match=r"b\.yaml is a folder"):
        read_yaml(tmp_path / "b.yaml")
