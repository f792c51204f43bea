"""Tell a full disk from other errors, and say how much space is free."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

CHANGES_NO_RESULT = "It names a full disk; no result is made on one."

MIB, GIB = 2**20, 2**30
LITTLE = 16 * MIB  # a disk with less counts as full: torn files were removed again
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Messages of libraries that give no error number: torch, safetensors, zstd.
_PLAIN = ("no space left on device", "disk quota exceeded", "file too large")
_WORDS = (
    *_PLAIN,
    "os error 28",
    "os error 122",
    "pytorchstreamwriter failed writing file",
    "] . unexpected pos ",
)


def is_full(error: BaseException) -> bool:
    """Return whether an error or its cause is a full disk, quota or file limit."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, OSError) and one.errno in DISK_FULL:
            return True
        if any(word in str(one).lower() for word in _WORDS):
            return True
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return False


def said_of_full(error: BaseException, *folders: Path) -> str:
    """Say what was not written, and what is free on the folders' disks."""
    disks: dict[int, Path] = {}
    for folder in folders:
        disks.setdefault(_nearest(folder).stat().st_dev, folder)
    rooms = ", ".join(map(free_space, disks.values()))
    return f"{disk_error_words(error, *folders)}; {rooms}: free some, then run again"


def disk_error_words(error: BaseException, *folders: Path) -> str:
    """Word an error so that a full disk is named, whatever a library says."""
    words = str(error) or type(error).__name__
    if any(plain in words.lower() for plain in _PLAIN) or not (is_full(error) or full(folders)):
        return words
    return f"no space left on device: {words}"


def free_space(folder: Path) -> str:
    """Say how much space is free at a folder or its nearest parent that exists."""
    there = _nearest(folder)
    state = os.statvfs(there)
    bytes_ = state.f_bavail * state.f_frsize
    room = f"{bytes_ / GIB:.2g} GiB are" if bytes_ >= GIB / 10 else f"{bytes_ / MIB:.1f} MiB are"
    files = " and no further file fits" if state.f_files and not state.f_favail else ""
    return f"{room} free at {there.resolve()}{files}"


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.resolve().parents) if path.is_dir())


def full(folders: Iterable[Path]) -> list[Path]:
    """Return the folders whose disk has hardly any room left, in bytes or in files."""
    return [folder for folder in folders if folder.is_dir() and _is_tight(folder)]


def _is_tight(folder: Path) -> bool:
    state = os.statvfs(folder)
    little = min(LITTLE, state.f_blocks * state.f_frsize // 4)
    return state.f_bavail * state.f_frsize < little or bool(state.f_files and not state.f_favail)
