"""Write exports where nothing stands yet, or where --force allows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from longwatt.disk_space import free_space, is_full
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
        with said_if_unwritable(path), whole_file(path) as stream:
            stream.write(text)


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Refuse to write over files.

    Raises:
        NothingToExport: names those that are there.
    """
    there = [str(path) for path in paths if _exists(path)]
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


def _exists(path: Path) -> bool:
    with said_if_unwritable(path):  # its name is too long, or a folder before it is closed to us
        return path.exists()


def replace_crate(crate: Path, target: Path) -> None:
    """Move a crate that is whole to its place.

    An earlier folder goes to the crate's own, which its maker removes.
    """
    if target.is_dir():
        target.replace(crate.with_name("earlier"))
    crate.replace(target)


@contextmanager
def said_if_unwritable(path: Path) -> Iterator[None]:
    """Say in one line that a path cannot be written, why, and what to do.

    Raises:
        NothingToExport: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        why, then = error.strerror or "some files cannot be copied", "give another --out"
        if is_full(error):
            why, then = "no space left on device", f"{free_space(path)}: free some, then run again"
        raise NothingToExport(f"{path} cannot be written ({why}); {then}") from error
