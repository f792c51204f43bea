"""Tell a full disk from other errors, and say how much room there is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MIB, GIB = 2**20, 2**30
LITTLE = 16 * MIB  # with less a disk counts as full: what could not be written was removed again
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The libraries' own words, where they give no number: torch, safetensors, zstd.
_PLAIN = ("no space left on device", "disk quota exceeded", "file too large")
_WORDS = (
    *_PLAIN,
    "os error 28",
    "os error 122",
    "pytorchstreamwriter failed writing file",
    "] . unexpected pos ",
)


def is_full(error: BaseException) -> bool:
    """Tell whether an error, or one that it came from, is that of a full disk, an exceeded quota or a file's limit."""
    return any(
        (isinstance(one, OSError) and one.errno in DISK_FULL)
        or any(word in str(one).lower() for word in _WORDS)
        for one in _chain(error)
    )


def said_of_full(error: BaseException, *folders: Path) -> str:
    """Say what was not written, how much room there is on each disk of these folders, and what to do."""
    disks: dict[int, Path] = {}
    for folder in folders:
        disks.setdefault(_nearest(folder).stat().st_dev, folder)
    rooms = ", ".join(map(free_space, disks.values()))
    return f"{in_words(error, *folders)}; {rooms}: free some, then run again"


def in_words(error: BaseException, *folders: Path) -> str:
    """Word an error so that a full disk is named as that, whatever a library says of it."""
    words = str(error) or type(error).__name__
    unsaid = not any(plain in words.lower() for plain in _PLAIN)
    return (
        f"no space left on device: {words}"
        if unsaid and (is_full(error) or full(folders))
        else words
    )


def free_space(folder: Path) -> str:
    """Say how much room there is beside a folder's files, the nearest that exists counting."""
    there = _nearest(folder)
    state = os.statvfs(there)
    bytes_ = state.f_bavail * state.f_frsize
    room = f"{bytes_ / GIB:.2g} GiB are" if bytes_ >= GIB / 10 else f"{bytes_ / MIB:.1f} MiB are"
    files = " and no further file fits" if state.f_files and not state.f_favail else ""
    return f"{room} free at {there.resolve()}{files}"


def _nearest(folder: Path) -> Path:
    """Return the folder, or the first one above it that is there."""
    return next(path for path in (folder, *folder.resolve().parents) if path.is_dir())


def full(folders: Iterable[Path]) -> list[Path]:
    """Those folders whose disk has hardly any room left, in bytes or in files."""
    return [folder for folder in folders if folder.is_dir() and _has_none(folder)]


def _has_none(folder: Path) -> bool:
    state = os.statvfs(folder)
    little = min(LITTLE, state.f_blocks * state.f_frsize // 4)
    return state.f_bavail * state.f_frsize < little or bool(state.f_files and not state.f_favail)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
