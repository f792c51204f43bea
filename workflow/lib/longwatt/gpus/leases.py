"""Find this node's GPUs, and lease them by UUID to one job at a time.

Snakemake's `gpu` resource only counts; it never names devices. A lease is one `flock` per GPU, so
the kernel frees it when its last holder dies, kill -9 included. The first request waits with the
gate of every GPU that it could use shut behind it. So small requests do not starve large ones, no
two can block each other half-way, and jobs that see other GPUs of the node are not held up.

Command line:
    longwatt gpus list [--json]
    longwatt gpus lease --count N [--wait-s S] [--label L] -- COMMAND ...

Exit codes of `lease`: the command's own; 75 if GPUs are not free in time, 2 if they cannot be had,
126 and 127 as a shell.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import random
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from longwatt.gpus.listing import Gpu, GpuError, list_devices
from longwatt.processes import try_lock

CHANGES_NO_RESULT = "It says which devices a job gets, which its result records."
POLL_S = 0.1
# Others shut a gate or look at a lock for milliseconds; that alone is no reason to give up.
GRACE_S = 0.5
REMIND_S = 60.0
RECORD_BYTES = 4096  # most that is read of a lock file
FOLDER_VARIABLE = "LONGWATT_LEASE_DIR"


class LeaseTimeout(GpuError):
    """GPUs were not free in time. The message names their holders."""


@dataclass(frozen=True)
class Holder:
    """Holder of a lock, as its file records it.

    `pid` is None if the record cannot be read.
    """

    pid: int | None
    label: str
    since: str  # local time, ISO 8601

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that left no readable record"
        label = f" {self.label!r}" if self.label else ""
        return f"process {self.pid}{label} since {self.since or 'an unknown time'}"


def holder(uuid: str) -> Holder | None:
    """Return the process, if any, that leases a GPU or keeps it for a request."""
    return _holder(_lock_path(lock_folder(), uuid))


class Lease:
    """Exclusive use of some GPUs, or of other things with names (`take_free`).

    It lasts until `close`, the end of a `with` block, or the end of the process. A child that
    inherited a lock's descriptor (fork, or `pass_fds=lease.descriptors`) shares the lease: the GPU
    is free when the last of them is gone.

    Attributes:
        uuids: the leased GPUs, in CUDA's order.
    """

    def __init__(self, locks: Mapping[str, int]) -> None:
        self.uuids = list(locks)
        self._descriptors = list(locks.values())

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that hold the locks, none once closed."""
        return tuple(self._descriptors)

    def environ(self) -> dict[str, str]:
        """Return variables, to be set before CUDA starts, that show only these GPUs."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.uuids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def keep_across_exec(self) -> None:
        """Let the locks outlive `exec`: the command then holds them."""
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, True)

    def close(self) -> None:
        """Give the GPUs back. Closing twice is harmless."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def say_on_stderr(message: str) -> None:
    """Print a message for who started the command, apart from its output."""
    print(f"longwatt: {message}", file=sys.stderr, flush=True)


def lease(
    count: int,
    *,
    wait_s: float | None = None,
    label: str = "",
    devices: Sequence[Gpu] | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> Lease:
    """Lease `count` GPUs, all or none.

    A process that asks for more while it holds a lease can wait for itself: ask once for all.

    Args:
        count: number of GPUs; 0 leases nothing and shows no GPU.
        wait_s: longest wait in seconds; None for ever, 0 to give up at once (after GRACE_S).
        label: shown to others who wait.
        devices: to choose from, preferred first; default `list_devices()`.
        say: prints a line about waiting, after GRACE_S and then every REMIND_S.

    Raises:
        GpuError: fewer than `count` exist, or the folder of the locks is not safe.
        LeaseTimeout: they were not free in time.
    """
    if count == 0:
        return Lease({})
    chosen = list_devices() if devices is None else devices
    uuids = list(dict.fromkeys(device.uuid for device in chosen))
    if count < 0:
        raise GpuError(f"{count} GPUs cannot be leased; ask for 0 or more")
    if count > len(uuids):
        raise GpuError(
            f"{count} GPU(s) wanted, {len(uuids)} visible here ({', '.join(uuids) or 'none'}); use "
            "a machine that has them, widen CUDA_VISIBLE_DEVICES, or choose a budget with fewer "
            "GPUs"
        )
    return _Request(lock_folder(), uuids, count, label, _Patience(wait_s, say)).fulfil()


def take_free(names: Iterable[str], count: int, label: str = "") -> Lease | None:
    """Lease the first `count` of some names that are free, or nothing, without waiting.

    Requests never block each other half-way while all that are made together fit: each holds no
    more than it needs.

    Args:
        names: of things that are leased as GPUs are, preferred first.
        count: how many.
        label: shown to others.

    Raises:
        GpuError: the folder of the locks is not safe.
    """
    folder, locks = lock_folder(), dict[str, int]()
    with contextlib.ExitStack() as taken:
        for name in names:
            if len(locks) < count and (lock := _try_lock(_lock_path(folder, name))) is not None:
                taken.callback(os.close, lock)
                _write_record(lock, label)
                locks[name] = lock
        if len(locks) < count:
            return None
        taken.pop_all()
    return Lease(locks)


class _Patience:
    """Pauses between attempts, with a message now and then, and a limit."""

    def __init__(self, wait_s: float | None, say: Callable[[str], None]) -> None:
        now = time.monotonic()
        self._wait_s = wait_s
        self._gives_up_at = math.inf if wait_s is None else now + max(wait_s, GRACE_S)
        self._speaks_at = now + GRACE_S
        self._say = say

    def wait(self, describe: Callable[[], str]) -> None:
        now = time.monotonic()
        if now >= self._gives_up_at:
            raise LeaseTimeout(
                f"not free within {self._wait_s:g} s: {describe()}; allow a longer wait, end a "
                "holder, or ask for fewer"
            )
        if now >= self._speaks_at:
            self._say(describe())
            self._speaks_at = now + REMIND_S
        # Uneven pauses: equal ones would let the same waiter through first every time.
        time.sleep(min(random.uniform(0.5, 1.5) * POLL_S, self._gives_up_at - now))


@dataclass
class _Request:
    folder: Path
    uuids: Sequence[str]
    count: int
    label: str
    patience: _Patience

    def fulfil(self) -> Lease:
        self.locks: dict[str, int] = {}
        with contextlib.ExitStack() as gates, contextlib.ExitStack() as taken:
            # One order for all: requests over overlapping sets of GPUs never wait in a circle.
            for uuid in sorted(self.uuids):
                while self._take(_lock_path(self.folder, uuid, "gate"), gates) is None:
                    self.patience.wait(self._describe)
            while not self._enough(taken):
                self.patience.wait(self._describe)
            taken.pop_all()
        return Lease({uuid: self.locks[uuid] for uuid in self.uuids if uuid in self.locks})

    def _enough(self, taken: contextlib.ExitStack) -> bool:
        for uuid in self.uuids:
            if uuid not in self.locks and len(self.locks) < self.count:
                lock = self._take(_lock_path(self.folder, uuid), taken)
                if lock is not None:
                    self.locks[uuid] = lock
        return len(self.locks) == self.count

    def _take(self, path: Path, stack: contextlib.ExitStack) -> int | None:
        descriptor = _try_lock(path)
        if descriptor is not None:
            stack.callback(os.close, descriptor)
            _write_record(descriptor, self.label)
        return descriptor

    def _describe(self) -> str:
        others = [uuid for uuid in self.uuids if uuid not in self.locks]
        holders = [(uuid, _holder(_lock_path(self.folder, uuid))) for uuid in others]
        held = [f"{uuid} held by {who}" for uuid, who in holders if who]
        gates = {_holder(_lock_path(self.folder, uuid, "gate")) for uuid in others}
        ahead = [f"ahead in the queue: {who}" for who in gates if who and who.pid != os.getpid()]
        kept = [f"{len(self.locks)} kept for this request"] if self.locks else []
        wanted = f"waiting for {self.count} of {len(self.uuids)} GPU(s)"
        return "; ".join([wanted, *kept, *held, *ahead])


def lock_folder() -> Path:
    """Return the folder of this user's locks, node-local and private to the user.

    It is not TMPDIR or XDG_RUNTIME_DIR, which differ between one user's jobs on a node. Cleaners of
    /tmp leave locked files alone (systemd-tmpfiles), and a lock that was removed is made anew
    (`_try_lock`).

    Raises:
        GpuError: it is not safe.
    """
    path = Path(os.environ.get(FOLDER_VARIABLE) or f"/tmp/longwatt-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = path.lstat()
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o022:
        wanted = "it must be a directory of yours that nobody else can write to, and no link"
        raise _unusable(path, wanted)
    return path


def _unusable(path: Path, why: str | None) -> GpuError:
    advice = f"repair it, or set {FOLDER_VARIABLE} to a local directory"
    return GpuError(f"{path} cannot hold GPU locks: {why}; {advice}")


def _lock_path(folder: Path, uuid: str, kind: str = "lock") -> Path:
    return folder / f"{quote(uuid, safe='')}.{kind}"  # MIG ids of older drivers hold slashes


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, not inherited across exec, if it is free."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if not _locked(descriptor, fcntl.LOCK_EX) or not _is_still(path, descriptor):
            return None
        stack.pop_all()
    return descriptor


def _locked(descriptor: int, kind: int) -> bool:
    try:
        return try_lock(descriptor, kind)
    except OSError as error:  # some network file systems have no flock
        advice = f"set {FOLDER_VARIABLE} to a local directory"
        raise GpuError(f"no lock on this file system ({error}); {advice}") from error


def _is_still(path: Path, descriptor: int) -> bool:
    """Return whether a file was not removed between its opening and its locking."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write_record(descriptor: int, label: str) -> None:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    record = json.dumps({"pid": os.getpid(), "label": label[:1000], "since": since})
    with contextlib.suppress(OSError):  # a courtesy to others; a full disk must not stop a lease
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, record.encode(), 0)


def _holder(path: Path) -> Holder | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    try:
        if _locked(descriptor, fcntl.LOCK_SH):  # shared, so that two who look do not see each other
            return None
        record = json.loads(os.pread(descriptor, RECORD_BYTES, 0))
        return Holder(int(record["pid"]), str(record["label"]), str(record["since"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return Holder(None, "", "")
    finally:
        os.close(descriptor)
