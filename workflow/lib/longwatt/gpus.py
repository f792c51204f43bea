"""Find this machine's GPUs and lease concrete ones, by UUID, to one job at a time.

Snakemake's `gpu` resource only counts; it never says which devices. A lease is one `flock` per GPU, so the
kernel frees it when its holder dies, kill -9 included.

Command line:
    python -m longwatt.gpus list [--json]
    python -m longwatt.gpus lease --count N [--wait-s S] [--label L] -- COMMAND ...
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TextIO

GIB = 2**30
POLL_S = 0.05
REMIND_EVERY_S = 60.0
TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
NOT_FOUND = 127  # as a shell says it


class GpuError(RuntimeError):
    """GPUs that cannot be had as asked; says what is there and what to do."""


class LeaseTimeout(GpuError):
    """The wait for free GPUs is over; says who holds them."""


@dataclass(frozen=True)
class Device:
    """A GPU, or a MIG slice that an outer CUDA_VISIBLE_DEVICES names.

    Attributes:
        uuid: what CUDA_VISIBLE_DEVICES will hold.
        index: NVML (PCI) index; None for a MIG slice.
        name: product name.
        memory_gib: total memory; None if it cannot be read.
    """

    uuid: str
    index: int | None
    name: str
    memory_gib: float | None


def list_devices() -> list[Device]:
    """The devices NVML sees, in PCI order, within an outer CUDA_VISIBLE_DEVICES; none without NVML.

    Raises:
        GpuError: CUDA_VISIBLE_DEVICES names what is not there, or indices whose meaning is unclear.
    """
    found = _nvml_devices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else _restrict(found, visible)


class Lease:
    """Exclusive use of some GPUs until `close`, the end of a `with` block, or the end of the process.

    Attributes:
        uuids: the leased GPUs.
    """

    def __init__(self, uuids: Sequence[str], locks: Sequence[TextIO]) -> None:
        self.uuids = list(uuids)
        self._locks = list(locks)

    def environ(self) -> dict[str, str]:
        """Variables that show a process these GPUs and no others; to be set before CUDA starts."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.uuids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def keep_across_exec(self) -> None:
        """Let the locks outlive `exec`: the command then holds them."""
        for lock in self._locks:
            os.set_inheritable(lock.fileno(), True)

    def close(self) -> None:
        """Give the GPUs back."""
        while self._locks:
            self._locks.pop().close()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lease(
    count: int,
    *,
    wait_s: float | None = None,
    label: str = "",
    devices: Sequence[Device] | None = None,
    say: Callable[[str], None] | None = None,
) -> Lease:
    """Lease `count` GPUs, all or none.

    A gate is held while the locks are gathered, so that requests are served one after another: neither do two
    large ones block each other half-way, nor do small ones starve a large one.

    Args:
        count: how many; 0 leases nothing and shows no GPU.
        wait_s: longest wait, None for ever, 0 to try once.
        label: told to others who wait.
        devices: to choose from; default `list_devices()`.
        say: prints a line about waiting; default standard error.

    Raises:
        GpuError: fewer than `count` exist, or the lock directory is not safe.
        LeaseTimeout: they were not free in time.
    """
    if count == 0:
        return Lease([], [])
    chosen = list_devices() if devices is None else list(devices)
    if count > len(chosen):
        raise GpuError(
            f"{count} GPU(s) wanted, {len(chosen)} visible here; use a machine that has them, widen "
            "CUDA_VISIBLE_DEVICES, or choose a budget with fewer GPUs"
        )
    patience = _Patience(wait_s, say or _say_on_stderr)
    folder = _lock_directory()
    with _open_lock(folder / "gate") as gate:
        while not _try_lock(gate):
            patience.wait(f"waiting for {count} GPU(s): others are ahead in the queue")
        while True:
            locks = _try_all(folder, [device.uuid for device in chosen], count)
            if locks:
                break
            patience.wait(f"waiting for {count} of {len(chosen)} GPU(s); {_holders(folder, chosen)}")
    for lock in locks.values():
        _write_holder(lock, label)
    return Lease(list(locks), list(locks.values()))


def holder(uuid: str) -> dict[str, Any] | None:
    """Who holds a GPU: pid, label and since when; None when it is free."""
    path = _lock_path(_lock_directory(), uuid)
    if not path.exists():
        return None
    with path.open("r+", encoding="utf-8") as lock:
        if _try_lock(lock):
            return None
        try:
            said = json.loads(lock.read())
        except ValueError:
            said = None
    return said if isinstance(said, dict) else {}


class _Patience:
    """Waits between attempts, says so now and then, and gives up in time."""

    def __init__(self, wait_s: float | None, say: Callable[[str], None]) -> None:
        self.started = time.monotonic()
        self.wait_s = wait_s
        self.say = say
        self.said_at: float | None = None

    def wait(self, message: str) -> None:
        now = time.monotonic()
        if self.wait_s is not None and now - self.started >= self.wait_s:
            raise LeaseTimeout(f"gave up after {self.wait_s:g} s {message}")
        if self.said_at is None or now - self.said_at >= REMIND_EVERY_S:
            self.say(message)
            self.said_at = now
        time.sleep(POLL_S)


def _say_on_stderr(message: str) -> None:
    print(f"longwatt: {message}", file=sys.stderr, flush=True)


def _nvml_devices() -> list[Device]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no library, no driver or no GPU: all mean none to lease
        return []
    try:
        return [_nvml_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _nvml_device(pynvml: ModuleType, index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB
    except pynvml.NVMLError:
        memory = None
    return Device(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_gib=memory,
    )


def _text(value: str | bytes) -> str:
    """Old bindings return bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _restrict(found: Sequence[Device], visible: str) -> list[Device]:
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    chosen: list[Device] = []
    for entry in entries:
        if entry.startswith("-"):  # CUDA ends the list at a negative index
            break
        device = _named(found, entry)
        if device in chosen:
            raise GpuError(f"CUDA_VISIBLE_DEVICES={visible} names {entry} twice; CUDA would then show no device")
        chosen.append(device)
    return chosen


def _named(found: Sequence[Device], entry: str) -> Device:
    if entry.startswith("MIG-"):
        return Device(entry, None, "MIG slice", None)
    if entry.isdecimal():
        return _by_index(found, int(entry))
    matching = [device for device in found if device.uuid.startswith(entry)]
    if len(matching) != 1:
        problem = "matches several GPUs" if matching else "is not here"
        raise GpuError(f"CUDA_VISIBLE_DEVICES names {entry}, which {problem}; here: {_known(found)}")
    return matching[0]


def _by_index(found: Sequence[Device], index: int) -> Device:
    if len({device.name for device in found}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise GpuError(
            "CUDA_VISIBLE_DEVICES holds indices and this machine has different GPU models, so CUDA's order "
            "(fastest first) is not NVML's; set CUDA_DEVICE_ORDER=PCI_BUS_ID or name GPUs by UUID"
        )
    if index >= len(found):
        raise GpuError(f"CUDA_VISIBLE_DEVICES names GPU {index}, which is not here; here: {_known(found)}")
    return found[index]


def _known(found: Sequence[Device]) -> str:
    return ", ".join(f"{device.index}: {device.uuid}" for device in found) or "none"


def _lock_directory() -> Path:
    """Node-local and private to the user; not TMPDIR, which differs between one user's jobs on a node."""
    path = Path(os.environ.get("LONGWATT_LEASE_DIR") or f"/tmp/longwatt-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise GpuError(
            f"{path} must be a directory of yours that others cannot write to (no link); remove it, or set "
            "LONGWATT_LEASE_DIR to another on a local disk"
        )
    return path


def _lock_path(folder: Path, uuid: str) -> Path:
    return folder / uuid.replace("/", "_")  # old MIG ids hold slashes


def _open_lock(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")


def _try_lock(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_all(folder: Path, uuids: Sequence[str], count: int) -> dict[str, TextIO] | None:
    """`count` locks, or none of them."""
    taken: dict[str, TextIO] = {}
    for uuid in uuids:
        lock = _open_lock(_lock_path(folder, uuid))
        if _try_lock(lock):
            taken[uuid] = lock
        else:
            lock.close()
        if len(taken) == count:
            return taken
    for lock in taken.values():
        lock.close()
    return None


def _write_holder(lock: TextIO, label: str) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(json.dumps({"pid": os.getpid(), "label": label, "since_s": time.time()}))
    lock.flush()


def _holders(folder: Path, devices: Sequence[Device]) -> str:
    held: dict[str, int] = {}
    for device in devices:
        try:
            said = json.loads(_lock_path(folder, device.uuid).read_text(encoding="utf-8"))
            name = f"process {said['pid']}" + (f" ({said['label']})" if said.get("label") else "")
        except (OSError, ValueError, TypeError, KeyError):
            name = "an unknown process"
        held[name] = held.get(name, 0) + 1
    return "last held by " + ", ".join(f"{name}: {count}" for name, count in held.items())


def _rows() -> Iterator[dict[str, Any]]:
    for device in list_devices():
        yield {**asdict(device), "held_by": holder(device.uuid)}


def _print_list(as_json: bool) -> int:
    rows = list(_rows())
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    if not rows:
        print("no GPU is visible here (no NVIDIA driver, or CUDA_VISIBLE_DEVICES hides all)")
    for row in rows:
        memory = "NA" if row["memory_gib"] is None else f"{row['memory_gib']:.1f} GiB"
        index = "-" if row["index"] is None else row["index"]
        print(f"{index}  {row['uuid']}  {row['name']}  {memory}  {_use(row['held_by'])}")
    return 0


def _use(said: dict[str, Any] | None) -> str:
    if said is None:
        return "free"
    label = f" ({said['label']})" if said.get("label") else ""
    return f"held by process {said.get('pid', 'unknown')}{label}"


def _exec_with_lease(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise GpuError("no command; write it after --")
    taken = lease(arguments.count, wait_s=arguments.wait_s, label=arguments.label or command[0])
    taken.keep_across_exec()
    os.environ.update(taken.environ())
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"longwatt: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m longwatt.gpus", description="List or lease this machine's GPUs.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="print every visible GPU and who holds it")
    listing.add_argument("--json", action="store_true", help="print JSON")
    leasing = verbs.add_parser("lease", help="run a command on GPUs that nobody else leases meanwhile")
    leasing.add_argument("--count", type=_count, required=True, help="how many GPUs, all or none")
    leasing.add_argument("--wait-s", type=float, help="longest wait in seconds (default: for ever; 0: try once)")
    leasing.add_argument("--label", default="", help="told to others who wait (default: the command)")
    leasing.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring. Exit 75: not free in time; 2: cannot be had."""
    parsed = _parser().parse_args(arguments)
    try:
        return _print_list(parsed.json) if parsed.verb == "list" else _exec_with_lease(parsed)
    except LeaseTimeout as error:
        print(f"longwatt: {error}", file=sys.stderr)
        return TEMPORARY_FAILURE
    except GpuError as error:
        print(f"longwatt: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
