"""Read rows of JSON lines, CSV, TSV and parquet, also packed or in a zip."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from longwatt.datasets.reading import opening
from longwatt.datasets.reading.rows import OTHER_TEXT, SourceRow, read_rows
from longwatt.datasets.records import DatasetError
from longwatt.datasets.temporary import temporary_file

INSIDE = "::"  # between a zip and its member
PARQUET_ROWS, PARQUET_BUFFER = 64, 2**16  # at once; documents are long
COPIED_BYTES = 2**20  # at once
LONGEST_FIELD = 2**31 - 1  # characters; csv's own limit would refuse a long document


def split_member(path: str) -> tuple[str, str | None]:
    """Split a path into a file and, if the file is a zip, its member."""
    file, _, member = path.partition(INSIDE)
    return file, member or None


def read_file(
    path: Path, member: str | None, name: str, fields: Collection[str]
) -> Iterator[SourceRow]:
    """Yield the rows of a file.

    Args:
        path: of the file, or of the zip that holds it.
        member: of the zip.
        name: of the file with its member, for messages; its ending says the format.
        fields: to read from parquet, whose other columns may be large.

    Raises:
        DatasetError: the file cannot be read, is damaged, has no rows or is of another kind. Names
            it, and the line or row.
    """
    ending = format_of(name)
    with _open(path, member, name) as stream:
        if ending != ".parquet" or not opening.holds_parquet(stream):
            opening.refuse_foreign(stream, name, "write FILE.zip::MEMBER to read a member of it")
        row = None
        for row in _READERS[ending](stream, name, fields):
            yield row
        if row is None:
            problem = "has no rows: it is blank, or a header alone; give a file with rows"
            raise DatasetError(f"{name} {problem}")


def format_of(name: str) -> str:
    """Return the ending that says a file's format: .jsonl of a.jsonl.gz."""
    path = Path(name.lower())
    return (path.with_suffix("") if path.suffix in opening.PACKED_ENDINGS else path).suffix


@contextmanager
def _open(path: Path, member: str | None, name: str) -> Iterator[IO[bytes]]:
    if member is None:
        with opening.open_data(path, name) as stream:
            yield stream
        return
    with opening.damage_named(name), zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            there = ", ".join(archive.namelist()[:8]) or "nothing"
            raise DatasetError(f"{name}: the zip has no such member; it has {there}")
        try:
            stream = archive.open(member)
        except RuntimeError as error:  # encrypted, or packed in a way that Python does not know
            advice = "unpack it and give the file itself"
            raise DatasetError(f"{name} cannot be unpacked here ({error}); {advice}") from None
        with stream:
            yield opening.unpacked(stream, name)


def _delimited(stream: IO[bytes], name: str, **how: Any) -> Iterator[SourceRow]:
    """Yield rows under a header line, each placed by the line on which it ends."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), **how)
    try:
        header = _header(next(lines, []), name)
        for values in filter(None, lines):
            place, given = f"{name}, line {lines.line_num}", len(values)
            if given != len(header):
                raise DatasetError(f"{place} has {given} fields, but the header has {len(header)}")
            yield SourceRow(dict(zip(header, values, strict=True)), place)
    except csv.Error as error:
        raise DatasetError(f"{name}, line {lines.line_num}: {error}") from None
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 ({error.reason}, after line {lines.line_num})"
        raise DatasetError(f"{name} {problem}; save the file as UTF-8{OTHER_TEXT}") from None


def _header(names: list[str], name: str) -> list[str]:
    twice = sorted({field for field in names if names.count(field) > 1})
    if not names or twice:
        problem = f"names {', '.join(map(repr, twice))} twice" if twice else "is missing"
        raise DatasetError(f"{name}, line 1: the header {problem}; the first line names the fields")
    return names


def _parquet(stream: IO[bytes], name: str, fields: Collection[str]) -> Iterator[SourceRow]:
    import pyarrow
    from pyarrow import parquet

    if not opening.holds_parquet(stream):
        raise DatasetError(
            f"{name} is no parquet, though its name ends so; name it as what it holds "
            "(.jsonl, .csv, .tsv), or fetch it again"
        )
    try:
        # Pages are read as they are needed, not a whole group of rows at once.
        file = parquet.ParquetFile(_seekable(stream), pre_buffer=False, buffer_size=PARQUET_BUFFER)
        there = file.schema_arrow.names
        for field in fields:
            if field not in there:
                has = ", ".join(map(repr, there))
                raise DatasetError(f"{name}: the field {field!r} is missing; the file has {has}")
        batches = file.iter_batches(PARQUET_ROWS, columns=list(fields))
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, values in enumerate(rows, 1):
            yield SourceRow(values, f"{name}, row {number}")
    except pyarrow.ArrowException as error:
        problem = f"is damaged or no parquet ({str(error).splitlines()[0]})"
        raise DatasetError(f"{name} {problem}; fetch it again") from None


def _seekable(stream: IO[bytes]) -> IO[bytes]:
    # Parquet needs to seek: what is unpacked is copied to disk.
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
        return stream
    copied = temporary_file()
    shutil.copyfileobj(stream, copied, COPIED_BYTES)
    return copied


_Reader = Callable[[IO[bytes], str, Collection[str]], Iterator[SourceRow]]
_JSON = (".jsonl", ".ndjson", ".json")
_TSV = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
_READERS: Mapping[str, _Reader] = {
    **dict.fromkeys(_JSON, lambda stream, name, _: read_rows(stream, name)),
    ".csv": lambda stream, name, _: _delimited(stream, name, strict=True),
    # As the format is registered and GLUE uses it: a quotation mark is a character like others.
    ".tsv": lambda stream, name, _: _delimited(stream, name, **_TSV),
    ".parquet": _parquet,
}
