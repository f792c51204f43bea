"""Write files whole, read JSON, and digest bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import longwatt

CHANGES_NO_RESULT = "It says what made an artefact, beside what the artefact holds."

PACKAGE = Path(longwatt.__path__[0])


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, empty where the file is missing, torn or none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def json_lines(text: str) -> list[dict[str, Any]]:
    """Parse JSON lines to objects without torn ones, whose writer was killed."""
    objects = []
    for line in text.split("\n"):  # `splitlines` would split texts with U+2028 too
        try:
            objects.append(json.loads(line))
        except ValueError:
            continue
    return objects


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Give a path, in a folder made for it, whose file is named once whole.

    A full disk, an error or a kill half-way leaves what was there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        fsync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text stream to `whole_path`, with newline "" for CSV writers."""
    with whole_path(path) as part, part.open("w", encoding="utf-8", newline=newline) as stream:
        yield stream


def link_or_copy(source: str, target: str) -> None:
    """Link a file, or copy it where there are no links (for `shutil.copytree`)."""
    try:
        os.link(source, target)
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(source, target)


def fsync(path: Path) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Flush a folder and everything in it to disk."""
    for path in [*folder.rglob("*"), folder]:
        fsync(path)
