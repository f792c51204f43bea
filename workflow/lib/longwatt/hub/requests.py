"""Ask a hub about repositories, explain its answers, and wait for them.

The client (huggingface_hub) asks. This module turns its errors into sentences that name the
repository and what to do, and no credentials.
"""

from __future__ import annotations

import errno
import logging
import math
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

ANSWER_TIMEOUT_S = 10  # for an answer about a repository, before anything is downloaded
TRIES = 6
PAUSE_S = 1.0  # before the second try; doubled before each further one
LONGEST_PAUSE_S = 600.0  # that a hub may ask for by Retry-After
NETWORK_ERRORS = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
BUSY = (408, 429)  # statuses that pass, beside the server's own errors
USER, SIGNATURE = re.compile(r"(?<=://)[^/\s]*@"), re.compile(r"(://[^\s?]*)\?[^\s)'\"]*")
Fetched = TypeVar("Fetched")


class HubError(ValueError):
    """A file that cannot be had, with the repository, the revision and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


class HubUnreachable(HubError):
    """No answer, or only "later", so that another try may bring one.

    Attributes:
        answered: the hub said "later", so it is there.
        wait_s: seconds that it asked to wait, None if it did not say. Infinite where no later try
            can help, since the client was told to stay offline.
    """

    def __init__(self, message: str, answered: bool = False, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.answered, self.wait_s = answered, wait_s


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
    def asked(self) -> dict[str, str]:
        """The client's arguments that name it."""
        return {"repo_id": self.name, "repo_type": self.kind, "revision": self.revision}

    @property
    def page(self) -> str:
        """Its page at the hub."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def cache(self) -> Path:
        """Its folder in the client's cache, whose layout the client documents."""
        name = f"{self.kind}s--{self.name.replace('/', '--')}"
        return Path(_constants().HF_HUB_CACHE) / name

    @property
    def snapshot(self) -> Path:
        """The folder of this revision's files in the client's cache."""
        return self.cache / "snapshots" / self.revision


def _constants() -> Any:
    from huggingface_hub import constants

    return constants


def endpoint() -> str:
    """Return the hub's address, as it may be shown."""
    return without_credentials(_constants().ENDPOINT)


def without_credentials(text: str) -> str:
    """Remove users, passwords and signatures from the addresses in a text."""
    return SIGNATURE.sub(r"\1", USER.sub("", text))


def info(repository: Repository) -> Any:
    """Ask the hub about a repository at its revision, with its files and their checksums.

    Raises:
        HubError: it or its revision does not exist, or may not be seen.
        HubUnreachable: no answer.
    """
    from huggingface_hub import HfApi

    with explained(repository):
        return HfApi().repo_info(**repository.asked, timeout=ANSWER_TIMEOUT_S, files_metadata=True)


def listing(repository: Repository) -> dict[str, str]:
    """List a repository's files by name, with their checksums.

    A checksum is a SHA-256 (64 digits), or git's blob id (40) for a small file.
    """
    files = info(repository).siblings or []
    return {file.rfilename: str(file.lfs.sha256 if file.lfs else file.blob_id) for file in files}


listed_once = cache(listing)  # a model and its tokenizer are one repository


def check_access(repository: Repository, name: str) -> None:
    """Ask for a file's facts: a gated repository hides only its files."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with explained(repository, name):
        url = hf_hub_url(filename=name, **repository.asked)
        get_hf_file_metadata(url, timeout=ANSWER_TIMEOUT_S)


def fetch_file(repository: Repository, name: str) -> Path:
    """Bring a file into the client's cache, by the storage Xet or plain HTTP.

    Every process writes a file of its own and renames it when it is whole, so that the cache is
    right even where locks do nothing. The content is not compared with a checksum yet.

    Raises:
        HubError: see `info`.
    """
    from huggingface_hub import hf_hub_download

    with explained(repository, name):
        try:
            return Path(hf_hub_download(filename=name, **repository.asked))
        except RuntimeError as error:  # Xet's for all that goes wrong, a firewall included
            if _constants().HF_HUB_DISABLE_XET:
                raise HubError(f"{repository}, file {name}: {error}") from None
            _constants().HF_HUB_DISABLE_XET = True
            raise HubUnreachable(
                f"{repository}, file {name}: the hub's storage (Xet) fails, so that plain HTTP "
                f"comes next ({error})"
            ) from None


@contextmanager
def explained(repository: Repository, name: str = "") -> Iterator[None]:
    """Raise the client's errors as ours, without the addresses in its own words."""
    from huggingface_hub import errors

    what = f"{repository}{f', file {name}' if name else ''}"
    _prepare_client()
    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # the client could not ask about a file
        raise _meaning(repository, what, error.__cause__ or error) from None
    except (errors.HTTPError, OSError) as error:
        raise _meaning(repository, what, error) from None
    except errors.HFValidationError as error:
        raise HubError(f"{what}: the hub can have no repository of that name ({error})") from None


def _prepare_client() -> None:
    """Keep credentials out of the client's log, and have a busy hub's answer raise.

    `patiently` waits then, within bounds. The client's own tries of a silent hub come before.
    """
    from huggingface_hub.utils import get_session

    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_clean_record)
    hooks = get_session().event_hooks["response"]
    if _end_at_busy not in hooks:
        hooks.append(_end_at_busy)


def _clean_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def _end_at_busy(response: Any) -> None:
    """Raise at once where the client would wait for as long as an answer says."""
    from huggingface_hub.utils import hf_raise_for_status

    if _passes(response.status_code):
        hf_raise_for_status(response)


def _passes(status: int) -> bool:
    return status in BUSY or status >= 500


def _meaning(repository: Repository, what: str, error: BaseException) -> BaseException:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachable(f"{what}: HF_HUB_OFFLINE forbids to ask the hub", wait_s=math.inf)
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(repository, what, error)
    if isinstance(error, errors.FileMetadataError):
        return HubError(f"{what}: {endpoint()} does not answer as a hub does ({error})")
    of_network = isinstance(error, NETWORK_ERRORS)
    if isinstance(error, OSError) and error.errno is None and not of_network:
        # The client's own, where a file came with another size than the hub says.
        return HubUnreachable(f"{what}: the transfer is not whole ({error})", answered=True)
    if isinstance(error, OSError) and not of_network and error.errno not in UNREACHABLE:  # a disk
        return error
    said = f"no connection to the hub at {endpoint()} ({type(error).__name__}: {error})"
    return HubUnreachable(f"{what}: {said}")


def _refusal(repository: Repository, what: str, error: Any) -> HubError:
    """Say what an HTTP status means, and what to do about it."""
    from huggingface_hub import errors

    status, page, kind = error.response.status_code, repository.page, repository.kind
    if isinstance(error, errors.GatedRepoError):
        problem = (
            f"it is gated. Accept its terms at {page} with your account, then log in here with "
            "`hf auth login` or set HF_TOKEN"
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        problem = (
            f"the hub has no such {kind} repository, or shows it only to some; look at {page}, "
            "correct the name, or log in with `hf auth login` (or HF_TOKEN) if it is private"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        problem = f"it has no such revision; its commits are at {page}/commits/main"
    elif isinstance(error, errors.EntryNotFoundError):
        problem = f"it has no such file at this revision; see {page}/tree/{repository.revision}"
    elif _passes(status):
        said = f"{what}: the hub at {endpoint()} answers {status}"
        return HubUnreachable(said, answered=True, wait_s=_asked_pause(error.response.headers))
    else:
        problem = f"the hub at {endpoint()} refuses with {status}; see {page}"
    return HubError(f"{what}: {problem}")


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Read the seconds to wait: the hub's own header, or a number or date."""
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


def patiently(action: Callable[[], Fetched], tries: int = TRIES) -> Fetched:
    """Retry what may pass, after growing pauses or those that the hub wants."""
    failed = 0
    while True:
        try:
            return action()
        except HubUnreachable as error:
            failed, wait_s = failed + 1, error.wait_s or 0
            if failed < tries and wait_s <= LONGEST_PAUSE_S:
                pause = PAUSE_S * 2 ** (failed - 1) if error.wait_s is None else wait_s
                print(f"{error}; next try in {pause:g} s", flush=True)
                time.sleep(pause)
            elif not error.answered:
                raise
            else:
                long = wait_s > LONGEST_PAUSE_S
                asks = f" and asks to wait {wait_s:g} s" if long else f", {failed} times"
                raise HubUnreachable(f"{error}{asks}; try later", True, error.wait_s) from None
