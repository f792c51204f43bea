"""A user's own JSON lines, one file per split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longwatt.datasets.opening import open_data, refuse_foreign
from longwatt.datasets.records import SPLITS, DatasetError, Record, SourceData
from longwatt.datasets.rows import Row, read_rows, records_of
from longwatt.datasets.stored import StoredRecords

_TEXT = {"type": "string", "minLength": 1}
FIELDS = ("id", "query", "input", "output")

OPTIONS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["files"],
    "properties": {
        "files": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {split: _TEXT for split in SPLITS},
        },
        "fields": {
            "type": "object",
            "additionalProperties": False,
            "properties": {field: _TEXT for field in FIELDS},
        },
        "licence": _TEXT,
    },
}


def splits(options: Mapping[str, Any]) -> list[str]:
    """Return the splits that have a file."""
    return [split for split in SPLITS if split in options["files"]]


def files(options: Mapping[str, Any]) -> list[str]:
    """Return one file per split."""
    return [str(path) for path in _paths(options).values()]


def local_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return one file per split, under its name in the options."""
    return {options["files"][split]: path for split, path in _paths(options).items()}


def missing(options: Mapping[str, Any]) -> str | None:
    """Name the first file that does not exist."""
    absent = [path for path in _paths(options).values() if not path.is_file()]
    return (
        f"{absent[0]} does not exist, or is no file; options.files names one file per split"
        if absent
        else None
    )


def read(options: Mapping[str, Any]) -> SourceData:
    """Read records of JSON lines with an input and an output.

    The output is text, or a list of texts if there are several references.

    Args:
        options: `files` by split; `fields`: what the file calls `input`, `output`, `id` (default:
            rows are numbered) and `query` (put before the input with a blank line; default: none);
            `licence`.

    Raises:
        DatasetError: a file cannot be read, or a row lacks a field. Names file and line.
    """
    found = {
        split: _read(path, options.get("fields", {})) for split, path in _paths(options).items()
    }
    return SourceData(
        splits={split: records for split, (records, _) in found.items()},
        licence=options.get("licence", "not stated"),
        origin="; ".join(str(path) for path in _paths(options).values()),
        notes=[note for _, notes in found.values() for note in notes],
    )


def _paths(options: Mapping[str, Any]) -> dict[str, Path]:
    return {split: Path(options["files"][split]).expanduser() for split in splits(options)}


def _read(path: Path, fields: Mapping[str, str]) -> tuple[StoredRecords, list[str]]:
    return records_of(_rows(path), _Ids(fields).record)


def _rows(path: Path) -> Iterator[Row]:
    row = None
    with open_data(path, str(path)) as stream:
        refuse_foreign(stream, str(path))
        for row in read_rows(stream, str(path)):
            yield row
    if row is None:
        raise DatasetError(f"{path} has no rows: it is blank; give a file with rows")


class _Ids:
    """Records of a file's rows, numbered if no row has an id.

    Args:
        fields: the `fields` of a study's options.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields
        self._first: Row | None = None

    def record(self, row: Row) -> Record:
        """Make a row's record.

        Raises:
            DatasetError: some rows have an id and others none. Names the first row without.
        """
        self._first = self._first or row
        # One row with an id means that all have one; a number beside them could be another row's id.
        field, named = (
            self.fields.get("id", "id"),
            "id" in self.fields or "id" in self._first.values,
        )
        if not named and "id" in row.values:
            self._first.id(field)
        return _record(row, self.fields, row.id(field) if named else row.place.rpartition(" ")[2])


def _record(row: Row, fields: Mapping[str, str], id_: str) -> Record:
    query = f"{row.text(fields['query'])}\n\n" if "query" in fields else ""
    text = query + row.text(fields.get("input", "input"))
    return Record(id_, text, row.texts(fields.get("output", "output")), document_start=len(query))
