"""Labelled examples for classification: one text or a pair, from local files or the hub.

The ending of a file says its format: JSON lines, CSV, TSV (without quoting) or parquet. Its first
bytes say how it is packed: gzip, bzip2, xz, zstd or not at all. `file.zip::member.jsonl` is a
member of a zip. With `repository` and its pinned `revision`, files are paths in that hub
repository. Otherwise they are local paths, or, if they begin with `mirror:`, paths in the folder
that config.yaml's `mirror` names.
"""

from __future__ import annotations

import os
import random
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from longwatt.datasets.overlap import shared_texts
from longwatt.datasets.reading.label_names import label_of, twice_named
from longwatt.datasets.reading.row_files import INSIDE, read_file, split_member
from longwatt.datasets.reading.rows import SourceRow
from longwatt.datasets.reading.stored import ChosenRecords, StoredRecords
from longwatt.datasets.records import SPLITS, DatasetError, Record, SourceData, list_of, object_of
from longwatt.files import sha256
from longwatt.hub import client

Splits = dict[str, Collection[Record]]
MIRRORED = "mirror:"
SEPARATOR = "\n\n"  # between the texts of a pair in one field
DEFAULT_FIELDS = {"input": "input", "label": "label"}  # default names of a file's fields

_TEXT = {"type": "string", "minLength": 1}
_NAMES = {"type": "array", "minItems": 2, "items": _TEXT}
_FILE = {
    "type": "string",
    "pattern": r"^.+\.(jsonl|ndjson|json|csv|tsv|parquet)(\.(gz|bz2|xz|zst))?$",
    "patternErrorMessage": "expected a file that ends in .jsonl, .json, .csv, .tsv or .parquet, "
    "packed (.gz, .bz2, .xz, .zst) or not (of a zip FILE.zip::MEMBER)",
}
_FILES = {"anyOf": [_FILE, list_of(_FILE)]}
_BY_VALUE = {"type": "object", "minProperties": 2, "additionalProperties": _TEXT}
_SPLIT = {"enum": list(SPLITS)}

OPTIONS_SCHEMA = {
    **object_of(
        ["files"],
        files={**object_of([], **dict.fromkeys(SPLITS, _FILES)), "minProperties": 1},
        fields=object_of([], input=_TEXT, second=_TEXT, label=_TEXT, id=_TEXT),
        labels={"anyOf": [_NAMES, _BY_VALUE]},
        drop=list_of({"type": ["string", "integer", "number", "boolean"]}),
        drop_empty={"type": "boolean"},
        score_classes=object_of(
            ["classes", "names"],
            classes={"type": "integer", "minimum": 2},
            names={**_NAMES, "items": {"type": ["string", "null"], "minLength": 1}},
        ),
        held_out=object_of(
            ["split", "from", "examples"],
            **dict.fromkeys(("split", "from"), _SPLIT),
            examples={"type": "integer", "minimum": 1},
            seed={"type": "integer", "minimum": 0},
        ),
        pair=object_of([], separator=_TEXT, second_first={"type": "boolean"}),
        licence=_TEXT,
        **client.SCHEMA,
    ),
    "dependentRequired": {"repository": ["revision"], "revision": ["repository"]},
}


def splits(options: Mapping[str, Any]) -> list[str]:
    """Return the splits with files, and the one that is drawn from another."""
    drawn = options.get("held_out", {}).get("split")
    return [split for split in SPLITS if split in options["files"] or split == drawn]


def files(options: Mapping[str, Any]) -> list[str]:
    """Return the files of this machine, without those of a mirror or the hub."""
    # A mirror's place makes nothing again, and a pinned revision of the hub never changes.
    if "repository" in options:
        return []
    named = [name for name in _archives(options) if not name.startswith(MIRRORED)]
    return [str(Path(name).expanduser()) for name in named]


def local_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files of this machine or its mirror, by their names in the options."""
    return {} if "repository" in options else {name: _local(name) for name in _archives(options)}


def repository(options: Mapping[str, Any]) -> tuple[client.Repository, client.Choose] | None:
    """Return the hub repository of the files and the choice of them, or None."""
    if "repository" not in options:
        return None
    found = client.Repository("dataset", options["repository"], options["revision"])
    return found, partial(client.choose_named, _archives(options))


def missing(options: Mapping[str, Any]) -> str | None:
    """Name options that contradict each other, or the first file that does not exist."""
    problem = _contradiction(options)
    if problem or "repository" in options:
        return problem
    mirror = os.environ.get(client.MIRROR, "")
    for path in _all_files(options):
        if path.startswith(MIRRORED) and (not mirror or client.is_url(mirror)):
            have = f"{client.without_credentials(mirror)} is a URL" if mirror else "none is set"
            return (
                f"options.files: {path} lies in the mirror's folder, but {have}; give a folder as "
                "`mirror` in config.yaml or with --config mirror=..."
            )
        if not _local(path).is_file():
            advice = "options.files names the files of each split"
            return f"{_local(path)} does not exist, or is no file; {advice}"
    return None


def read(options: Mapping[str, Any]) -> SourceData:
    """Read records with one label each.

    Args:
        options:
            `files` by split, one or a list.
            `fields`: what the files call `input` (default: input), `second` (none), `label` (label)
            and `id` (default: rows are numbered).
            `labels`: names of the labels 0, 1, ... or by value (default: the values are the names).
            `drop`: labels of rows to leave out.
            `drop_empty`: leave out rows that lack a text.
            `score_classes`: the label is a number from 0 to 1, which falls into one of `classes` of
            equal width with these `names` (null: leave the row out).
            `pair`: the input holds both texts of a pair with a `separator` (default: a blank line)
            between them; the second text comes first if `second_first`.
            `held_out`: draw a `split` of so many `examples` `from` another split by `seed` (0).
            `repository` and `revision` of the hub.
            `licence`.

    Raises:
        DatasetError: options contradict each other, a file cannot be read, or a row cannot be used.
            Names file and line.
        HubError: the repository's files are not available.
    """
    if problem := missing(options):
        raise DatasetError(problem)
    found = repository(options)
    folder = client.fetch(*found) if found else None
    rows, doubts = _Rows(options, folder), []
    if found and folder and not client.verified(found[0], folder, _archives(options)):
        # Nothing beside a mirror's copy says that it is of the pinned revision.
        doubts = [f"unverified: nothing says that the files in {folder} are of {found[0]}"]
    read_splits: Splits = {split: rows.of(split) for split in SPLITS if split in options["files"]}
    if "held_out" in options:
        read_splits = _hold_out(read_splits, options["held_out"])
    records = {split: read_splits[split] for split in splits(options)}
    return SourceData(
        splits=records,
        licence=options.get("licence", "not stated"),
        origin=_origin(options, folder),
        notes=[*doubts, *rows.notes, *shared_texts(records)],
    )


class _Rows:
    def __init__(self, options: Mapping[str, Any], folder: Path | None) -> None:
        self.options = options
        self.folder = folder
        self.fields = {**DEFAULT_FIELDS, **options.get("fields", {})}
        self.notes: list[str] = []

    def of(self, split: str) -> StoredRecords:
        records = StoredRecords()
        left_out: Counter[str] = Counter()
        for number, row in enumerate(self._rows(split), 1):
            found = self._record(row, number)
            if isinstance(found, str):
                left_out[found] += 1
            else:
                records.add(found, row.place)
        for _, again, place in records.repeats():
            field = self.fields["id"]
            raise DatasetError(f"{place}: the field {field!r} repeats the id {again.id!r}")
        notes = [f"{count} rows of {split} {why}: left out" for why, count in left_out.items()]
        if not records:
            raise DatasetError(f"options.files: no row of {split} is left ({'; '.join(notes)})")
        self.notes += notes
        return records

    def _rows(self, split: str) -> Iterator[SourceRow]:
        for path in _listed(self.options["files"][split]):
            file, member = split_member(path)
            where = _local(path) if self.folder is None else self.folder / file
            name = f"{where}{INSIDE}{member}" if member else str(where)
            yield from read_file(where, member, name, list(self.fields.values()))

    def _record(self, row: SourceRow, number: int) -> Record | str:
        """Return a row's record, or the reason why there is none."""
        label = label_of(row, self.fields["label"], self.options)
        if label is None:
            return f"have no label that is asked for ({self.fields['label']!r})"
        texts = [self.fields[name] for name in ("input", "second") if name in self.fields]
        empty = [field for field in texts if row.is_empty(field)]
        if empty and self.options.get("drop_empty"):
            return f"have an empty {empty[0]!r}"
        first, *rest = [row.text(field) for field in texts]
        if "pair" in self.options:
            first, *rest = self._pair(row, first)
        id_ = row.id(self.fields["id"]) if "id" in self.fields else str(number)
        return Record(id_, first, (label,), second="".join(rest))

    def _pair(self, row: SourceRow, text: str) -> tuple[str, str]:
        separator = self.options["pair"].get("separator", SEPARATOR)
        before, _, after = text.partition(separator)
        if not before.strip() or not after.strip():
            raise DatasetError(
                f"{row.place}: the field {self.fields['input']!r} must hold two texts with "
                f"{separator!r} between them, but is {text[:40]!r}"
            )
        return (after, before) if self.options["pair"].get("second_first") else (before, after)


def _contradiction(options: Mapping[str, Any]) -> str | None:
    scores, held_out = options.get("score_classes"), options.get("held_out")
    if scores and "labels" in options:
        return "options.labels and options.score_classes both say what a label means; give only one"
    if scores and len(scores["names"]) != scores["classes"]:
        wanted, given = scores["classes"], len(scores["names"])
        return f"options.score_classes.names needs {wanted} names, but has {given}"
    if twice := twice_named(options.get("labels", ())):
        spelt = " and as ".join(map(repr, twice))
        return f"options.labels names one value twice, as {spelt}; keep one"
    if "pair" in options and "second" in options.get("fields", {}):
        second = "options.fields.second names another second text; give one"
        return f"options.pair splits the input in two, and {second}"
    files = options["files"]
    if held_out and (held_out["split"] in files or held_out["from"] not in files):
        return (
            f"options.held_out draws {held_out['split']} from {held_out['from']}: options.files "
            f"must name the latter and not the former, but names {', '.join(files)}"
        )
    outside = [path for path in _all_files(options) if path.startswith(MIRRORED)]
    if "repository" in options and outside:
        return f"options.files: {outside[0]} is no path in the repository"
    return None


def _hold_out(found: Splits, held_out: Mapping[str, Any]) -> Splits:
    records, wanted = found[held_out["from"]], held_out["examples"]
    if wanted >= len(records):
        raise DatasetError(
            f"options.held_out asks for {wanted} examples of {held_out['from']}, which has "
            f"{len(records)}; some must stay there"
        )
    # Python promises the same `random()` on every version and machine, but not the same `shuffle`.
    source = random.Random(held_out.get("seed", 0))
    keys = array("d", (source.random() for _ in range(len(records))))
    drawn = sorted(range(len(records)), key=lambda number: keys[number])[:wanted]
    return {
        **found,
        held_out["from"]: ChosenRecords(records, drawn, others=True),
        held_out["split"]: ChosenRecords(records, drawn),
    }


def _listed(named: str | list[str]) -> list[str]:
    return [named] if isinstance(named, str) else named


def _all_files(options: Mapping[str, Any]) -> list[str]:
    return [path for split in SPLITS for path in _listed(options["files"].get(split, []))]


def _local(path: str) -> Path:
    file, _ = split_member(path)
    if file.startswith(MIRRORED):
        return Path(os.environ.get(client.MIRROR, "")).expanduser() / file.removeprefix(MIRRORED)
    return Path(file).expanduser()


def _archives(options: Mapping[str, Any]) -> list[str]:
    """List all files once, without the members of zips."""
    return list(dict.fromkeys(split_member(path)[0] for path in _all_files(options)))


def _origin(options: Mapping[str, Any], folder: Path | None) -> str:
    prefix, files = "", local_files(options)
    if folder is not None:
        files = {name: folder / name for name in _archives(options)}
        prefix = f"{options['repository']}, revision {options['revision']}: "
    return prefix + "; ".join(f"{name} (sha256 {sha256(path)})" for name, path in files.items())
