"""Files of a hub's repositories at pinned revisions: fetched once, checked, kept in the client's own cache.

The client (huggingface_hub) reads HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE itself. What it lacks
(seen in version 2.4) is added here: it throws away what it has of a file when a connection is reset or its process
dies, and it never compares a file that came over plain HTTP with the checksum that the hub lists.

Nothing here decides what is in a file: a commit and the hub's checksums do.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from longwatt.hub_requests import (
    TRIES,
    HubError,
    HubUnreachable,
    RemoteFile,
    Repository,
    check_access,
    endpoint,
    explained,
    info,
    listed_once,
    listing,
    patiently,
    url,
    without_credentials,
)
from longwatt.provenance import fsync, read_object, sha256, whole_path, write_json

CHANGES_NO_RESULT = "It fetches files, which are known by their digests."

__all__ = [
    "MIRROR",
    "SCHEMA",
    "TRIES",
    "Choose",
    "HubError",
    "HubUnreachable",
    "Repository",
    "cached",
    "check",
    "check_copies",
    "fetch",
    "git_blob_id",
    "not_pinned",
    "verified",
    "without_credentials",
]

MIRROR = "LONGWATT_MIRROR"  # the environment variable that hands config.yaml's `mirror` to the jobs
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
EVERYWHERE = ".gitattributes"  # every repository of the hub has it, and no program but a download of all wants it
NAMED = 12  # files that a message lists

# What a study says of a repository; a branch or tag is refused later, where the commit that it means can be named.
SCHEMA: dict[str, Any] = {
    "repository": {
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$",
        "description": "a repository of the hub, OWNER/NAME",
    },
    "revision": {
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9_./-]*$",
        "description": "a commit of the repository, its 40 hexadecimal digits",
    },
}

Choose = Callable[[Collection[str]], list[str]]


def fetch(repository: Repository, choose: Choose) -> Path:
    """A folder that holds a repository's chosen files, each as the hub lists it.

    They come from the mirror's folder if that has the repository, else from the hub into the client's cache, or from
    that cache alone where the hub does not answer.

    Args:
        repository: what to fetch from.
        choose: picks files from the names that there are, in the order in which to fetch them; raises LookupError with
            a sentence if they do not do.

    Raises:
        HubError: names the repository, the revision, the file, and what to do.
    """
    mirrored = _mirrored(repository)
    if mirrored is not None:
        _take_mirrors(repository, mirrored, _chosen(repository, choose, _names(mirrored), str(mirrored)))
        return mirrored
    tries = 1 if _is_cached(repository, choose) else TRIES
    try:
        listed = patiently(lambda: listing(repository), tries)
    except HubUnreachable as error:
        _check_cache(repository, choose, error)
        return repository.snapshot
    chosen = _chosen(repository, choose, listed, "it")
    _keep_listing(repository, listed)
    for name in chosen:
        _bring(repository, listed[name])
    return repository.snapshot


def check(repository: Repository, choose: Choose) -> None:
    """Ask once whether a repository has what will be chosen, and whether it may be had; nothing is downloaded.

    Raises:
        HubUnreachable: no answer, and neither the mirror nor the cache has the files.
        HubError: it has not, or may not be had.
    """
    mirrored = _mirrored(repository)
    if mirrored is not None:
        _chosen(repository, choose, _names(mirrored), str(mirrored))
    elif not _is_cached(repository, choose):
        try:
            _ask(repository, choose)
        except HubUnreachable as error:
            raise _advised(repository, error) from None


def _ask(repository: Repository, choose: Choose) -> None:
    names = _chosen(repository, choose, listed_once(repository), "it")
    if names:
        check_access(repository, names[0])


def cached(repository: Repository, name: str) -> Path | None:
    """A file of the mirror or the client's cache, if it is there; asks nobody."""
    for folder in (_mirrored(repository), repository.snapshot):
        if folder is not None and (folder / name).is_file():
            return folder / name
    return None


def verified(repository: Repository, folder: Path, names: Collection[str]) -> bool:
    """Whether `fetch`, whose folder it is, had a checksum to compare each file with.

    It has of what the hub sent and of what `hf download` put into a mirror's folder, not of what was merely laid there.
    """
    return all(_noted(repository, folder, name) for name in names)


def not_pinned(repository: Repository) -> str | None:
    """Why a revision is none that stays; None if it is a commit."""
    if COMMIT.fullmatch(repository.revision):
        return None
    problem = f"the revision {repository.revision!r} of {repository.name} is no commit, so what it means may change"
    try:
        now = f"its commit is {info(repository).sha} now"
    except HubError as error:  # without a connection, or it does not exist: its page tells
        now = f"see {repository.page}/commits/main ({error})"
    return f"{problem}; write the commit's 40 hexadecimal digits: {now}"


def _advised(repository: Repository, error: HubUnreachable) -> HubUnreachable:
    """The error with what to do where the hub cannot be reached; one that answers needs time alone."""
    if error.answered:
        return error
    return HubUnreachable(f"{error}; {_how_to_do_without(repository)}", hopeless=error.hopeless)


def _how_to_do_without(repository: Repository) -> str:
    by_hand = f"`hf download {repository.name} --revision {repository.revision}"
    if repository.kind == "dataset":
        holds = "or URL with its zip files"
        by_hand += " --repo-type dataset --local-dir FOLDER`"
    else:
        holds = f"that holds {repository.name}/"
        by_hand += f" --local-dir FOLDER/{repository.name}`"
    mirror = os.environ.get(MIRROR)
    tried = f"the mirror {without_credentials(mirror)} does not have it; " if mirror else ""
    return (
        f"{tried}without a connection, set `mirror` in config.yaml to a folder {holds} (made elsewhere by {by_hand}), "
        f"set HF_ENDPOINT to a mirror of the hub, or copy the client's cache here ({repository.cache})"
    )


def _names(folder: Path) -> list[str]:
    """The files of a folder, what the client keeps beside them left out."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in found if path.parts[0] != ".cache")


def _chosen(repository: Repository, choose: Choose, names: Collection[str], where: str) -> list[str]:
    try:
        return choose(names)
    except LookupError as error:
        there = ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
        raise HubError(f"{repository}: {error.args[0]}; {where} has {there or 'no files'}") from None


# The client's cache


def _bring(repository: Repository, file: RemoteFile) -> None:
    """Have one file in the cache, with the content that the hub lists."""
    from huggingface_hub.utils import WeakFileLock

    kept, blob = repository.snapshot / file.name, repository.cache / "blobs" / file.digest
    if kept.is_file() and _fits(kept, file.digest):  # a cache that may only be read does so far
        return
    lock = repository.cache.parent / ".locks" / repository.cache.name / f"{file.digest}.lock"  # the client's own
    for folder in (kept.parent, blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        _remove_damaged(kept, file.digest)
        if not kept.is_file():
            _bring_blob(repository, file, blob)
            _link(kept, blob)


def _remove_damaged(kept: Path, digest: str) -> None:
    if kept.is_file() and not _fits(kept, digest):
        print(f"{kept} is damaged: it is fetched again", flush=True)
        kept.resolve().unlink(missing_ok=True)
        kept.unlink(missing_ok=True)


def _bring_blob(repository: Repository, file: RemoteFile, blob: Path) -> None:
    """Have a file's content in the cache under its checksum; what a killed process had of it is kept and used."""
    if blob.is_file() and _fits(blob, file.digest):
        return
    partial = blob.with_name(f"{file.digest}.longwatt.incomplete")
    if not _transfer_whole(repository, file, partial) and not _transfer_whole(repository, file, partial):
        raise HubError(
            f"{repository}, file {file.name}: what comes from {endpoint()} has not the checksum {file.digest} that "
            "the hub lists, twice; is a proxy or mirror between that changes files? Set HF_ENDPOINT to another one"
        )
    fsync(partial)
    partial.replace(blob)


def _link(kept: Path, blob: Path) -> None:
    """A revision's name for a content, as the client makes it: a relative link, or a copy where there are no links."""
    kept.unlink(missing_ok=True)  # a link to what is no more
    try:
        kept.symlink_to(os.path.relpath(blob, kept.parent))
    except OSError:
        with whole_path(kept) as partial:
            shutil.copyfile(blob, partial)


def _transfer_whole(repository: Repository, file: RemoteFile, partial: Path) -> bool:
    """Fetch what is still missing of a file; whether it then has its checksum. If not, it is removed."""
    if partial.is_file() and partial.stat().st_size > file.size:
        partial.unlink()

    def size() -> int:
        return partial.stat().st_size if partial.is_file() else 0

    print(f"fetching {file.name} of {repository} ({file.size} bytes, {size()} there)", flush=True)
    patiently(lambda: _transfer(repository, file, partial), progress=size)
    if _fits(partial, file.digest):
        return True
    print(f"{file.name} of {repository} has not its checksum {file.digest}", flush=True)
    partial.unlink()
    return False


def _transfer(repository: Repository, file: RemoteFile, partial: Path) -> None:
    """Append the rest of a file, by a range request; plain HTTP, which every mirror speaks and can be continued."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with explained(repository, file.name), partial.open("ab") as stream:
        http_get(
            url(repository, file.name),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=file.name,
        )


def _fits(path: Path, digest: str) -> bool:
    """Whether a file has a checksum: SHA-256 (64 digits) or git's blob id (40)."""
    return digest == (sha256(path) if len(digest) == 64 else git_blob_id(path))


def git_blob_id(path: Path) -> str:
    """The id under which git keeps a file's content (SHA-1 of its kind, size and bytes)."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            found.update(block)
    return found.hexdigest()


def _keep_listing(repository: Repository, listed: Mapping[str, RemoteFile]) -> None:
    """Note what a commit has beside its files, so that without a connection the same ones are chosen."""
    path = _listing_path(repository)
    if not path.is_file():
        with suppress(OSError):  # a cache that may only be read
            write_json(path, {name: file.digest for name, file in listed.items()})


def _listing_path(repository: Repository) -> Path:
    return repository.cache / "longwatt" / f"{repository.revision}.json"


def _is_cached(repository: Repository, choose: Choose) -> bool:
    try:
        _chosen_of_cache(repository, choose)
    except LookupError:
        return False
    return True


def _chosen_of_cache(repository: Repository, choose: Choose) -> list[str]:
    """What would be chosen of all that a repository has, if the cache has that.

    Raises:
        LookupError: it has not, or nothing says what else the repository has; says so in a sentence.
    """
    there, listed = _names(repository.snapshot), read_object(_listing_path(repository))
    chosen = choose(listed or there)
    absent = [name for name in chosen if name not in there]
    if absent:
        raise LookupError(f"it has no {', '.join(absent)}")
    if not listed and not _is_whole(repository, there):
        raise LookupError("another program put a part of the repository there, and what is missing is not known")
    return chosen


def _is_whole(repository: Repository, names: Collection[str]) -> bool:
    """Whether a download of everything left these names; of a dataset one file is chosen, whatever else there is."""
    return repository.kind == "dataset" or EVERYWHERE in names


def _check_cache(repository: Repository, choose: Choose, error: HubUnreachable) -> None:
    """Take the cache's word where the hub gives none."""
    try:
        chosen = _chosen_of_cache(repository, choose)
    except LookupError as lack:
        lacks = f"; of the cache, {repository.snapshot}: {lack.args[0]}" if repository.snapshot.is_dir() else ""
        found = HubUnreachable(f"{error}{lacks}", error.answered, error.wait_s, error.hopeless)
        raise _advised(repository, found) from None
    for name in chosen:
        digest = _noted(repository, repository.snapshot, name)
        if digest and not _fits(repository.snapshot / name, digest):
            raise HubError(
                f"{repository.snapshot / name} is damaged (it has not its checksum {digest}), and the hub does not "
                "answer; remove it and run again with a connection"
            )


def _noted(repository: Repository, folder: Path, name: str) -> str:
    """The checksum that a file must have by what was noted as it was fetched; empty if nothing was."""
    if folder == repository.snapshot:
        link = folder / name
        said = read_object(_listing_path(repository)).get(name) or (link.readlink().name if link.is_symlink() else "")
    else:
        _, said = _metadata(folder, name)
    return said if DIGEST.fullmatch(said) else ""


# A mirror's folder


def _mirrored(repository: Repository) -> Path | None:
    """The folder of a repository in the mirror; None if the mirror has none, or is none of folders."""
    mirror = os.environ.get(MIRROR, "")
    if not mirror or mirror.startswith(("http://", "https://")):
        return None
    folder = Path(mirror).expanduser() / repository.name
    return folder if folder.is_dir() else None


def _take_mirrors(repository: Repository, folder: Path, names: Collection[str]) -> None:
    unverified = check_copies(repository, folder, names)
    if unverified:
        print(f"{folder}: unverified: nothing says that {', '.join(unverified)} is of {repository}", flush=True)


def check_copies(repository: Repository, folder: Path, names: Collection[str]) -> list[str]:
    """Compare a folder's files with what `hf download --local-dir` noted beside them: revision and checksum.

    Returns:
        The names of those that nothing was noted of.

    Raises:
        HubError: one is of another revision, or damaged.
    """
    for name in names:
        commit, _ = _metadata(folder, name)
        if commit and commit != repository.revision:
            raise HubError(f"{folder / name} is of revision {commit}, but the study pins {repository}; fetch that one")
        digest = _noted(repository, folder, name)
        if digest and not _fits(folder / name, digest):
            raise HubError(
                f"{folder / name} is damaged: it has not the checksum {digest} of {repository}; fetch it again"
            )
    return [name for name in names if not _noted(repository, folder, name)]


def _metadata(folder: Path, name: str) -> tuple[str, str]:
    """(commit, checksum) that `hf download --local-dir` noted of a file; empty if it did not."""
    record = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    commit, digest, *_ = [*lines, "", ""]
    return commit, digest
