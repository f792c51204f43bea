"""Leases of GPUs, with a stand-in driver: no GPU is needed."""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longwatt.gpus import leases, listing

LIBRARY = Path(leases.__file__).parents[2]
GIB = 2**30
FAKE_PYNVML = '''
"""Stands in for the driver's library; FAKE_NVML says what it finds."""
import json, os

NVML_ERROR_NO_PERMISSION, NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND = 4, 9, 12
open_sessions = 0

class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(f"NVML error {value}")
        self.value = value

class Memory:
    def __init__(self, total):
        self.total = total

def found():
    return json.loads(os.environ["FAKE_NVML"])

def nvmlInit():
    global open_sessions
    if found().get("init_error"):
        raise NVMLError(found()["init_error"])
    open_sessions += 1

def nvmlShutdown():
    global open_sessions
    open_sessions -= 1

def nvmlDeviceGetCount():
    return len(found()["gpus"])

def nvmlDeviceGetHandleByIndex(index):
    gpu = found()["gpus"][index]
    if gpu.get("error"):
        raise NVMLError(gpu["error"])
    return gpu

def nvmlDeviceGetUUID(gpu):
    return gpu["uuid"].encode() if found().get("bytes") else gpu["uuid"]

def nvmlDeviceGetName(gpu):
    return gpu["name"].encode() if found().get("bytes") else gpu["name"]

def nvmlDeviceGetMemoryInfo(gpu):
    if gpu["memory"] is None:
        raise NVMLError(3)
    return Memory(gpu["memory"])
'''


def uuid(number: int) -> str:
    return f"GPU-{number:02d}aaaaaa-0000-0000-0000-000000000000"


def gpu(number: int, name: str = "H100", memory: int | None = 80 * GIB, **more) -> dict:
    return {"uuid": uuid(number), "name": name, "memory": memory, **more}


class Machine:
    """A machine with stand-in GPUs, for this process and for those it starts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leases = folder / "leases"
        self.patch = monkeypatch
        modules = folder / "modules"
        modules.mkdir()
        (modules / "pynvml.py").write_text(FAKE_PYNVML)
        monkeypatch.syspath_prepend(str(modules))
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        monkeypatch.setenv("PYTHONPATH", f"{modules}{os.pathsep}{LIBRARY}")
        monkeypatch.setenv("LONGWATT_LEASE_DIR", str(self.leases))
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
            monkeypatch.delenv(name, raising=False)
        self.has([gpu(number) for number in range(4)])

    def has(self, found: list[dict], **more) -> None:
        self.patch.setenv("FAKE_NVML", json.dumps({"gpus": found, **more}))

    def shows(self, visible: str) -> None:
        self.patch.setenv("CUDA_VISIBLE_DEVICES", visible)

    def start(self, *arguments: str) -> subprocess.Popen:
        command, pipe = [sys.executable, "-m", "longwatt.gpus", *arguments], subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "longwatt.gpus", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    @contextlib.contextmanager
    def held_by_another(self, count: int, label: str = "other"):
        """`count` GPUs leased by a process of its own, which ends with the block."""
        given = ("--count", str(count), "--label", label)
        process = self.start("lease", *given, "--", "sh", "-c", "echo ready; exec sleep 60")
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def seen() -> list[str]:
    return [device.uuid for device in listing.list_devices()]


def silent(_message: str) -> None:
    pass


# The machine's devices


def test_all_devices_are_listed_in_the_drivers_order_and_the_driver_is_let_go(machine):
    machine.has([gpu(1), gpu(0, "A100", 40 * GIB)])
    assert listing.list_devices() == [
        listing.Gpu(uuid(1), 0, "H100", 80.0),
        listing.Gpu(uuid(0), 1, "A100", 40.0),
    ]
    assert sys.modules["pynvml"].open_sessions == 0


def test_names_of_old_bindings_are_decoded(machine):
    machine.has([gpu(0)], bytes=True)
    assert listing.list_devices() == [listing.Gpu(uuid(0), 0, "H100", 80.0)]


def test_memory_that_cannot_be_read_is_none(machine):
    machine.has([gpu(0, memory=None)])
    assert listing.list_devices()[0].memory_gib is None


@pytest.mark.parametrize("error", [9, 12], ids=["no driver", "no library"])
def test_without_a_driver_there_are_no_devices(machine, error):
    machine.has([], init_error=error)
    machine.shows("0")
    assert listing.list_devices() == []


def test_without_the_package_there_are_no_devices(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert listing.list_devices() == []


def test_a_broken_driver_is_an_error_and_not_a_machine_without_gpus(machine):
    machine.has([], init_error=18)
    with pytest.raises(listing.GpuError, match="nvidia-smi"):
        listing.list_devices()


def test_a_lost_gpu_is_an_error_and_the_driver_is_let_go(machine):
    machine.has([gpu(0), gpu(1, error=15)])
    with pytest.raises(listing.GpuError, match="NVML error 15"):
        listing.list_devices()
    assert sys.modules["pynvml"].open_sessions == 0


def test_a_gpu_that_is_not_given_to_this_job_is_left_out(machine):
    machine.has([gpu(0, error=4), gpu(1)])
    assert listing.list_devices() == [listing.Gpu(uuid(1), 1, "H100", 80.0)]


# An outer CUDA_VISIBLE_DEVICES


CHOICES = {
    "2": [2], "2, 0": [2, 0], "": [], "-1": [], "-7,0": [], "1,-1,99": [1], "1,,2": [1],
    "NoDevFiles": [], uuid(3): [3], "GPU-01,GPU-03a": [1, 3], f"{uuid(1)},0": [1, 0],
}  # fmt: skip


@pytest.mark.parametrize(("visible", "expected"), CHOICES.items())
def test_the_outer_variable_chooses_devices_as_in_cuda(machine, visible, expected):
    machine.shows(visible)
    assert seen() == [uuid(number) for number in expected]


def test_mig_slices_are_kept_as_they_are_named(machine):
    slices = ["MIG-5c1ab2f0-0000-0000-0000-000000000000", f"MIG-{uuid(0)}/1/0"]
    machine.shows(",".join(slices))
    assert seen() == slices
    assert {(device.index, device.memory_gib) for device in listing.list_devices()} == {
        (None, None)
    }
    with leases.lease(2, wait_s=0) as lease:
        assert lease.uuids == slices
        assert leases.holder(slices[1]).pid == os.getpid()


@pytest.mark.parametrize("visible", ["4", "GPU-77", "gpu0", "0x1", "H100"])
def test_a_device_that_is_not_there_is_named_beside_those_that_are(machine, visible):
    machine.shows(visible)
    with pytest.raises(listing.GpuError) as caught:
        listing.list_devices()
    assert visible in str(caught.value)
    assert all(uuid(number) in str(caught.value) for number in range(4))


def test_an_ambiguous_abbreviation_is_refused(machine):
    machine.shows("GPU-0")
    with pytest.raises(listing.GpuError, match="GPU-0, which fits several GPUs"):
        listing.list_devices()


def test_a_device_named_twice_is_refused(machine):
    machine.shows(f"1,{uuid(1)}")
    with pytest.raises(listing.GpuError, match=f"names {uuid(1)} twice"):
        listing.list_devices()


def test_indices_of_different_models_need_the_pci_order(machine, monkeypatch):
    machine.has([gpu(0, "T4"), gpu(1, "H100")])
    machine.shows("0")
    with pytest.raises(listing.GpuError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        listing.list_devices()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert seen() == [uuid(0)]


@pytest.mark.parametrize("visible", [None, uuid(1), "-1"])
def test_different_models_are_fine_without_indices(machine, visible):
    machine.has([gpu(0, "T4"), gpu(1, "H100")])
    if visible is not None:
        machine.shows(visible)
    listing.list_devices()


# Leases


def test_a_lease_shows_its_gpus_and_gives_them_back(machine):
    with leases.lease(2, wait_s=0, label="cell") as lease:
        shown = {"CUDA_VISIBLE_DEVICES": f"{uuid(0)},{uuid(1)}", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        assert lease.environ() == shown
        assert (leases.holder(uuid(0)).pid, leases.holder(uuid(0)).label) == (os.getpid(), "cell")
        assert leases.holder(uuid(2)) is None
    assert leases.holder(uuid(0)) is None
    lease.close()


def test_no_gpu_is_a_lease_too(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with leases.lease(0) as lease:
        assert lease.environ()["CUDA_VISIBLE_DEVICES"] == ""
        assert lease.uuids == []
    assert not machine.leases.exists()


def test_leases_never_share_a_gpu(machine):
    with leases.lease(1, wait_s=0) as first, leases.lease(3, wait_s=0) as second:
        assert sorted(first.uuids + second.uuids) == [uuid(number) for number in range(4)]


def test_a_lease_chooses_among_visible_devices_only(machine):
    machine.shows("3,1")
    with leases.lease(2, wait_s=0) as lease:
        assert lease.uuids == [uuid(3), uuid(1)]


def test_a_lease_chooses_among_given_devices_only(machine):
    device = listing.Gpu("GPU-elsewhere", 0, "H100", None)
    with leases.lease(1, wait_s=0, devices=[device, device]) as lease:
        assert lease.uuids == ["GPU-elsewhere"]
    with pytest.raises(listing.GpuError, match=r"2 GPU\(s\) wanted, 1 visible"):
        leases.lease(2, devices=[device, device])


def test_more_than_there_are_fails_at_once(machine):
    began = time.monotonic()
    with pytest.raises(listing.GpuError, match=r"5 GPU\(s\) wanted, 4 visible") as caught:
        leases.lease(5)
    assert not isinstance(caught.value, leases.LeaseTimeout)
    assert time.monotonic() - began < 1


def test_a_negative_number_is_refused(machine):
    with pytest.raises(listing.GpuError, match="ask for 0 or more"):
        leases.lease(-1)


def test_a_failed_request_keeps_nothing(machine):
    with leases.lease(1, wait_s=0):
        with pytest.raises(leases.LeaseTimeout):
            leases.lease(4, wait_s=0, say=silent)
        assert [leases.holder(uuid(number)) for number in (1, 2, 3)] == [None] * 3
        leases.lease(3, wait_s=0).close()


def test_a_timeout_comes_in_time_and_says_who_holds_what(machine):
    with machine.held_by_another(3, "long cell") as other:
        began = time.monotonic()
        with pytest.raises(leases.LeaseTimeout) as caught:
            leases.lease(2, wait_s=0.8, say=silent)
        assert 0.7 < time.monotonic() - began < 3
    said = str(caught.value)
    assert f"process {other.pid} 'long cell' since 20" in said
    assert all(uuid(number) in said for number in range(3))
    assert uuid(3) not in said


def test_who_waits_says_so_once_and_then_now_and_then(machine, monkeypatch):
    said: list[str] = []
    with machine.held_by_another(4, "long cell"):
        with pytest.raises(leases.LeaseTimeout):
            leases.lease(1, wait_s=1.5, say=said.append)
        assert len(said) == 1
        assert "waiting for 1 of 4" in said[0]
        assert "'long cell'" in said[0]
        monkeypatch.setattr(leases, "REMIND_S", 0.3)
        with pytest.raises(leases.LeaseTimeout):
            leases.lease(1, wait_s=1.5, say=said.append)
    assert len(said) > 3


def test_who_waits_behind_another_request_says_who_is_ahead(machine):
    with machine.held_by_another(1):
        large = machine.start("lease", "--count", "4", "--label", "large", "--", "true")
        assert "3 kept for this request" in large.stderr.readline()
        ahead = f"ahead in the queue: process {large.pid} 'large'"
        with pytest.raises(leases.LeaseTimeout, match=ahead):
            leases.lease(1, wait_s=0, say=silent)
        large.kill()
        large.communicate()
        leases.lease(3, wait_s=0).close()


def test_a_request_over_other_gpus_is_not_held_up(machine):
    machine.shows("0,1")
    with machine.held_by_another(2):
        waiting = machine.start("lease", "--count", "1", "--", "true")
        assert "waiting" in waiting.stderr.readline()
        machine.shows("2,3")
        leases.lease(2, wait_s=0).close()
        waiting.kill()
        waiting.communicate()


def test_a_large_request_is_served_before_small_ones_that_come_later(machine, tmp_path):
    order = tmp_path / "order"
    with machine.held_by_another(1):
        large = machine.start("lease", "--count", "4", "--", "sh", "-c", f"echo large >> {order}")
        assert "waiting" in large.stderr.readline()
        small = machine.start("lease", "--count", "1", "--", "sh", "-c", f"echo small >> {order}")
        assert "ahead in the queue" in small.stderr.readline()
    large.communicate(timeout=20)
    small.communicate(timeout=20)
    assert order.read_text().split() == ["large", "small"]


def test_a_killed_holder_frees_its_gpus(machine):
    with machine.held_by_another(4) as other:
        other.kill()
        other.wait()
        leases.lease(4, wait_s=0).close()


def test_a_child_that_was_given_the_locks_keeps_the_gpus(machine):
    lease = leases.lease(1, wait_s=0)
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=lease.descriptors) as child:
        lease.close()
        assert leases.holder(uuid(0)) is not None
        child.communicate(b"\n")
    assert leases.holder(uuid(0)) is None


GARBAGE = [b"", b"\xff\xfe\x00", b"[1, 2]", b'{"pid": "x"}', b"null", b"[" * 10_000]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_lock_file_with_garbage_is_tolerated(machine, content):
    machine.has([gpu(0)])
    with machine.held_by_another(1):
        (lock,) = machine.leases.glob("*.lock")
        lock.write_bytes(content)
        unknown = "held by a process that left no readable record"
        with pytest.raises(leases.LeaseTimeout, match=unknown):
            leases.lease(1, wait_s=0, say=silent)
        assert "no readable record" in machine.run("list").stdout
    with leases.lease(1, wait_s=0):
        assert leases.holder(uuid(0)).pid == os.getpid()


def test_a_lock_file_that_was_removed_meanwhile_is_not_a_lease(machine, monkeypatch):
    machine.has([gpu(0)])
    flock, removed = leases.fcntl.flock, []

    def remove_first(descriptor, kind):
        for path in [] if removed else machine.leases.glob("*.lock"):
            path.unlink()
            removed.append(path)
        flock(descriptor, kind)

    monkeypatch.setattr(leases.fcntl, "flock", remove_first)
    with leases.lease(1, wait_s=0):
        assert removed
        assert leases.holder(uuid(0)).pid == os.getpid()


# Where the locks are


def test_the_folder_of_the_locks_is_private_and_made_when_needed(machine):
    leases.lease(1, wait_s=0).close()
    assert machine.leases.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in machine.leases.iterdir()} == {0o600}


def test_the_default_folder_is_the_same_for_all_jobs_of_a_user(machine, monkeypatch, tmp_path):
    monkeypatch.delenv("LONGWATT_LEASE_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(leases.Path, "mkdir", lambda path, **_: made.append(path))
    monkeypatch.setattr(leases.Path, "lstat", lambda _: tmp_path.stat())
    made: list[Path] = []
    leases.holder("GPU-none")
    assert made == [Path(f"/tmp/longwatt-{os.getuid()}")]


@pytest.mark.parametrize("kind", ["link", "file", "mode"])
def test_a_folder_that_others_could_have_made_is_refused(machine, kind):
    if kind == "link":
        (machine.leases.parent / "elsewhere").mkdir(mode=0o700)
        machine.leases.symlink_to(machine.leases.parent / "elsewhere")
    elif kind == "file":
        machine.leases.write_text("")
    else:
        machine.leases.mkdir()
        machine.leases.chmod(0o777)
    with pytest.raises(listing.GpuError, match=r"leases cannot hold GPU locks.*LONGWATT_LEASE_DIR"):
        leases.lease(1)


def test_another_users_folder_is_refused(machine, monkeypatch):
    machine.leases.mkdir(mode=0o700)
    monkeypatch.setattr(leases.os, "getuid", lambda: 12345678)
    with pytest.raises(listing.GpuError, match="a directory of yours"):
        leases.lease(1)


def test_a_link_in_place_of_a_lock_is_refused(machine, tmp_path):
    leases.lease(4, wait_s=0).close()
    for lock in machine.leases.glob("*.lock"):
        lock.unlink()
        lock.symlink_to(tmp_path / "target")
    with pytest.raises(listing.GpuError, match="cannot hold GPU locks"):
        leases.lease(1)
    assert not (tmp_path / "target").exists()


# The command line


def test_list_prints_every_device_and_who_holds_it(machine):
    machine.has([gpu(0), gpu(1, memory=None)])
    with machine.held_by_another(1, "a cell") as other:
        done = machine.run("list")
    first, second = done.stdout.splitlines()
    held = f"held by process {other.pid} 'a cell' since "
    assert first.startswith(f"0  {uuid(0)}  H100  80.0 GiB  {held}")
    assert second == f"1  {uuid(1)}  H100  NA  free"
    assert done.returncode == 0


def test_list_prints_json(machine):
    with machine.held_by_another(1, "a cell") as other:
        rows = json.loads(machine.run("list", "--json").stdout)
    assert rows[0]["held_by"]["pid"] == other.pid
    assert rows[0]["held_by"]["label"] == "a cell"
    expected = {"uuid": uuid(1), "index": 1, "name": "H100", "memory_gib": 80.0, "held_by": None}
    assert rows[1] == expected


def test_list_without_devices_says_so(machine):
    machine.has([], init_error=12)
    done = machine.run("list")
    assert done.stdout.startswith("no GPU is visible here")
    assert done.returncode == 0
    assert json.loads(machine.run("list", "--json").stdout) == []


def test_a_command_runs_on_its_gpus_and_its_exit_code_is_the_leases(machine):
    code = "echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER; exit 7"
    done = machine.run("lease", "--count", "2", "--", "sh", "-c", code)
    assert done.stdout == f"{uuid(0)},{uuid(1)} PCI_BUS_ID\n"
    assert done.returncode == 7


def test_a_command_on_no_gpu_sees_none(machine):
    done = machine.run("lease", "--count", "0", "--", "sh", "-c", 'echo "[$CUDA_VISIBLE_DEVICES]"')
    assert done.stdout == "[]\n"


def test_a_command_may_hold_options_and_dashes_of_its_own(machine):
    done = machine.run("lease", "--count", "1", "--", "echo", "--count", "9", "--", "-x")
    assert done.stdout == "--count 9 -- -x\n"


def test_a_signal_is_the_commands_own(machine):
    with machine.held_by_another(1) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


def test_a_command_dies_of_a_closed_pipe_as_it_would_alone(machine):
    script = "yes | head -1; exit ${PIPESTATUS[0]}"
    done = machine.run("lease", "--count", "1", "--", "bash", "-c", script)
    assert done.returncode == 128 + signal.SIGPIPE


def test_a_command_holds_the_locks_of_its_gpus_and_no_gate(machine):
    done = machine.run("lease", "--count", "2", "--", "sh", "-c", "ls -l /proc/$$/fd")
    lines = [line for line in done.stdout.splitlines() if str(machine.leases) in line]
    held = [line.split(" -> ")[1] for line in lines]
    assert len(held) == 2
    assert not [path for path in held if "gate" in Path(path).name]


def test_no_free_gpu_in_time_is_exit_75(machine):
    with machine.held_by_another(4, "a cell"):
        done = machine.run("lease", "--count", "1", "--wait-s", "0", "--", "true")
    assert done.returncode == 75
    assert "'a cell'" in done.stderr
    assert "ask for fewer" in done.stderr


def test_too_many_gpus_is_exit_2(machine):
    done = machine.run("lease", "--count", "9", "--", "true")
    assert done.returncode == 2
    assert "9 GPU(s) wanted, 4 visible" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_does_not_exist_is_exit_127(machine):
    done = machine.run("lease", "--count", "1", "--", "no-such-command-here")
    assert done.returncode == 127
    assert "no-such-command-here: No such file" in done.stderr


def test_a_command_that_cannot_run_is_exit_126(machine, tmp_path):
    assert machine.run("lease", "--count", "1", "--", str(tmp_path)).returncode == 126


@pytest.mark.parametrize(
    "arguments",
    [("--count", "1"), ("--count", "1", "--"), ("--count", "-1", "--", "true"), ("--", "true")],
)
def test_an_incomplete_command_line_is_exit_2(machine, arguments):
    done = machine.run("lease", *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_an_interrupted_wait_ends_without_a_traceback(machine):
    with machine.held_by_another(4):
        waiting = machine.start("lease", "--count", "1", "--", "true")
        assert "waiting" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=10)[1] == ""
    assert waiting.returncode == 130


# All at once

CLIENT = """
import os, signal, sys, time
from longwatt.gpus import leases, listing

count, hold_s, kill, log = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "kill", sys.argv[4]
devices = [listing.Gpu(f"GPU-{n}", n, "H100", None) for n in range(8)]
out = open(log, "a", buffering=1)
sys.stdin.read()  # until the test closes the pipe: all start together
lease = leases.lease(count, devices=devices, say=lambda message: None)
began = time.monotonic()
time.sleep(hold_s)
# Written before the end, so that a record is never longer than the truth.
print(*lease.uuids, began, time.monotonic(), file=out)
if kill:
    os.kill(os.getpid(), signal.SIGKILL)
lease.close()
"""


def read_intervals(folder: Path) -> dict[str, list[tuple[float, float]]]:
    intervals: dict[str, list[tuple[float, float]]] = {}
    for log in folder.glob("*.log"):
        *uuids, began, ended = log.read_text().split()
        for name in uuids:
            intervals.setdefault(name, []).append((float(began), float(ended)))
    return intervals


def test_a_crowd_with_many_killed_never_shares_a_gpu_and_all_are_served(machine, tmp_path):
    draw = random.Random(7)
    counts = draw.choices([1, 2, 8], weights=[6, 3, 1], k=150)
    kills = draw.choices(["kill", "end"], weights=[1, 2], k=150)
    processes = []
    barrier, starter = os.pipe()
    for number, (count, kill) in enumerate(zip(counts, kills, strict=True)):
        hold_s, log = f"{draw.uniform(0.005, 0.15):.3f}", str(tmp_path / f"{number}.log")
        command = [sys.executable, "-S", "-c", CLIENT, str(count), hold_s, kill, log]
        processes.append(subprocess.Popen(command, stdin=barrier))
    os.close(starter)
    os.close(barrier)
    deadline = time.monotonic() + 60
    codes = [process.wait(timeout=max(0.1, deadline - time.monotonic())) for process in processes]
    assert codes == [-signal.SIGKILL if kill == "kill" else 0 for kill in kills]
    intervals = read_intervals(tmp_path)
    assert sum(map(len, intervals.values())) == sum(counts)
    for name, used in intervals.items():
        used.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(used)), name
    assert [leases.holder(f"GPU-{n}") for n in range(8)] == [None] * 8
