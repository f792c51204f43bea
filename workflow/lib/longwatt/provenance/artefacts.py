"""Read what jobs have written, and find damage before anything is made of it.

A stamped JSON holds a digest of itself (`provenance.write_json`) and under `sha256` those of the
files beside it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from longwatt.files import sha256
from longwatt.provenance.stamps import CONTENT, content_digest

CHANGES_NO_RESULT = "It refuses what is damaged and changes nothing that it reads."

ASIDE = ".damaged"


class Damaged(RuntimeError):
    """An artefact unlike what its job wrote, with the file and a way out."""


def damaged(
    path: Path,
    problem: str,
    *,
    output: Path | None = None,
    then: str = "it is made again",
    shared: bool = False,
) -> Damaged:
    """Set a damaged file aside for the next run, and say so.

    Args:
        path: of the file.
        problem: what is wrong with it.
        output: what its rule declares, where that is a folder around it.
        then: what the next run does.
        shared: whether many cells rest on it, which would all be made again; then it stays for the
            user to decide.
    """
    said = f"{path} is damaged ({problem})"
    if shared:
        return Damaged(
            f"{said}; put a sound copy back, or remove it and run again, which makes all cells "
            "again that rest on it"
        )
    made, then = output or path, f"run again, and {then}"
    aside = made.with_name(made.name + ASIDE)
    try:
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        made.replace(aside)
    except OSError:
        return Damaged(f"{said}; remove {made} and {then}")
    return Damaged(f"{said}; {made} was renamed to {aside.name}: {then}")


def read_artefact(path: Path, shared: bool = False) -> dict[str, Any]:
    """Read a stamped JSON object and compare it with its own digest.

    Args:
        path: of the file.
        shared: as of `damaged`.

    Raises:
        Damaged: it is missing, torn, altered or no such object.
    """
    value, problem = look_at(path)
    if problem:
        raise damaged(path, problem, shared=shared)
    return value


def look_at(path: Path) -> tuple[dict[str, Any], str]:
    """Read a stamped JSON object, with a word on what is wrong if anything."""
    text, problem = _text(path)
    if problem:
        return {}, problem
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, f"it is not JSON: {error}"
    if not isinstance(value, dict):
        return {}, "it holds no JSON object"
    said = value.get("provenance")
    if isinstance(said, dict) and CONTENT in said and said[CONTENT] != content_digest(value):
        return value, "its content is not what was written"
    return value, ""


def digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their name relative to a folder."""
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(paths)}


def model_files(model: Path) -> list[Path]:
    """List the files of a model's folder without Snakemake's own."""
    return [path for path in model.rglob("*") if path.is_file() and not path.name.startswith(".")]


def differing_files(folder: Path, expected: Mapping[str, str]) -> dict[str, str]:
    """Say what is wrong with files that differ from their digests, by name."""
    found = {name: _difference(folder / name, digest) for name, digest in expected.items()}
    return {name: problem for name, problem in found.items() if problem}


def check_beside(artefact: Path, *paths: Path, shared: bool = False) -> None:
    """Compare files with the digests that the JSON beside them holds.

    Files that it does not name must at least be there.

    Args:
        artefact: the JSON; without one, files are only opened.
        paths: of the files.
        shared: as of `damaged`.

    Raises:
        Damaged: one is not as the JSON says, or the JSON is damaged itself.
    """
    known = read_artefact(artefact, shared).get("sha256") if artefact.exists() else None
    for path in paths:
        name = str(path.relative_to(artefact.parent))
        expected = known.get(name) if isinstance(known, Mapping) else None
        problem = _difference(path, expected) if expected else _unreadable(path)
        if problem:
            raise damaged(path, problem, shared=shared)


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines that a job wrote whole.

    Raises:
        Damaged: the file or a line cannot be read.
    """
    text, problem = _text(path)
    if problem:
        raise damaged(path, problem)
    # A text may hold other ends of lines, which JSON leaves as they are.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise damaged(path, f"line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise damaged(path, f"line {number} is no JSON object")
        yield row


@contextlib.contextmanager
def read_from(path: Path) -> Iterator[None]:
    """Name the file being read when its content lacks a field or is no table.

    Raises:
        Damaged: the block raised one of the errors that a torn or altered file causes.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _text(path: Path) -> tuple[str, str]:
    """Read a file, with a word on what is wrong or an empty one."""
    problem = _unreadable(path)
    if problem:
        return "", problem
    try:
        return path.read_text(encoding="utf-8"), ""
    except UnicodeDecodeError as error:
        return "", f"it is not UTF-8: {error.reason} at byte {error.start}"
    except OSError as error:
        return "", f"it cannot be read: {error.strerror}"


def _unreadable(path: Path) -> str:
    """Say what is wrong with a file at first sight, or return an empty text."""
    if not path.exists():
        return "it is missing"
    if not path.is_file():
        return "it is a folder, but a file is expected"
    return "" if path.stat().st_size else "it is empty"


def _difference(path: Path, expected: str) -> str:
    """Say what is wrong with a file, by its digest too."""
    if not path.exists() or path.is_dir():
        return _unreadable(path)
    try:
        return "" if sha256(path) == expected else "its SHA-256 is not what was written"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
