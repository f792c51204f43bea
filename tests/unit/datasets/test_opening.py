"""Data files that are packed are read, and files that hold no rows are named for what they are."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from longwatt.config.documents import validate
from longwatt.datasets import jsonl, labelled
from longwatt.datasets.records import DatasetError
from longwatt.metrics.__main__ import evaluate

ROWS = [{"input": "good", "output": "x", "label": 1}, {"input": "bad", "output": "y", "label": 0}]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def read(path: Path) -> list[str]:
    """Inputs that the source `jsonl` reads of a file."""
    return [record.input for record in jsonl.read({"files": {"train": str(path)}}).splits["train"]]


def read_labelled(path: str) -> list[str]:
    """Inputs that the source `labelled` reads of a file, its options checked."""
    options = {"files": {"train": path}}
    validate(options, labelled.OPTIONS_SCHEMA, "options")
    return [record.input for record in labelled.read(options).splits["train"]]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.{}"])
def test_packed_lines_are_read_whatever_their_name(tmp_path, ending, name):
    path = tmp_path / name.format(ending)
    path.write_bytes(PACKERS[ending](TEXT))
    assert read(path) == read_labelled(str(path)) == ["good", "bad"]


@pytest.mark.parametrize("ending", PACKERS)
def test_members_appended_to_a_packed_file_are_read_too(tmp_path, ending):
    first, second = TEXT.splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(PACKERS[ending](first) + PACKERS[ending](second))
    assert read(tmp_path / "a.jsonl") == ["good", "bad"]


@pytest.mark.parametrize("ending", PACKERS)
def test_a_cut_or_damaged_packed_file_is_named(tmp_path, ending):
    packed = PACKERS[ending](TEXT * 500)
    for content in (packed[:-6], packed[:20] + bytes(9) + packed[29:]):
        (tmp_path / "a.jsonl").write_bytes(content)
        with pytest.raises(DatasetError, match=r"a\.jsonl(, line \d+)? is (damaged|not|UTF-16)"):
            read(tmp_path / "a.jsonl")


def test_packed_csv_and_parquet_are_read_and_so_are_packed_members_of_a_zip(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"input,label\ngood,1\nbad,0\n"))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.xz").write_bytes(lzma.compress((tmp_path / "a.parquet").read_bytes()))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/a.jsonl.gz", gzip.compress(TEXT))
    for name in ("a.csv.gz", "a.parquet", "b.parquet.xz", "z.zip::in/a.jsonl.gz"):
        assert read_labelled(f"{tmp_path}/{name}") == ["good", "bad"]


def test_a_zip_that_python_cannot_unpack_is_named_with_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "input,label\ngood,1\n")
    whole = (tmp_path / "a.zip").read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for byte, value, said in (
        (0, 1, "encrypted"),
        (2, 9, "compression method"),
    ):  # flags, and Deflate64
        changed = bytearray(whole)
        changed[6 + byte] = changed[directory + 8 + byte] = value
        (tmp_path / "a.zip").write_bytes(changed)
        with pytest.raises(
            DatasetError, match=rf"a\.zip::a\.csv cannot be unpacked here .*{said}.*unpack it"
        ):
            read_labelled(f"{tmp_path}/a.zip::a.csv")


def test_zstd_that_begins_with_a_frame_to_skip_is_read(tmp_path):
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00size"  # as pzstd writes it
    (tmp_path / "a.jsonl.zst").write_bytes(skipped + PACKERS["zst"](TEXT))
    assert read(tmp_path / "a.jsonl.zst") == ["good", "bad"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"a\.jsonl is empty: it has no bytes"),
        (gzip.compress(b""), r"a\.jsonl is empty"),
        (b" \n\n\t\n", r"a\.jsonl has no rows"),
        (b"\xef\xbb\xbf", r"a\.jsonl has no rows"),
        (b"PAR1....PAR1", r"a\.jsonl is a parquet file, .*ends in \.parquet"),
        (b"PK\x03\x04....", r"a\.jsonl is a zip"),
        (TEXT.decode().encode("utf-16"), r"a\.jsonl is UTF-16 text.*iconv"),
        (TEXT.decode().encode("utf-16-le"), r"a\.jsonl is UTF-16 without a mark"),
        (b"\n <!DOCTYPE html><html>404</html>", r"a\.jsonl is a web page.*fetch it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            r"Git LFS pointer.*git lfs pull",
        ),
        (b"%PDF-1.7\n", r"a\.jsonl is a PDF"),
        (
            '{"input": "é", "output": "x"}\n'.encode("latin-1"),
            r"a\.jsonl, line 1 is not UTF-8.*Latin-1",
        ),
        (gzip.compress(gzip.compress(TEXT)), r"a\.jsonl is packed twice \(gzip\)"),
        (gzip.compress(b"%PDF-1.7\n"), r"a\.jsonl is a PDF"),
        (
            lzma.compress(TEXT, format=lzma.FORMAT_ALONE),
            r"a\.jsonl is packed as old lzma.*pack it as xz",
        ),
        (
            pyarrow.compress(TEXT, codec="lz4", asbytes=True),
            r"a\.jsonl is packed as lz4.*unpack it",
        ),
    ],
    ids=range(16),  # gzip writes the time: processes of the tests must agree on names
)
def test_what_holds_no_rows_is_named_for_what_it_is(tmp_path, content, said):
    (tmp_path / "a.jsonl").write_bytes(content)
    for source in (read, lambda path: read_labelled(str(path))):
        with pytest.raises(DatasetError, match=said):
            source(tmp_path / "a.jsonl")


def test_a_header_without_rows_and_a_split_that_is_left_empty_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("input,label\n")
    with pytest.raises(DatasetError, match=r"a\.csv has no rows: .*header"):
        read_labelled(str(tmp_path / "a.csv"))
    parquet.write_table(
        pyarrow.table({"input": ["x"], "label": ["y"]}).slice(0, 0), tmp_path / "a.parquet"
    )
    with pytest.raises(DatasetError, match=r"a\.parquet has no rows"):
        read_labelled(str(tmp_path / "a.parquet"))
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    with pytest.raises(
        DatasetError, match=r"no row of train is left \(2 rows of train have no label"
    ):
        labelled.read({"files": {"train": str(tmp_path / "a.jsonl")}, "drop": [0, 1]})


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DatasetError, match=r"a\.jsonl cannot be read: Is a directory"):
        read(tmp_path / "a.jsonl")


def test_the_scores_of_packed_files_are_computed_and_foreign_ones_named(tmp_path):
    predictions, references = tmp_path / "p.json", tmp_path / "r.jsonl"
    predictions.write_bytes(gzip.compress(b'{"1": "word"}'))
    references.write_bytes(bz2.compress(b'{"id": 1, "output": "word"}\n'))
    assert evaluate("f1", predictions, references)["f1"] == 100
    predictions.write_bytes(b"%PDF-1.7\n")
    with pytest.raises(DatasetError, match=r"p\.json is a PDF"):
        evaluate("f1", predictions, references)
