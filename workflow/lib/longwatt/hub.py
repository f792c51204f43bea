"""Files of a hub's repositories at pinned revisions: fetched once, checked, kept in the client's own cache.

The client (huggingface_hub) reads HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE itself. What it lacks
(seen in version 2.4) is added here: it throws away what it has of a file when a connection is reset or its process
dies, and it never compares a file that came over plain HTTP with the checksum that the hub lists.

Nothing here decides what is in a file: a commit and the hub's checksums do.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from longwatt.provenance import fsync, read_object, sha256, whole_path, write_json

MIRROR = "LONGWATT_MIRROR"  # the environment variable that hands config.yaml's `mirror` to the jobs
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
EVERYWHERE = ".gitattributes"  # every repository of the hub has it, and no program but a download of all wants it
TIMEOUT_S = 10  # for an answer about a repository, before anything is downloaded
TRIES = 6  # without a byte of progress
PAUSE_S = 1.0  # before the second try; doubled before each further one
LONGEST_PAUSE_S = 600.0  # that a hub may ask for by Retry-After
NAMED = 12  # files that a message lists
CONNECTION_ERRORS = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
BUSY = (408, 429)  # statuses that pass, beside the server's own errors

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

CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")

Choose = Callable[[Collection[str]], list[str]]
Answer = TypeVar("Answer")


class HubError(ValueError):
    """A file that cannot be had; names the repository, the revision, and what to do, and no one's credentials."""

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


class HubUnreachable(HubError):
    """No answer, or none but "later": another try may bring one.

    Attributes:
        answered: whether the hub said "later", so that it is there.
        wait_s: seconds that it asked to wait, None if it did not say.
        hopeless: whether no later try can help, since the client was told to stay offline.
    """

    def __init__(
        self, message: str, answered: bool = False, wait_s: float | None = None, hopeless: bool = False
    ) -> None:
        super().__init__(message)
        self.answered, self.wait_s, self.hopeless = answered, wait_s, hopeless


@dataclass(frozen=True)
class Repository:
    """A repository at one revision.

    Attributes:
        kind: "model" or "dataset".
        name: OWNER/NAME.
        revision: a commit's 40 hexadecimal digits.
    """

    kind: str
    name: str
    revision: str

    def __str__(self) -> str:
        return f"{self.kind} repository {self.name}, revision {self.revision}"

    @property
    def page(self) -> str:
        """Its page at the hub."""
        return f"{_endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def cache(self) -> Path:
        """Its folder in the client's cache, whose layout the client documents."""
        return Path(_constants().HF_HUB_CACHE) / f"{self.kind}s--{self.name.replace('/', '--')}"

    @property
    def snapshot(self) -> Path:
        """The folder of this revision's files in the client's cache."""
        return self.cache / "snapshots" / self.revision


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it.

    Attributes:
        digest: what its content must hash to: SHA-256 (64 digits), or git's blob id (40) for a small file.
    """

    name: str
    size: int
    digest: str


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
        listed = _patiently(lambda: listing(repository), tries)
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
    names = _chosen(repository, choose, _listed_once(repository), "it")
    if names:
        _check_access(repository, names[0])


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
        now = f"its commit is {_info(repository).sha} now"
    except HubError as error:  # without a connection, or it does not exist: its page tells
        now = f"see {repository.page}/commits/main ({error})"
    return f"{problem}; write the commit's 40 hexadecimal digits: {now}"


def listing(repository: Repository) -> dict[str, RemoteFile]:
    """A repository's files by name, with their checksums.

    Raises:
        HubError: it or its revision does not exist, or may not be seen.
        HubUnreachable: no answer.
    """
    siblings = _info(repository).siblings or []
    return {file.rfilename: RemoteFile(file.rfilename, int(file.size), _digest_of(file)) for file in siblings}


_listed_once = cache(listing)  # a model and its tokenizer are one repository


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
    return (
        f"without a connection, set `mirror` in config.yaml to a folder {holds} (made elsewhere by {by_hand}), set "
        f"HF_ENDPOINT to a mirror of the hub, or copy the client's cache here ({repository.cache})"
    )


def without_credentials(text: str) -> str:
    """A text whose addresses name no user and no password."""
    return CREDENTIALS.sub("", text)


def _constants() -> Any:
    from huggingface_hub import constants

    return constants


def _endpoint() -> str:
    """The hub's address, as it may be shown."""
    return without_credentials(_constants().ENDPOINT)


def _clean_record(record: logging.LogRecord) -> bool:
    """A filter of the client's log, which names the addresses that it asks."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def _digest_of(file: Any) -> str:
    return str(file.lfs.sha256 if file.lfs else file.blob_id)


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


# The hub itself


def _info(repository: Repository) -> Any:
    from huggingface_hub import HfApi

    with _explained(repository):
        return HfApi().repo_info(
            repository.name,
            revision=repository.revision,
            repo_type=repository.kind,
            timeout=TIMEOUT_S,
            files_metadata=True,
        )


def _check_access(repository: Repository, name: str) -> None:
    """A gated repository shows its files' names to all, and its files to some."""
    from huggingface_hub import HfApi

    with _explained(repository, name):
        HfApi().get_hf_file_metadata(url=_url(repository, name), timeout=TIMEOUT_S)


def _url(repository: Repository, name: str) -> str:
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(repository.name, name, repo_type=repository.kind, revision=repository.revision))


@contextmanager
def _explained(repository: Repository, name: str = "") -> Iterator[None]:
    """The client's errors as ours; never its own words, which can hold signed addresses."""
    from huggingface_hub import errors

    what = f"{repository}{f', file {name}' if name else ''}"
    for handler in logging.getLogger(errors.__name__.partition(".")[0]).handlers:
        handler.addFilter(_clean_record)
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise HubUnreachable(f"{what}: HF_HUB_OFFLINE forbids to ask the hub", hopeless=True) from None
    except errors.HfHubHTTPError as error:
        raise _refusal(repository, what, error) from None
    except errors.LocalEntryNotFoundError as error:  # how the client says that asking about a file failed
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refusal(repository, what, cause) from None
        raise _no_answer(what, cause or error) from None
    except errors.HTTPError as error:  # of the client's own client, whichever that is
        raise _no_answer(what, error) from None
    except errors.FileMetadataError as error:
        raise HubError(f"{what}: {_endpoint()} does not answer as a hub does ({error})") from None
    except OSError as error:
        if error.errno is not None and not _is_of_a_network(error):  # a disk
            raise
        raise _no_answer(what, error) from None


def _is_of_a_network(error: OSError) -> bool:
    return isinstance(error, CONNECTION_ERRORS) or error.errno in UNREACHABLE


def _no_answer(what: str, error: BaseException) -> HubUnreachable:
    endpoint = _endpoint()
    return HubUnreachable(f"{what}: no connection to the hub at {endpoint} ({type(error).__name__}: {error})")


def _refusal(repository: Repository, what: str, error: Any) -> HubError:
    """What an HTTP status means, and what to do about it."""
    from huggingface_hub import errors

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{what}: it is gated. Accept its terms at {repository.page} with your account, then log in here with "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"{what}: the hub has no such {repository.kind} repository, or shows it only to some; look at "
            f"{repository.page}, correct the name, or log in with `hf auth login` (or HF_TOKEN) if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{what}: it has no such revision; its commits are at {repository.page}/commits/main")
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(
            f"{what}: it has no such file at this revision; see {repository.page}/tree/{repository.revision}"
        )
    if status in BUSY or status >= 500:
        said = f"{what}: the hub at {_endpoint()} answers {status}"
        return HubUnreachable(said, answered=True, wait_s=_asked_pause(error.response.headers))
    return HubError(f"{what}: the hub at {_endpoint()} refuses with {status}; see {repository.page}")


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait: by the hub's own header, or by Retry-After, a number or a date."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit and limit.remaining == 0:
        return float(limit.reset_in_seconds) + 1  # it counts whole seconds
    said = headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:  # nothing, or no date
        return None


def _patiently(action: Callable[[], Answer], tries: int = TRIES, progress: Callable[[], int] = lambda: 0) -> Answer:
    """Try again what may pass, after growing pauses, until there have been `tries` without progress."""
    failed, most = 0, progress()
    while True:
        try:
            return action()
        except HubUnreachable as error:
            now = progress()  # less than before, where a server sends it all anew, is none
            failed, most = (1 if now > most else failed + 1), max(now, most)
            if error.hopeless or failed >= tries or (error.wait_s or 0) > LONGEST_PAUSE_S:
                raise _given_up(error, failed) from None
            pause = PAUSE_S * 2 ** (failed - 1) if error.wait_s is None else error.wait_s
            print(f"{error}; next try in {pause:g} s", flush=True)
            time.sleep(pause)


def _given_up(error: HubUnreachable, failed: int) -> HubUnreachable:
    if not error.answered:
        return error
    asks = f" and asks to wait {error.wait_s:g} s" if (error.wait_s or 0) > LONGEST_PAUSE_S else f", {failed} times"
    return HubUnreachable(f"{error}{asks}; try later", answered=True, wait_s=error.wait_s)


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
            f"{repository}, file {file.name}: what comes from {_endpoint()} has not the checksum {file.digest} that "
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
    _patiently(lambda: _transfer(repository, file, partial), progress=size)
    if _fits(partial, file.digest):
        return True
    print(f"{file.name} of {repository} has not its checksum {file.digest}", flush=True)
    partial.unlink()
    return False


def _transfer(repository: Repository, file: RemoteFile, partial: Path) -> None:
    """Append the rest of a file, by a range request; plain HTTP, which every mirror speaks and can be continued."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with _explained(repository, file.name), partial.open("ab") as stream:
        http_get(
            _url(repository, file.name),
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
