"""Read the rows of a user's files, whatever their format."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.datasets.reading.opening import open_data
from longwatt.datasets.reading.row_files import format_of, read_file
from longwatt.datasets.reading.rows import SourceRow
from longwatt.datasets.records import SPLITS, DatasetError
from longwatt.first_study.errors import FirstStudyError

READ_FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
JSON_FORMATS = READ_FORMATS[:3]
# By ending, the separator of fields, and then those of other programs.
SEPARATORS = {".csv": (",", ";", "\t", "|"), ".tsv": ("\t", ";", ",", "|")}
MARK_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEADER_BYTES = 2**14  # more than the names of fields take
LOOKED_AT = 1000  # rows of a split on which guesses rest
# Words in a file's name that say its split.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "eval", "evaluation"),
}
EXPORTED = ("dataset_dict.json", "dataset_info.json", "state.json")  # of `save_to_disk`


@dataclass(frozen=True)
class GivenFiles:
    """Files of a user by split, where a single one is the training split."""

    by_split: dict[str, Path]

    @property
    def missing(self) -> list[str]:
        """Splits that no file was given for."""
        return [split for split in SPLITS if split not in self.by_split]


def given_files(words: list[str]) -> GivenFiles:
    """Find the files that `--data` names: one, several, or a folder of them.

    Args:
        words: paths, each with `train=`, `validation=` or `test=` before it or not.

    Raises:
        FirstStudyError: names the path, and what to give.
    """
    found: dict[str, Path] = {}
    for word in _expanded(words):
        split, path = word
        if split in found:
            raise FirstStudyError(
                f"--data {path}: {found[split]} is the {split} split already; join the files of a "
                f"split, or say which each is: --data train={path} --data validation=FILE "
                "--data test=FILE"
            )
        _check_readable(path)
        found[split] = path
    if "train" not in found:
        raise FirstStudyError(
            f"--data names no training split, only {', '.join(found) or 'nothing'}; add "
            "--data train=FILE"
        )
    return GivenFiles({split: found[split] for split in SPLITS if split in found})


def _expanded(words: list[str]) -> list[tuple[str, Path]]:
    """List (split, path) of all files, those of folders included."""
    named = [_named_split(word) for word in words]
    paths = [(split, Path(path).expanduser()) for split, path in named]
    listed: list[tuple[str | None, Path]] = []
    for split, path in paths:
        listed += [(None, one) for one in _in_folder(path)] if path.is_dir() else [(split, path)]
    if len(listed) == 1:
        return [(listed[0][0] or "train", listed[0][1])]
    return [(split or _split_of(path), path) for split, path in listed]


def _named_split(word: str) -> tuple[str | None, str]:
    name, sign, path = word.partition("=")
    return (name, path) if sign and name in SPLITS else (None, word)


def _split_of(path: Path) -> str:
    """Tell a file's split from its name."""
    words = set(path.name.lower().replace("-", "_").replace(".", "_").split("_"))
    fitting = [split for split, names in SPLIT_WORDS.items() if words & set(names)]
    if len(fitting) != 1:
        raise FirstStudyError(
            f"--data {path}: its name does not say which split it is; give --data train={path}, "
            f"--data validation={path} or --data test={path}"
        )
    return fitting[0]


def _in_folder(folder: Path) -> list[Path]:
    """List the data files of a folder."""
    if any((folder / name).is_file() for name in EXPORTED):
        raise FirstStudyError(
            f"--data {folder} is a dataset that `save_to_disk` wrote, which longwatt does not "
            "read; write each split as JSON lines: from datasets import load_from_disk; "
            f"load_from_disk({str(folder)!r})['train'].to_json('train.jsonl')"
        )
    found = [path for path in sorted(folder.iterdir()) if format_of(path.name) in READ_FORMATS]
    if not found:
        known = ", ".join(READ_FORMATS)
        raise FirstStudyError(f"--data {folder} is a folder without data files ({known})")
    return found


def _check_readable(path: Path) -> None:
    if not path.is_file():
        near = "" if path.parent.is_dir() else f"; there is no folder {path.parent}"
        raise FirstStudyError(f"--data {path} does not exist, or is no file{near}")
    if format_of(path.name) not in READ_FORMATS:
        raise FirstStudyError(
            f"--data {path}: its name must end in {', '.join(READ_FORMATS)}, packed (.gz, .bz2, "
            ".xz, .zst) or not; the ending says the format. JSON lines have one object a line"
        )
    if format_of(path.name) in SEPARATORS:
        _check_separator(path)
    if format_of(path.name) in JSON_FORMATS and _begins_as_list(path):
        raise FirstStudyError(
            f"--data {path} is one JSON list, but one object a line is expected; make it so: "
            'python -c "import json, sys; [print(json.dumps(row, ensure_ascii=False)) for row in '
            f'json.load(open(sys.argv[1]))]" {path} > {path.with_suffix(".jsonl").name}'
        )


def _begins_as_list(path: Path) -> bool:
    return _beginning(path, 64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def _beginning(path: Path, count: int) -> bytes:
    try:
        with open_data(path, str(path)) as stream:
            return bytes(stream.read(count))
    except DatasetError as error:
        raise FirstStudyError(f"--data {error}") from None


def _check_separator(path: Path) -> None:
    """Refuse a header that something else than the format's own separator parts.

    Spreadsheets write `.csv` with semicolons where the comma is a decimal sign.
    """
    own, *others = SEPARATORS[format_of(path.name)]
    header = _beginning(path, HEADER_BYTES).lstrip(b"\xef\xbb\xbf").partition(b"\n")[0]
    found = next((mark for mark in others if mark.encode() in header), None)
    if own.encode() in header or found is None:
        return
    read = f"csv.DictReader(open(sys.argv[1], encoding='utf-8-sig'), delimiter={found!r})"
    raise FirstStudyError(
        f"--data {path}: {MARK_WORDS[found]} part the fields of its header, and "
        f"{MARK_WORDS[own]} are expected; write it as JSON lines: python -c "
        f'"import csv, json, sys; [print(json.dumps(row, ensure_ascii=False)) for row in {read}]" '
        f"{shlex.quote(str(path))} > {shlex.quote(path.with_suffix('.jsonl').name)}"
    )


def rows_of_file(path: Path) -> Iterator[SourceRow]:
    """Yield the rows of a file.

    Raises:
        FirstStudyError: names the file, the line and what to do.
    """
    try:
        yield from read_file(path, None, str(path), _columns(path))
    except DatasetError as error:
        raise FirstStudyError(f"--data {error}") from None
    except OSError as error:
        raise FirstStudyError(f"--data {path} cannot be read: {error.strerror}") from None


def _columns(path: Path) -> list[str]:
    """Name the columns of a parquet file, which are read by name."""
    if format_of(path.name) != ".parquet" or path.suffix != ".parquet":
        return []
    import pyarrow
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError):
        return []  # the reader says what is wrong


def first_values(path: Path) -> list[dict[str, Any]]:
    """Return the first rows of a file, on which guesses rest."""
    found: list[dict[str, Any]] = []
    for row in rows_of_file(path):
        found.append(dict(row.values))
        if len(found) == LOOKED_AT:
            break
    return found
