"""Records that lie on disk while a dataset is read."""

import json
import random
import subprocess
import sys
import time

import pytest

from longwatt.datasets import jsonl, labelled
from longwatt.datasets.overlap import shared_texts
from longwatt.datasets.reading import row_files
from longwatt.datasets.reading.stored import ChosenRecords, StoredRecords
from longwatt.datasets.records import DatasetError, Record, read_records
from longwatt.datasets.temporary import stored_in, temporary_file
from longwatt.datasets.text_digests import Digests


def stored(*records: Record) -> StoredRecords:
    found = StoredRecords()
    for number, record in enumerate(records, 1):
        found.add(record, f"line {number}")
    return found


def test_records_of_one_id_are_read_back_as_one_however_they_are_scattered():
    source = random.Random(0)
    rows = [Record(str(source.randrange(40)), f"text {n}", (f"r{n}",)) for n in range(200)]
    expected: dict[str, Record] = {}
    for row in rows:
        first = expected.get(row.id, row)
        before = first.references if row.id in expected else ()
        expected[row.id] = Record(row.id, first.input, (*before, *row.references))
    found = stored(*rows)
    assert list(found) == list(expected.values()) == list(found), "and read again"
    assert len(found) == len(expected)
    assert [later.input for _, later, _ in found.repeats()] == [
        row.input for n, row in enumerate(rows) if row.id in {r.id for r in rows[:n]}
    ]


def test_two_readers_at_once_do_not_disturb_each_other():
    found = stored(*(Record(str(n), f"t{n}", ("r",)) for n in range(5)))
    assert [(a.id, b.id) for a, b in zip(found, found, strict=True)] == [
        (str(n), str(n)) for n in range(5)
    ]
    assert Record("3", "t3", ("r",)) in found and Record("3", "other", ("r",)) not in found


def test_part_and_rest_are_the_whole_in_order():
    found = stored(*(Record(str(n), "t", ("r",)) for n in range(6)))
    part, rest = ChosenRecords(found, [4, 1]), ChosenRecords(found, [4, 1], others=True)
    assert [r.id for r in part] == ["1", "4"] and len(part) == 2
    assert [r.id for r in rest] == ["0", "2", "3", "5"] and len(rest) == 4


def test_digests_tell_where_one_text_ends_and_the_next_begins():
    digests = Digests()
    for pair in (("ab", "c"), ("a", "bc"), ("", "abc"), ("ab", "c"), ("ab", "c")):
        digests.add(*pair)
    assert digests.later() == {0: [3, 4]}
    assert Digests().later() == {}


def test_equal_texts_are_found_in_time_that_grows_with_their_number():
    digests = Digests()
    for number in range(100_000):
        digests.add("same" if number % 3 else str(number % 2))
    start = time.process_time()
    later = digests.later()
    assert time.process_time() - start < 2  # a search for each among all that came before took 20 s
    assert {first: len(others) for first, others in later.items()} == {
        1: 66_665,
        0: 16_666,
        3: 16_666,
    }


def test_shared_texts_are_counted_row_by_row():
    splits = {
        "train": [Record("1", "a", ("x",)), Record("2", "b", ("x",))],
        "test": [Record(str(n), text, ("x",)) for n, text in enumerate("aab c")],
    }
    assert shared_texts(splits) == ["3 of 5 records of test have the same text as one of train"]


def test_temporary_files_lie_where_the_dataset_goes_and_vanish(tmp_path):
    with stored_in(tmp_path / "not" / "there"), temporary_file() as stream:
        stream.write(b"x")
    assert not list(tmp_path.iterdir())


def test_an_id_that_only_some_rows_have_is_refused_at_the_first_without(tmp_path):
    file = tmp_path / "a.jsonl"
    rows = [{"id": "1"}, {}, {"id": "2"}]
    for some in (rows, rows[1:]):
        file.write_text(
            "".join(json.dumps({**row, "input": "t", "output": "r"}) + "\n" for row in some)
        )
        with pytest.raises(
            DatasetError, match=rf"line {some.index({}) + 1}: the field 'id' is missing"
        ):
            jsonl.read({"files": {"train": str(file)}})


def test_the_repeated_id_of_a_label_is_refused_with_its_line(tmp_path):
    file = tmp_path / "a.jsonl"
    ids = ["a", "b", "c", "b"]
    file.write_text("".join(json.dumps({"id": i, "input": "t", "label": "x"}) + "\n" for i in ids))
    with pytest.raises(DatasetError, match="line 4: the field 'id' repeats the id 'b'"):
        labelled.read({"files": {"train": str(file)}, "fields": {"id": "id"}})


def test_parquet_in_a_zip_is_read_from_disk(tmp_path):
    import zipfile

    import pyarrow
    from pyarrow import parquet

    rows = 300  # more than one batch
    table = pyarrow.table(
        {"input": [f"text {n}" for n in range(rows)], "label": ["x", "y"] * (rows // 2)}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.parquet", "a.parquet")
    found = list(
        row_files.read_file(tmp_path / "a.zip", "a.parquet", "a.zip::a.parquet", ["input", "label"])
    )
    assert [row.values["input"] for row in found] == [f"text {n}" for n in range(rows)]
    assert found[-1].place == "a.zip::a.parquet, row 300"


MEASURE = """
import json, resource, sys
from pathlib import Path
from longwatt.datasets.records import download
import numpy, longwatt.datasets.jsonl
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
download({"source": "jsonl", "options": {"files": {"train": sys.argv[1]}}}, Path(sys.argv[2]), {})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path):
    file = tmp_path / "a.jsonl"
    count, words = 8_000, "word " * 400
    with file.open("w", encoding="utf-8") as stream:
        for number in range(count):
            row = {"id": f"id-{number}", "input": f"{number} {words}", "output": "one two"}
            stream.write(json.dumps(row) + "\n")
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file), str(tmp_path / "out")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(answer.stdout) < 6 * 1024, "KiB, for 16 MiB of texts"
    written = read_records(tmp_path / "out" / "records.jsonl")
    assert sum(1 for _ in written) == count
