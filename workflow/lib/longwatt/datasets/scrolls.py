"""SCROLLS tasks (Shaham et al. 2022) from the hub's tau/scrolls, or a mirror of it.

`<task>.zip` holds `<task>/{train,validation,test}.jsonl`. A study that names the repository's
`revision` takes the zip from the hub, unless a mirror (a folder or a URL in the repository's
layout) has it. The mirror's place concerns the machine, not the study: config.yaml names it, and a
task that was read once is kept wherever the mirror goes. `sha256` makes sure that the file is the
one that the study means.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from longwatt.datasets.reading.opening import damage_named, refuse_foreign, unpacked
from longwatt.datasets.reading.rows import Noted, SourceRow, read_rows, records_of
from longwatt.datasets.records import SPLITS, DatasetError, Record, SourceData, list_of, object_of
from longwatt.files import sha256
from longwatt.hub import client
from longwatt.hub.client import MIRROR, is_url

REPOSITORY = "tau/scrolls"
# The inputs of these tasks begin with a query and a blank line.
QUERIED = ("qmsum", "qasper", "narrative_qa", "quality", "contract_nli")
TASKS = ("gov_report", "summ_screen_fd", *QUERIED)
DOWNLOAD_TIMEOUT_S = 60  # without a single byte
LABELLED = ("train", "validation")  # SCROLLS hides the test splits' outputs

OPTIONS_SCHEMA = {
    **object_of(
        ["task"],
        task={"enum": list(TASKS)},
        splits=list_of({"enum": list(SPLITS)}),
        sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
        **client.SCHEMA,
    ),
    "dependentRequired": {"repository": ["revision"]},
}


def splits(options: Mapping[str, Any]) -> list[str]:
    """Return the splits that are asked for (default: those with labels in SCROLLS)."""
    return [split for split in SPLITS if split in options.get("splits", LABELLED)]


def repository(options: Mapping[str, Any]) -> tuple[client.Repository, client.Choose] | None:
    """Return the hub repository that has the task, or None if no revision is named."""
    if "revision" not in options:
        return None
    name = options.get("repository", REPOSITORY)
    found = client.Repository("dataset", name, options["revision"])
    return found, partial(client.choose_named, [f"{options['task']}.zip"])


def local_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the task's zip if it lies in a mirror's folder."""
    mirror, name = os.environ.get(MIRROR, ""), f"{options['task']}.zip"
    if is_url(mirror) or not at_hand(options):
        return {}
    return {f"mirror:{name}": Path(_location(mirror, options["task"]))}


def at_hand(options: Mapping[str, Any]) -> bool:
    """Return whether the mirror has the task.

    A mirror at a URL is taken at its word.
    """
    mirror = os.environ.get(MIRROR, "")
    return bool(mirror) and (is_url(mirror) or Path(_location(mirror, options["task"])).is_file())


def missing(options: Mapping[str, Any]) -> str | None:
    """Say that neither a mirror nor a revision of the hub provides the task."""
    mirror, name = os.environ.get(MIRROR, ""), f"{options['task']}.zip"
    if "revision" in options or at_hand(options):
        return None
    if not mirror:
        return (
            f"no mirror is set to take {name} from; give its folder or URL, as `mirror` in "
            f"config.yaml or with --config mirror=..., or the `revision` of the hub's {REPOSITORY} "
            "to take it from there, in the dataset's options"
        )
    there = sorted(path.name for path in Path(mirror).expanduser().glob("*.zip"))
    return f"the mirror {mirror} has no {name}; it has {', '.join(there) or 'no zip files'}"


def read(options: Mapping[str, Any]) -> SourceData:
    """Read the records of one task, with all references of an id in one record.

    Args:
        options: `task`; `splits` (default: train and validation, since SCROLLS hides the outputs of
            test); `sha256` of the zip; `revision` and `repository` of the hub.

    Raises:
        HubError: the hub does not give the zip, or a mirror's zip is not the pinned one.
        DatasetError: the zip cannot be fetched, is damaged, lacks a split or is another one, or a
            row lacks a field.
    """
    if problem := missing(options):
        raise DatasetError(problem)
    task, doubts = options["task"], _doubts(options)
    with _zip(options) as (path, location):
        found = _check_digest(path, location, options.get("sha256"))
        data = {split: _read_split(path, location, task, split) for split in splits(options)}
    return SourceData(
        splits={split: records for split, (records, _) in data.items()},
        licence="that of the SCROLLS task; see its paper",
        origin=f"SCROLLS {task}, {location}{', unverified' if doubts else ''}, sha256 {found}",
        notes=[*doubts, *(note for _, notes in data.values() for note in notes)],
    )


def _doubts(options: Mapping[str, Any]) -> list[str]:
    """Note a mirror's zip that nothing shows to be the pinned one.

    Its folder or `sha256` would show that.
    """
    found, location = repository(options), _location(os.environ.get(MIRROR, ""), options["task"])
    if found is None or not at_hand(options):
        return []
    zipped = Path(location)
    unknown = is_url(location) or client.check_copies(found[0], zipped.parent, [zipped.name])
    if not unknown or "sha256" in options:
        return []
    doubt = f"unverified: nothing says that {client.without_credentials(location)} is of {found[0]}"
    print(doubt, flush=True)
    return [doubt]


@contextmanager
def _zip(options: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Provide the task's zip as a local file, and say where it comes from."""
    found = repository(options)
    if found and not at_hand(options):
        yield client.fetch(*found) / f"{options['task']}.zip", f"{found[0]}: {options['task']}.zip"
        return
    location = _location(os.environ[MIRROR], options["task"])
    if not is_url(location):
        yield Path(location), client.without_credentials(location)
        return
    with tempfile.TemporaryDirectory(prefix="longwatt-") as folder:
        path = Path(folder) / "task.zip"
        _fetch(location, path)
        yield path, client.without_credentials(location)


def _location(mirror: str, task: str) -> str:
    where = mirror.rstrip("/") if is_url(mirror) else str(Path(mirror).expanduser())
    return f"{where}/{task}.zip"


def _fetch(url: str, path: Path) -> None:
    import requests

    try:
        with (
            requests.get(url, stream=True, timeout=DOWNLOAD_TIMEOUT_S) as answer,
            path.open("wb") as stream,
        ):
            answer.raise_for_status()
            for block in answer.iter_content(2**20):
                stream.write(block)
    except requests.RequestException as error:
        problem = (
            f"{url} cannot be fetched ({type(error).__name__}: {error}); check the mirror's "
            "address, or download the zip yourself and give its folder as the mirror"
        )
        raise DatasetError(client.without_credentials(problem)) from None


def _check_digest(path: Path, location: str, expected: str | None) -> str:
    found = sha256(path)
    if expected is not None and found != expected:
        raise DatasetError(
            f"{location} has the sha256 {found}, but the study expects {expected}; fetch it again "
            "(is it truncated?), or correct options.sha256 if this is the file you mean"
        )
    return found


def _read_split(path: Path, location: str, task: str, split: str) -> Noted:
    member = f"{task}/{split}.jsonl"
    with damage_named(location), zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            there = ", ".join(archive.namelist()[:8]) or "nothing"
            advice = "name the splits that it has under options.splits"
            raise DatasetError(f"{location} has no {member} (it has {there}); {advice}")
        name = f"{location}:{member}"
        with archive.open(member) as stream:
            refuse_foreign(plain := unpacked(stream, name), name)
            return records_of(read_rows(plain, name), lambda row: _record(row, task in QUERIED))


def _record(row: SourceRow, has_query: bool) -> Record:
    text, start = row.text("input"), 0
    if has_query:  # the document begins after the query's blank line, and QuALITY's options
        start = text.find("\n\n") + 2 if "\n\n" in text else 0
        options = text.find("(D)", start) if text[start:].lstrip().startswith("(A)") else start
        end = text.find("\n\n", options)
        start = end + 2 if options > start and end > 0 else start
    return Record(row.id("id"), text, row.texts("output"), document_start=start)
