"""Write exports where nothing stands yet, or where --force allows it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from longwatt.exports.known import NothingToExport
from longwatt.files import whole_file
from longwatt.layout.wording import listed

CRATE_FILE = "ro-crate-metadata.json"


def write_texts(texts: Mapping[Path, str], force: bool) -> None:
    """Write files by their paths, all or, where one is there already, none.

    Raises:
        NothingToExport: a file is there and `force` is not given, or one cannot be written.
    """
    refuse_existing(texts, force)
    for path, text in texts.items():
        try:
            with whole_file(path) as stream:
                stream.write(text)
        except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise cannot_write(path, error) from None


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Refuse to write over files.

    Raises:
        NothingToExport: names those that are there.
    """
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise NothingToExport(
            f"{listed(there)} {'is' if len(there) == 1 else 'are'} there already; give --force to "
            "write over, or another --out"
        )


def refuse_crate(target: Path, force: bool) -> None:
    """Refuse to write over a crate, or over a folder that is none.

    Raises:
        NothingToExport: it is there and `force` is not given, or it is no crate.
    """
    if target.is_dir() and not any(target.iterdir()):
        return
    refuse_existing([target], force)
    if target.is_dir() and not (target / CRATE_FILE).is_file():
        raise NothingToExport(
            f"{target} is a folder without {CRATE_FILE}, so --force does not remove it; give "
            "another --out"
        )


def replace_crate(crate: Path, target: Path) -> None:
    """Move a crate that is whole to its place, and remove an earlier one."""
    if target.is_dir():
        shutil.rmtree(target)
    crate.replace(target)


def cannot_write(path: Path, error: OSError) -> NothingToExport:
    """Say that a file cannot be written, and why."""
    return NothingToExport(f"{path} cannot be written ({error.strerror}); give another --out")
