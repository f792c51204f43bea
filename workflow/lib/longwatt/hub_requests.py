"""What is asked of a hub of repositories, what its answers mean, and how long to wait for them.

The client (huggingface_hub) does the asking. Its errors become sentences here that name the repository and what to do,
and no credentials.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

CHANGES_NO_RESULT = "It asks for files, which are known by their digests."

TIMEOUT_S = 10  # for an answer about a repository, before anything is downloaded
TRIES = 6  # without a byte of progress
PAUSE_S = 1.0  # before the second try; doubled before each further one
LONGEST_PAUSE_S = 600.0  # that a hub may ask for by Retry-After
CONNECTION_ERRORS = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
BUSY = (408, 429)  # statuses that pass, beside the server's own errors
CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
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
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

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


def listing(repository: Repository) -> dict[str, RemoteFile]:
    """A repository's files by name, with their checksums.

    Raises:
        HubError: it or its revision does not exist, or may not be seen.
        HubUnreachable: no answer.
    """
    siblings = info(repository).siblings or []
    return {file.rfilename: RemoteFile(file.rfilename, int(file.size), _digest_of(file)) for file in siblings}


listed_once = cache(listing)  # a model and its tokenizer are one repository


def without_credentials(text: str) -> str:
    """A text whose addresses name no user and no password."""
    return CREDENTIALS.sub("", text)


def _constants() -> Any:
    from huggingface_hub import constants

    return constants


def endpoint() -> str:
    """The hub's address, as it may be shown."""
    return without_credentials(_constants().ENDPOINT)


def _clean_record(record: logging.LogRecord) -> bool:
    """A filter of the client's log, which names the addresses that it asks."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def _digest_of(file: Any) -> str:
    return str(file.lfs.sha256 if file.lfs else file.blob_id)


def info(repository: Repository) -> Any:
    """What the hub says of a repository at its revision, its files with their checksums included.

    Raises:
        HubError: it or its revision does not exist, or may not be seen.
        HubUnreachable: no answer.
    """
    from huggingface_hub import HfApi

    with explained(repository):
        return HfApi().repo_info(
            repository.name,
            revision=repository.revision,
            repo_type=repository.kind,
            timeout=TIMEOUT_S,
            files_metadata=True,
        )


def check_access(repository: Repository, name: str) -> None:
    """A gated repository shows its files' names to all, and its files to some."""
    from huggingface_hub import HfApi

    with explained(repository, name):
        HfApi().get_hf_file_metadata(url=url(repository, name), timeout=TIMEOUT_S)


def url(repository: Repository, name: str) -> str:
    """Where the hub has a file."""
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(repository.name, name, repo_type=repository.kind, revision=repository.revision))


@contextmanager
def explained(repository: Repository, name: str = "") -> Iterator[None]:
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
        raise HubError(f"{what}: {endpoint()} does not answer as a hub does ({error})") from None
    except OSError as error:
        if error.errno is not None and not _is_of_a_network(error):  # a disk
            raise
        raise _no_answer(what, error) from None


def _is_of_a_network(error: OSError) -> bool:
    return isinstance(error, CONNECTION_ERRORS) or error.errno in UNREACHABLE


def _no_answer(what: str, error: BaseException) -> HubUnreachable:
    return HubUnreachable(f"{what}: no connection to the hub at {endpoint()} ({type(error).__name__}: {error})")


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
        said = f"{what}: the hub at {endpoint()} answers {status}"
        return HubUnreachable(said, answered=True, wait_s=_asked_pause(error.response.headers))
    return HubError(f"{what}: the hub at {endpoint()} refuses with {status}; see {repository.page}")


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


def patiently(action: Callable[[], Answer], tries: int = TRIES, progress: Callable[[], int] = lambda: 0) -> Answer:
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
