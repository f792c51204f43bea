"""Files that vanish once nothing reads them, in a folder of the reader's choice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

CHANGES_NO_RESULT = "It says where files lie while they are read."

# None is the system's folder for temporary files, which may be small, or in memory.
_folder: ContextVar[Path | None] = ContextVar("folder of stored records", default=None)


@contextmanager
def stored_in(folder: Path) -> Iterator[None]:
    """Put temporary files made meanwhile in a folder, or in its first parent that exists."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    token = _folder.set(there)
    try:
        yield
    finally:
        _folder.reset(token)


def temporary_file() -> IO[bytes]:
    """Make a file that vanishes once nothing reads it, in the folder of `stored_in`."""
    return tempfile.TemporaryFile(prefix="longwatt-", dir=_folder.get())
