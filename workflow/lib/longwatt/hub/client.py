"""Files of a hub's repositories at pinned revisions: fetched once, checked, kept in a cache.

The client (huggingface_hub) downloads into its own cache and reads HF_ENDPOINT, HF_HOME,
HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE itself. It compares sizes, and no checksums of what comes
over plain HTTP (seen in version 2.4), so this module compares them.

A commit and the hub's checksums decide what is in a file, and nothing here does.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from longwatt.files import fsync, read_object, sha256
from longwatt.hub import requests
from longwatt.hub.requests import TRIES, HubError, HubUnreachable, Repository, without_credentials
from longwatt.provenance.stamps import write_json

CHANGES_NO_RESULT = "It fetches files, which are known by their digests."

__all__ = [
    "MIRROR", "SCHEMA", "TRIES", "Choose", "HubError", "HubUnreachable", "Repository", "cached",
    "check_copies", "check_files", "choose_named", "fetch", "is_url", "not_pinned", "verified",
    "without_credentials",
]  # fmt: skip

MIRROR = "LONGWATT_MIRROR"  # hands config.yaml's `mirror` to the jobs
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
EVERYWHERE = ".gitattributes"  # all repositories have it, and only a download of all fetches it
NAMED_FILES = 12  # files that a message lists
ABANDONED_S = 3600.0  # since the last byte of a download; a living one gives up far sooner

# Keys of a study for a repository. A branch is refused later, where its commit can be named.
SCHEMA: dict[str, Any] = {
    "repository": {
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$",
        "patternErrorMessage": "expected a repository of the hub, OWNER/NAME",
    },
    "revision": {
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9_./-]*$",
        "patternErrorMessage": "expected a commit of the repository, its 40 hexadecimal digits",
    },
}

FileNames = Collection[str]
Choose = Callable[[FileNames], list[str]]


def fetch(repository: Repository, choose: Choose) -> Path:
    """Bring a repository's chosen files into a folder, and return the folder.

    Each file is as the hub lists it. They come from the mirror's folder if that has the repository,
    else from the hub into the client's cache, or from that cache alone where the hub does not
    answer. `choose` picks files from all names, in the order in which to fetch them. It raises
    LookupError with a sentence if the names do not do.

    Raises:
        HubError: names the repository, the revision, the file, and what to do.
    """
    mirrored = _mirrored(repository)
    if mirrored is not None:
        names = _chosen(repository, choose, _names(mirrored), str(mirrored))
        if unknown := ", ".join(check_copies(repository, mirrored, names)):
            said = f"unverified: nothing says that {unknown} is of {repository}"
            print(f"{mirrored}: {said}", flush=True)
        return mirrored
    lack = _lack_of_cache(repository, choose)
    try:
        listed = requests.patiently(lambda: requests.listing(repository), TRIES if lack else 1)
    except HubUnreachable as error:
        if lack:
            raise _advised(repository, error, lack) from None
        _check_cache(repository, choose)
    else:
        chosen = _chosen(repository, choose, listed, "it")
        noted = _listing_path(repository)  # from it the same files are chosen without a connection
        with suppress(OSError):  # a cache that may only be read
            if not noted.is_file():
                write_json(noted, listed)
        for name in chosen:
            _bring(repository, name, listed[name])
    return repository.snapshot


def check_files(repository: Repository, choose: Choose) -> None:
    """Ask once whether a repository has the files and grants access, downloading nothing.

    Raises:
        HubUnreachable: no answer, and neither the mirror nor the cache has the files.
        HubError: the files are missing or may not be had.
    """
    mirrored = _mirrored(repository)
    if mirrored is not None:
        _chosen(repository, choose, _names(mirrored), str(mirrored))
    elif _lack_of_cache(repository, choose):
        try:
            if names := _chosen(repository, choose, requests.listed_once(repository), "it"):
                requests.check_access(repository, names[0])
        except HubUnreachable as error:
            raise _advised(repository, error) from None


def choose_named(wanted: list[str], names: FileNames) -> list[str]:
    """Choose exactly these files, or raise LookupError for the first that is not there."""
    for name in wanted:
        if name not in names:
            raise LookupError(f"it has no {name}")
    return wanted


def cached(repository: Repository, name: str) -> Path | None:
    """Find a file in the mirror or the client's cache, without asking the hub."""
    for folder in (_mirrored(repository), repository.snapshot):
        if folder is not None and (folder / name).is_file():
            return folder / name
    return None


def verified(repository: Repository, folder: Path, names: FileNames) -> bool:
    """Return whether `fetch` could compare every file of its folder with a checksum.

    There is a checksum for all that the hub sent and for what `hf download` put into a mirror's
    folder, and none for files that were merely copied there.
    """
    return all(_noted(repository, folder, name) for name in names)


def not_pinned(repository: Repository) -> str | None:
    """Say why a revision may change, None if it is a commit."""
    if COMMIT.fullmatch(repository.revision):
        return None
    try:
        now = f"its commit is {requests.info(repository).sha} now"
    except HubError as error:  # without a connection, or it does not exist: its page tells
        now = f"see {repository.page}/commits/main ({error})"
    return (
        f"the revision {repository.revision!r} of {repository.name} is no commit, so what it means "
        f"may change; write the commit's 40 hexadecimal digits: {now}"
    )


def _advised(repository: Repository, error: HubUnreachable, lack: str = "") -> HubUnreachable:
    """Add what the cache lacks, and how to work without a hub."""
    said = str(error)
    if lack and repository.snapshot.is_dir():
        said += f"; of the cache, {repository.snapshot}: {lack}"
    if not error.answered:
        said += f"; {_how_to_do_without(repository)}"
    return HubUnreachable(said, error.answered, error.wait_s)


def _how_to_do_without(repository: Repository) -> str:
    holds, option = f"that holds {repository.name}/", f"--local-dir FOLDER/{repository.name}"
    if repository.kind == "dataset":
        holds, option = "or URL with its zip files", "--repo-type dataset --local-dir FOLDER"
    mirror = os.environ.get(MIRROR)
    tried = f"the mirror {without_credentials(mirror)} does not have it; " if mirror else ""
    return (
        f"{tried}without a connection, set `mirror` in config.yaml to a folder {holds} (made "
        f"elsewhere by `hf download {repository.name} --revision {repository.revision} {option}`), "
        "set HF_ENDPOINT to a mirror of the hub, or copy the client's cache here "
        f"({repository.cache})"
    )


def _names(folder: Path) -> list[str]:
    """List the files of a folder, but for what the client keeps beside them."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in found if path.parts[0] != ".cache")


def _chosen(repository: Repository, choose: Choose, names: FileNames, where: str) -> list[str]:
    try:
        return choose(names)
    except LookupError as error:
        more = ", ..." if len(names) > NAMED_FILES else ""
        has = f"{where} has {', '.join(sorted(names)[:NAMED_FILES]) or 'no files'}{more}"
        raise HubError(f"{repository}: {error.args[0]}; {has}") from None


# The client's cache


def _bring(repository: Repository, name: str, digest: str) -> None:
    """Bring one file into the cache, with the content that the hub lists."""
    kept, blob = repository.snapshot / name, repository.cache / "blobs" / digest
    if _fits(kept, digest):  # a cache that may only be read does so far
        return
    for path in (kept, blob):
        if path.is_file() and not _fits(path, digest):
            print(f"{path} is damaged: it is fetched again", flush=True)
            _remove(path)
    _remove_abandoned(blob)
    for _ in range(2):
        print(f"fetching {name} of {repository}", flush=True)
        requests.patiently(lambda: requests.fetch_file(repository, name))
        if _fits(kept, digest):
            fsync(kept)
            return
        print(f"{name} of {repository} has not its checksum {digest}", flush=True)
        _remove(kept)
    raise HubError(
        f"{repository}, file {name}: what comes from {requests.endpoint()} has not the checksum "
        f"{digest} that the hub lists, twice; is a proxy or mirror between that changes files? Set "
        "HF_ENDPOINT to another one"
    )


def _remove(path: Path) -> None:
    path.resolve().unlink(missing_ok=True)  # what a link names
    path.unlink(missing_ok=True)


def _remove_abandoned(blob: Path) -> None:
    """Remove what killed downloads left of a file: the client never resumes it."""
    for partial in blob.parent.glob(f"{blob.name}.*.incomplete"):
        with suppress(OSError):  # another process removed it
            if time.time() - partial.stat().st_mtime > ABANDONED_S:
                partial.unlink()
                print(f"{partial} was left by a killed download: removed", flush=True)


def _fits(path: Path, digest: str) -> bool:
    """Check whether a file is there and has a checksum: SHA-256, or git's blob id."""
    from huggingface_hub.utils.sha import git_hash

    try:
        return digest == (sha256(path) if len(digest) == 64 else git_hash(path.read_bytes()))
    except FileNotFoundError:
        return False


def _listing_path(repository: Repository) -> Path:
    return repository.cache / "longwatt" / f"{repository.revision}.json"


def _lack_of_cache(repository: Repository, choose: Choose) -> str | None:
    """Say what the cache lacks, None if it has all that would be chosen."""
    there, listed = _names(repository.snapshot), read_object(_listing_path(repository))
    try:
        absent = [name for name in choose(listed or there) if name not in there]
    except LookupError as error:
        return str(error.args[0])
    if absent:
        return f"it has no {', '.join(absent)}"
    # One file of a dataset is chosen, whatever else there is; of a model it depends on the rest.
    if listed or repository.kind == "dataset" or EVERYWHERE in there:
        return None
    return "another program put a part of the repository there, and what is missing is not known"


def _check_cache(repository: Repository, choose: Choose) -> None:
    """Compare the cache's files with their noted checksums, as the hub does not answer."""
    listed = read_object(_listing_path(repository)) or _names(repository.snapshot)
    for name in choose(listed):
        path, digest = repository.snapshot / name, _noted(repository, repository.snapshot, name)
        if digest and not _fits(path, digest):
            raise HubError(
                f"{path} is damaged (it has not its checksum {digest}), and the hub does not "
                "answer; remove it and run again with a connection"
            )


def _noted(repository: Repository, folder: Path, name: str) -> str:
    """Return the checksum noted when a file was fetched, empty if there is none."""
    if folder == repository.snapshot:
        link = folder / name
        linked = link.readlink().name if link.is_symlink() else ""
        said = read_object(_listing_path(repository)).get(name) or linked
    else:
        _, said = _metadata(folder, name)
    return said if DIGEST.fullmatch(said) else ""


# A mirror's folder


def is_url(mirror: str) -> bool:
    """Return whether a mirror is no folder of this machine."""
    return mirror.startswith(("http://", "https://"))


def _mirrored(repository: Repository) -> Path | None:
    """Find a repository's folder in the mirror, None for a URL or none."""
    mirror = os.environ.get(MIRROR, "")
    if not mirror or is_url(mirror):
        return None
    folder = Path(mirror).expanduser() / repository.name
    return folder if folder.is_dir() else None


def check_copies(repository: Repository, folder: Path, names: FileNames) -> list[str]:
    """Compare a folder's files with the revision and checksum that `hf download` noted.

    Returns the names of files without a note, and raises HubError if one is of another revision or
    damaged.
    """
    for name in names:
        path, digest = folder / name, _noted(repository, folder, name)
        commit, _ = _metadata(folder, name)
        if commit and commit != repository.revision:
            pins = f"but the study pins {repository}; fetch that one"
            raise HubError(f"{path} is of revision {commit}, {pins}")
        if digest and not _fits(path, digest):
            lacks = f"it has not the checksum {digest} of {repository}"
            raise HubError(f"{path} is damaged: {lacks}; fetch it again")
    return [name for name in names if not _noted(repository, folder, name)]


def _metadata(folder: Path, name: str) -> tuple[str, str]:
    """Read the commit and checksum that `hf download --local-dir` noted, else empty strings."""
    record = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    commit, digest, *_ = [*lines, "", ""]
    return commit, digest
