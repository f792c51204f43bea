"""Source files of data, weights and tokenizers, and whether they changed.

Size and times are compared at every start, contents only where those differ. The time of a file's
last change of any kind (ctime) is among them: `cp -p` and `rsync -t` set the other one back.
Nothing here is seen that leaves all three as they were, which takes a hand on the clock or the disk
itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from longwatt.files import read_object, sha256
from longwatt.provenance.stamps import write_json

CHANGES_NO_RESULT = "It tells whether files have changed, and reads no content."

FileFacts = dict[str, Any]  # path, size, mtime_ns, ctime_ns, sha256
COMPARED_FACTS = ("size", "mtime_ns", "ctime_ns")


class SourceChanged(ValueError):
    """A file was written to while it was read."""


@contextmanager
def recorded_facts(files: Mapping[str, Path]) -> Iterator[list[FileFacts]]:
    """Give what is known of files that are read meanwhile, complete once they have been.

    Args:
        files: by the name that a record of them has; where it is read from may differ between
            machines.

    Raises:
        SourceChanged: a file changed while it was read; names it.
    """
    before = {name: _stat(path) for name, path in files.items()}
    found: list[FileFacts] = []
    yield found
    for name, path in files.items():
        digest = sha256(path)
        if _stat(path) != before[name]:
            then = "run again once nothing writes to it"
            raise SourceChanged(f"{path} changed while it was read; {then}")
        found.append({"path": name, **before[name], "sha256": digest})


def folder_files(folder: Path, files: list[Path]) -> dict[str, Path]:
    """Files of a folder by their names in it."""
    return {str(path.relative_to(folder)): path for path in files}


class KnownDigests:
    """Digests of files whose times changed and contents may not have, each read once.

    Args:
        path: of the file that remembers them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = read_object(path)
        self._new = False

    def of(self, file: Path) -> str:
        """Return a file's SHA-256, reading it unless its size and times are known."""
        key, now = str(file.resolve()), _stat(file)
        known = self._known.get(key, {})
        if {name: known.get(name) for name in COMPARED_FACTS} != now:
            self._known[key] = known = {**now, "sha256": sha256(file)}
            self._new = True
        return str(known["sha256"])

    def save(self) -> None:
        """Remember what was read, or read it again next time if unwritable."""
        if self._new:
            with suppress(OSError):
                write_json(self.path, self._known)


def differences(
    artefact: Path, files: Mapping[str, Path], known: KnownDigests, *, all_of_them: bool = False
) -> list[str]:
    """List the files that are no longer what an artefact was made from.

    Args:
        artefact: a JSON file with `sources`, as `recorded` gives them; one without was made by an
            older version, and counts as made from any file that is not newer.
        files: by name; one that is gone counts as unchanged, since what was made of it is still
            whole.
        known: digests of files whose times differ.
        all_of_them: `files` are all that would be read now, so that one that is missing there is a
            difference.
    """
    sources = read_object(artefact).get("sources")
    if sources is None:
        made = artefact.stat().st_mtime_ns
        there = [path for path in files.values() if path.is_file()]
        return [str(path) for path in there if path.stat().st_mtime_ns > made]
    before = {facts["path"]: facts for facts in sources}
    found = [str(path) for name, path in files.items() if _differs(path, before.get(name), known)]
    return found + [name for name in before if all_of_them and name not in files]


def _differs(path: Path, before: Mapping[str, Any] | None, known: KnownDigests) -> bool:
    try:
        now = _stat(path)
        if before is None or before["size"] != now["size"]:
            return True
        same = all(before.get(name) == now[name] for name in COMPARED_FACTS)
        return not same and known.of(path) != before["sha256"]
    except OSError:  # gone, or not to be read by whoever asks
        return False


def _stat(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
