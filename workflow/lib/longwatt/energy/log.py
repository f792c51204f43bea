"""Files of an energy log: lines are appended, long logs are cut, ended ones gzipped.

PATH holds the newest lines, PATH.1, PATH.2, ... the older ones in order. Any of them may be gzipped
(.gz).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import json
import os
import re
import shutil
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from longwatt.files import whole_path
from longwatt.processes import try_lock

CHANGES_NO_RESULT = "It writes and reads a log; how joules are made of it counts."

RUN_FILE = re.compile(r"(\d+)\.jsonl(\.\d+)?(\.gz)?$")
FOLDER = "energy"  # of a job's logs in its work folder: 1.jsonl, 2.jsonl, ..., one per run
PART_BYTES = 64 * 2**20  # about a day of one GPU at 10 Hz
PUBLISHED_RUN, END = "published", "end of the log"  # around all runs, in place of a run's name
LOG_VARIABLE = "LONGWATT_ENERGY_LOG"
GPUS_VARIABLE = "LONGWATT_ENERGY_GPUS"


class LogError(RuntimeError):
    """A log cannot be written or read as asked, and the message says why."""


class LogWriter:
    """Writer of a recorder's lines. A full disk loses lines, never the log.

    Args:
        path: the log; it and its folder are made if they are absent.
        part_bytes: a larger file becomes a numbered part.

    Raises:
        LogError: it cannot be opened, or another recorder writes it.
    """

    def __init__(self, path: Path, part_bytes: int = PART_BYTES) -> None:
        self.path = path
        self._part_bytes = part_bytes
        self._torn, self._lost = False, 0
        self._syncing: threading.Thread | None = None
        self.problem = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._open()
        except OSError as error:
            problem = f"cannot be written: {error.strerror}; choose another path"
            raise LogError(f"{path} {problem}") from error

    def write(self, line: Mapping[str, Any]) -> bool:
        """Append one line with one write, and return whether it was written whole.

        Lines that were lost before are reported once the disk takes lines again.
        """
        if not self._append(line):
            self._lost += 1
            return False
        if self._lost and self._append({"lost": self._lost, "why": self.problem}):
            self._lost = 0
        return True

    def sync(self) -> None:
        """Make the written lines durable."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)

    def sync_soon(self) -> None:
        """Make the written lines durable without waiting: a busy disk can take seconds."""
        if self._syncing is None or not self._syncing.is_alive():
            self._syncing = threading.Thread(target=self.sync, daemon=True)
            self._syncing.start()

    def too_large(self) -> bool:
        """Return whether it is time for `rotate`."""
        return os.fstat(self._descriptor).st_size > self._part_bytes

    def rotate(self) -> None:
        """Give the file the next number, and go on in an empty one."""
        try:
            self.path.rename(_numbered(self.path, len(_older(self.path)) + 1))
            fresh = self._open()
        except (OSError, LogError) as error:
            self.problem = str(error)
            return
        self.sync()
        os.close(self._descriptor)
        self._descriptor, self._torn = fresh, False

    def close(self) -> None:
        """Make the log durable and let go of it."""
        self.sync()
        os.close(self._descriptor)

    def _append(self, line: Mapping[str, Any]) -> bool:
        data = (b"\n" if self._torn else b"") + _line(line)
        try:
            self._torn = os.write(self._descriptor, data) < len(data)
        except OSError as error:
            self.problem = str(error.strerror)
            return False
        return not self._torn

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o666)
        try:
            if not try_lock(descriptor, fcntl.LOCK_EX):
                problem = "is being written by another recorder; choose another path"
                raise LogError(f"{self.path} {problem}")
            if size := os.fstat(descriptor).st_size:
                # A new line begins after one that a kill or a full disk has torn.
                with self.path.open("rb") as stream:
                    stream.seek(size - 1)
                    self._torn = stream.read(1) != b"\n"
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def append(path: Path, *lines: Mapping[str, Any]) -> None:
    """Append lines with one write, from a process that is not the log's recorder.

    The first begins on a new line, because a full disk may have torn the one before.

    Raises:
        OSError: the disk did not take them whole.
    """
    data = b"\n" + b"".join(map(_line, lines))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def log_parts(path: Path) -> list[Path]:
    """Return the files of a log, oldest first (none if there is no log)."""
    return [*_older(path), *(there for there in (path, _zipped(path)) if there.exists())]


def compress(path: Path) -> None:
    """Gzip a log's older parts, once its job has ended."""
    for part in (part for part in _older(path) if part.suffix != ".gz"):
        with contextlib.suppress(OSError):  # a full disk: the part stays as it is
            with (
                whole_path(_zipped(part)) as partial,
                part.open("rb") as source,
                gzip.open(partial, "wb") as packed,
            ):
                shutil.copyfileobj(source, packed)
            part.unlink()


def publish(logs: Sequence[Path], target: Path, otherwise: Mapping[str, Any]) -> None:
    """Join a job's logs to one gzipped log, or make one of the header `otherwise`.

    It has its final name once it is whole. The format of gzip allows files to be joined, so that
    gzipped parts are not packed again.
    """
    with whole_path(target) as partial, partial.open("wb") as stream:
        stream.write(gzip.compress(_line({"run": PUBLISHED_RUN, "of": len(logs)}), mtime=0))
        if not logs:
            stream.write(gzip.compress(_line(otherwise), mtime=0))
        for log in logs:
            stream.write(gzip.compress(_line({"run": log.name}), mtime=0))
            for part in log_parts(log):
                _append_gzipped(part, stream)
        stream.write(gzip.compress(_line({"run": END}), mtime=0))


def damage_of(published: Path) -> str:
    """Return the damage of a log that `publish` wrote (empty if it is whole)."""
    # Every part has a checksum of its own; a first line of a published log promises a last one.
    first, last = None, None
    opened = gzip.open if published.suffix == ".gz" else open
    try:
        with opened(published, "rb") as stream:
            for line in stream:
                if line != b"\n":
                    first, last = first or line, line
    except (EOFError, zlib.error, OSError) as error:
        return str(error)
    if first is None:
        return "it is empty"
    ended = last is not None and last.endswith(_line({"run": END}))
    return "its end is missing" if PUBLISHED_RUN.encode() in first and not ended else ""


def open_log(part: Path) -> TextIO:
    """Open one file of a log as text, gzipped or not."""
    if part.suffix == ".gz":
        return gzip.open(part, "rt", encoding="utf-8", errors="replace")
    return part.open(encoding="utf-8", errors="replace")


def runs(work: Path) -> list[Path]:
    """Return the logs, one each, of all runs of a job, oldest first."""
    names = {found[1] for path in (work / FOLDER).glob("*") if (found := RUN_FILE.match(path.name))}
    return [work / FOLDER / f"{name}.jsonl" for name in sorted(names, key=int)]


def next_run(work: Path) -> Path:
    """Return the path of the log of a new run of a job."""
    return work / FOLDER / f"{max((int(log.stem) for log in runs(work)), default=0) + 1}.jsonl"


def forget_runs(folder: Path, but: Path | None) -> None:
    """Remove the logs of all runs but one."""
    for path in folder.iterdir():
        if but is None or path.name.split(".")[0] != but.stem:
            path.unlink()


def _append_gzipped(part: Path, stream: Any) -> None:
    with part.open("rb") as source:
        if part.suffix == ".gz":
            shutil.copyfileobj(source, stream)
        else:
            with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
                shutil.copyfileobj(source, packed)
                packed.write(b"\n")  # a torn last line must not run into the next log's first


def _older(path: Path) -> list[Path]:
    found: list[Path] = []
    while True:
        part = _numbered(path, len(found) + 1)
        there = next((file for file in (part, _zipped(part)) if file.exists()), None)
        if there is None:
            return found
        found.append(there)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _zipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _line(line: Mapping[str, Any]) -> bytes:
    return (json.dumps(line, separators=(",", ":")) + "\n").encode()
