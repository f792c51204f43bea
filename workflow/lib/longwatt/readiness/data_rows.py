"""Read all rows of a study's own files, and name those that cannot be used."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from longwatt import datasets
from longwatt.datasets.reading.label_names import label_of
from longwatt.datasets.reading.opening import open_data, refuse_foreign
from longwatt.datasets.reading.row_files import format_of, read_file, split_member
from longwatt.datasets.reading.rows import SourceRow, read_rows
from longwatt.datasets.records import (
    SPLITS,
    DatasetError,
    Record,
    download,
    read_records,
)
from longwatt.datasets.text_digests import Digests
from longwatt.datasets.visibility import Scoring
from longwatt.disk_space import GIB
from longwatt.files import read_object

NAMED_ROWS = 5  # rows with a fault that are named in each file
OWN_FILES = ("jsonl", "labelled")  # sources of a user's own files
MOST_BYTES = GIB // 4  # of files, packed or not, above which only the first rows are read
FIRST_ROWS = 20_000  # of each file, then
LINE_FORMATS = (".jsonl", ".ndjson", ".json")


@dataclass
class DataFacts:
    """A dataset as its files are now.

    Attributes:
        problems: sentences on rows and files that cannot be used.
        notes: sentences on what is worth a look.
        rows: read, by split.
        usable: references by split that training counts, empty unless all rows can be used.
        whole: whether all rows were read.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    usable: dict[str, int] = field(default_factory=dict)
    whole: bool = True


def look_at_data(
    source: str, options: Mapping[str, Any], task: str | None, scored: Collection[Scoring] = ()
) -> DataFacts:
    """Read the local files of a dataset as its first job will.

    Args:
        source: `jsonl` or `labelled`.
        options: of the dataset.
        task: of the dataset; None for texts.
        scored: how a study scores it.
    """
    found = DataFacts()
    files = datasets.local_files(source, options)
    size = sum(path.stat().st_size for path in files.values() if path.is_file())
    found.whole = size <= MOST_BYTES
    check = _row_check(source, options)
    for split in (one for one in SPLITS if one in options["files"]):
        named = options["files"][split]
        for path in [named] if isinstance(named, str) else named:
            _read_one(found, split, path, check, list(_fields(source, options)))
    if found.problems:
        return found
    if found.whole:
        _read_as_job(found, source, options, task, scored)
    else:
        read = sum(found.rows.values())
        found.notes.append(
            f"{size / GIB:.1f} GiB of files are much: only the first {FIRST_ROWS} rows of each "
            f"were read ({read} rows); the first job reads them all"
        )
    return found


def _fields(source: str, options: Mapping[str, Any]) -> Iterable[str]:
    default = {"input": "input", "label": "label"} if source == "labelled" else {}
    return {**default, **options.get("fields", {})}.values()


RowCheck = Callable[[SourceRow], list[Callable[[], object]]]


def _row_check(source: str, options: Mapping[str, Any]) -> RowCheck:
    """Return a function that lists what each row must pass."""
    given = options.get("fields", {})
    if source == "jsonl":
        plain = [given[name] for name in ("query",) if name in given]
        plain += [given.get("input", "input")]
        output = given.get("output", "output")
        ids = [given["id"]] if "id" in given else []
        return lambda row: [
            *(lambda name=name: row.text(name) for name in plain),
            lambda: row.texts(output),
            *(lambda name=name: row.id(name) for name in ids),
        ]
    texts = [given.get("input", "input"), *([given["second"]] if "second" in given else [])]
    label, drops = given.get("label", "label"), bool(options.get("drop_empty"))
    return lambda row: [
        lambda: label_of(row, label, options),
        *(lambda name=name: drops or row.text(name) for name in texts),
    ]


def _read_one(found: DataFacts, split: str, name: str, check: RowCheck, fields: list[str]) -> None:
    """Read one file, and name its first faulty rows."""
    file, member = split_member(name)
    path, faults, count = Path(file).expanduser(), 0, 0
    if file.startswith("mirror:"):
        return
    rows = _lines(path) if member is None and format_of(file) in LINE_FORMATS else (
        _others(path, member, name, fields)
    )  # fmt: skip
    for row in rows:
        count += 1
        problem = row if isinstance(row, str) else _fault(check(row))
        faults += problem is not None
        if problem is not None and faults <= NAMED_ROWS:
            found.problems.append(problem)
        if not found.whole and count == FIRST_ROWS:
            break
    if faults > NAMED_ROWS:
        more = faults - NAMED_ROWS
        found.problems.append(f"{path}: {more} more rows cannot be used, of {count} that were read")
    if not count and not faults:
        found.problems.append(f"{path} has no rows: it is blank; give a file with rows")
    found.rows[split] = found.rows.get(split, 0) + count


def _fault(checks: Iterable[Callable[[], object]]) -> str | None:
    """Return what is wrong with a row, None if nothing is."""
    for check in checks:
        try:
            check()
        except DatasetError as error:
            return str(error)
    return None


def _lines(path: Path) -> Iterator[SourceRow | str]:
    """Yield the rows of JSON lines, and a sentence for each line that is none."""
    try:
        with open_data(path, str(path)) as stream:
            refuse_foreign(stream, str(path))
            for number, line in enumerate(stream, 1):
                yield from _line(line, number, str(path))
    except DatasetError as error:
        yield str(error)
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"


def _line(line: bytes, number: int, name: str) -> Iterator[SourceRow | str]:
    """Yield the row of a line with its place, nothing of a blank line."""
    # The first line alone may begin with a byte order mark.
    lines = [line] if number == 1 else [b"", line]
    try:
        for row in read_rows(lines, name):
            yield SourceRow(row.values, f"{name}, line {number}")
    except DatasetError as error:
        yield str(error).replace(f"{name}, line {len(lines)}", f"{name}, line {number}", 1)


def _others(
    path: Path, member: str | None, name: str, fields: list[str]
) -> Iterator[SourceRow | str]:
    """Yield the rows of other formats, up to what cannot be read."""
    try:
        yield from read_file(path, member, name, fields)
    except DatasetError as error:
        yield str(error)
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"


def _read_as_job(
    found: DataFacts,
    source: str,
    options: Mapping[str, Any],
    task: str | None,
    scored: Collection[Scoring],
) -> None:
    """Read the dataset as its job does, into a folder that goes away."""
    chosen = {"source": source, "options": options, **({"task": task} if task else {})}
    with tempfile.TemporaryDirectory(prefix="longwatt-check-") as folder:
        try:
            _quietly(chosen, Path(folder), scored)
        except DatasetError as error:
            found.problems.append(str(error))
            return
        facts = read_object(Path(folder) / "dataset.json")
        found.notes += facts["notes"]
        found.usable = {split: one["rows"] for split, one in facts["splits"].items()}
        found.notes += _shared_documents(Path(folder) / "records.jsonl", found.notes)


def _quietly(chosen: Mapping[str, Any], folder: Path, scored: Collection[Scoring]) -> None:
    """Read a dataset without printing its notes, which its facts hold too."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        download(chosen, folder, {}, scored)


def _shared_documents(records: Path, known: Collection[str]) -> list[str]:
    """Note documents that stand in two splits, under whatever question."""
    texts: dict[str, Digests] = {}
    for split, record in read_records(records):
        texts.setdefault(split, Digests()).add(document_of(record))
    notes = []
    for first, later in combinations(texts, 2):
        if count := texts[later].shared_with(texts[first]):
            said = f"{count} records of {later} have a document that {first} has too"
            if not any(f"of {later} have the same text as one of {first}" in one for one in known):
                notes.append(f"{said}: scores there say less about new documents")
    return notes


def document_of(record: Record) -> str:
    """Return the text of a record without its question, and with its second text."""
    return f"{record.input[record.document_start :]}\n\n{record.second}"
