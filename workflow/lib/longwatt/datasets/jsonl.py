"""A user's own JSON lines, one file per split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longwatt.datasets.reading.opening import open_data, refuse_foreign
from longwatt.datasets.reading.rows import SourceRow, read_rows, records_of
from longwatt.datasets.records import SPLITS, DatasetError, Record, SourceData, object_of

_TEXT = {"type": "string", "minLength": 1}
RECORD_FIELDS = ("id", "query", "input", "output")

OPTIONS_SCHEMA = object_of(
    ["files"],
    files={**object_of([], **dict.fromkeys(SPLITS, _TEXT)), "minProperties": 1},
    fields=object_of([], **dict.fromkeys(RECORD_FIELDS, _TEXT)),
    licence=_TEXT,
)


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
    for path in _paths(options).values():
        if not path.is_file():
            return f"{path} does not exist, or is no file; options.files names one file per split"
    return None


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
    found, fields = {}, options.get("fields", {})
    for split, path in _paths(options).items():
        found[split] = records_of(_rows(path), _Ids(fields).record)
    return SourceData(
        splits={split: records for split, (records, _) in found.items()},
        licence=options.get("licence", "not stated"),
        origin="; ".join(files(options)),
        notes=[note for _, notes in found.values() for note in notes],
    )


def _paths(options: Mapping[str, Any]) -> dict[str, Path]:
    return {split: Path(options["files"][split]).expanduser() for split in splits(options)}


def _rows(path: Path) -> Iterator[SourceRow]:
    row = None
    with open_data(path, str(path)) as stream:
        refuse_foreign(stream, str(path))
        for row in read_rows(stream, str(path)):
            yield row
    if row is None:
        raise DatasetError(f"{path} has no rows: it is blank; give a file with rows")


class _Ids:
    """Records of a file's rows, numbered if no row has an id."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields
        self._first: SourceRow | None = None

    def record(self, row: SourceRow) -> Record:
        self._first = self._first or row
        # One row with an id means that all have one: a number could be another row's id.
        fields, field = self.fields, self.fields.get("id", "id")
        named = "id" in fields or "id" in self._first.values
        if not named and "id" in row.values:
            self._first.id(field)
        id_ = row.id(field) if named else row.place.rpartition(" ")[2]
        query = f"{row.text(fields['query'])}\n\n" if "query" in fields else ""
        text = query + row.text(fields.get("input", "input"))
        references = row.texts(fields.get("output", "output"))
        return Record(id_, text, references, document_start=len(query))
