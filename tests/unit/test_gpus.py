"""Leases: concrete GPUs, one holder each, freed by the kernel."""

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

from longwatt import gpus
from longwatt.gpus import Device, GpuError, LeaseTimeout, lease, list_devices

# As much of pynvml as longwatt.gpus uses; the GPUs come from an environment variable: uuid=name,...
STAND_IN = """
import os

class NVMLError(Exception):
    pass

def _gpus():
    return [entry.split("=") for entry in os.environ.get("STAND_IN_GPUS", "").split(",") if entry]

def nvmlInit():
    if os.environ.get("STAND_IN_GPUS") == "broken":
        raise NVMLError("driver not loaded")

def nvmlShutdown():
    pass

def nvmlDeviceGetCount():
    return len(_gpus())

def nvmlDeviceGetHandleByIndex(index):
    return _gpus()[index]

def nvmlDeviceGetUUID(handle):
    return handle[0].encode()  # old bindings return bytes

def nvmlDeviceGetName(handle):
    return handle[1]

class _Memory:
    total = 48 * 2**30

def nvmlDeviceGetMemoryInfo(handle):
    if handle[1] == "odd":
        raise NVMLError("not supported")
    return _Memory
"""


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node with two stand-in GPUs and a lease directory of its own."""
    (tmp_path / "pynvml.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("LONGWATT_LEASE_DIR", str(tmp_path / "leases"))
    monkeypatch.setenv("STAND_IN_GPUS", "GPU-aa11=A6000,GPU-ab22=A6000")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    yield tmp_path
    sys.modules.pop("pynvml", None)


def uuids() -> list[str]:
    return [device.uuid for device in list_devices()]


def cli(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "longwatt.gpus", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_all_devices_without_an_outer_restriction(node):
    assert list_devices() == [Device("GPU-aa11", 0, "A6000", 48.0), Device("GPU-ab22", 1, "A6000", 48.0)]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("", []),
        ("-1", []),
        ("1", ["GPU-ab22"]),
        ("1,0", ["GPU-ab22", "GPU-aa11"]),
        ("1,-1,0", ["GPU-ab22"]),
        ("GPU-aa11", ["GPU-aa11"]),
        ("GPU-ab", ["GPU-ab22"]),
        ("MIG-7/1/0", ["MIG-7/1/0"]),
    ],
)
def test_an_outer_restriction_is_respected(node, monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert uuids() == found


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("7", "names GPU 7, which is not here; here: 0: GPU-aa11, 1: GPU-ab22"),
        ("GPU-zz", "names GPU-zz, which is not here"),
        ("GPU-a", "matches several"),
        ("0,0", "twice"),
    ],
)
def test_a_restriction_to_what_is_not_there_is_named(node, monkeypatch, visible, said):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(GpuError, match=said):
        list_devices()


def test_indices_on_a_mixed_node_need_a_stated_order(node, monkeypatch):
    monkeypatch.setenv("STAND_IN_GPUS", "GPU-1=A6000,GPU-2=odd")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(GpuError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        list_devices()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert list_devices() == [Device("GPU-2", 1, "odd", None)]


def test_without_a_driver_there_are_none(node, monkeypatch):
    monkeypatch.setenv("STAND_IN_GPUS", "broken")
    assert list_devices() == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert list_devices() == []


def test_a_lease_is_exclusive_and_ends_with_its_block(node):
    with lease(1, label="first") as one:
        assert one.environ() == {"CUDA_VISIBLE_DEVICES": "GPU-aa11", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        with lease(1) as two:
            assert two.uuids == ["GPU-ab22"]
            with pytest.raises(LeaseTimeout, match="waiting for 1 of 2"):
                lease(1, wait_s=0, say=print)
        held = gpus.holder("GPU-aa11")
        assert held["pid"] == os.getpid() and held["label"] == "first"
    assert gpus.holder("GPU-aa11") is None
    assert lease(2, wait_s=0).uuids == ["GPU-aa11", "GPU-ab22"]


def test_all_or_nothing(node):
    with lease(1):
        with pytest.raises(LeaseTimeout):
            lease(2, wait_s=0.1, say=print)
        assert lease(1, wait_s=0).uuids == ["GPU-ab22"], "the failed request kept nothing"


def test_none_shows_none(node):
    assert lease(0).environ()["CUDA_VISIBLE_DEVICES"] == ""


def test_more_than_there_are_is_refused_at_once(node):
    with pytest.raises(GpuError, match=r"3 GPU\(s\) wanted, 2 visible here"):
        lease(3)


def test_waiting_says_for_whom(node):
    said = []
    with lease(2, label="cell x"), pytest.raises(LeaseTimeout):
        lease(1, wait_s=0.2, say=said.append)
    assert len(said) == 1 and "(cell x): 2" in said[0]


def test_a_lock_file_full_of_rubbish_is_no_obstacle(node):
    lease(1).close()
    (node / "leases" / "GPU-aa11").write_bytes(b"\xff\xfe{")
    with lease(2):
        pass
    assert lease(1, wait_s=0).uuids == ["GPU-aa11"]


def test_an_unsafe_lock_directory_is_refused(node, monkeypatch):
    (node / "real").mkdir()
    (node / "link").symlink_to(node / "real")
    monkeypatch.setenv("LONGWATT_LEASE_DIR", str(node / "link"))
    with pytest.raises(GpuError, match="must be a directory of yours"):
        lease(1)
    (node / "open").mkdir()
    (node / "open").chmod(0o777)
    monkeypatch.setenv("LONGWATT_LEASE_DIR", str(node / "open"))
    with pytest.raises(GpuError, match="others cannot write"):
        lease(1)


def test_list_prints_every_gpu_and_its_holder(node):
    with lease(1, label="cell y"):
        said = cli("list").stdout.splitlines()
        found = json.loads(cli("list", "--json").stdout)
    assert f"held by process {os.getpid()} (cell y)" in said[0] and said[1].endswith("48.0 GiB  free")
    assert [row["held_by"] is None for row in found] == [False, True]


def test_list_without_gpus_says_so(node, monkeypatch):
    monkeypatch.setenv("STAND_IN_GPUS", "")
    done = cli("list")
    assert done.returncode == 0 and "no GPU is visible" in done.stdout


def test_a_command_runs_on_its_lease_and_returns_its_own_status(node):
    code = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(7)"
    done = cli("lease", "--count", "2", "--", sys.executable, "-c", code)
    assert (done.stdout.strip(), done.returncode) == ("GPU-aa11,GPU-ab22", 7)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--count", "3", "--", "true"), 2, "2 visible here"),
        (("--count", "1", "--", "no-such-command"), 127, "no-such-command"),
        (("--count", "1"), 2, "write it after --"),
        (("--count", "-1", "--", "true"), 2, "must be 0 or more"),
    ],
)
def test_wrong_use_of_the_command_line(node, arguments, status, said):
    done = cli("lease", *arguments)
    assert done.returncode == status and said in done.stderr


def test_a_command_that_waits_too_long_leaves_with_75(node):
    with lease(2):
        done = cli("lease", "--count", "1", "--wait-s", "0.2", "--", "true")
    assert done.returncode == 75 and "gave up after 0.2 s" in done.stderr


def test_a_killed_commands_lease_is_free_at_once(node):
    command = [sys.executable, "-m", "longwatt.gpus", "lease", "--count", "2", "--", "sleep", "60"]
    running = subprocess.Popen(command)
    deadline = time.monotonic() + 20
    while gpus.holder("GPU-ab22") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert len(lease(2, wait_s=1).uuids) == 2


# Takes a lease, writes down when, holds it for a while, writes down when it ended. A client that is killed
# leaves no end: its lease ended at the latest when the killer saw it dead.
CLIENT = """
import sys, time
from longwatt.gpus import Device, lease
count, hold, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
devices = [Device(f"GPU-{n}", n, "x", 1.0) for n in range(8)]
taken = lease(count, devices=devices, wait_s=60, say=lambda message: None)
with open(path, "a", buffering=1) as out:
    out.write(f"{','.join(taken.uuids)} {time.monotonic()}\\n")
    time.sleep(hold)
    out.write(f"{time.monotonic()}\\n")
taken.close()
"""


def test_no_gpu_ever_has_two_holders_whatever_is_killed(node):
    source = random.Random(1)
    (node / "client.py").write_text(CLIENT)
    waiting = [(source.choice([1, 1, 1, 2, 8]), source.uniform(0, 0.06), node / f"c{n}") for n in range(120)]
    doomed = {path for n, (_, _, path) in enumerate(waiting) if n % 3 == 0}
    running, died = {}, {}
    while waiting or running:
        while waiting and len(running) < 12:
            count, hold, path = waiting.pop()
            hold = 60 if path in doomed else hold
            arguments = [sys.executable, str(node / "client.py"), str(count), str(hold), str(path)]
            running[path] = subprocess.Popen(arguments)
        for path, process in list(running.items()):
            if path in doomed and path.exists() and path.read_text().endswith("\n"):
                time.sleep(source.uniform(0, 0.03))
                process.send_signal(signal.SIGKILL)
                process.wait()
                died[path] = time.monotonic()
            if process.poll() is not None:
                assert path in died or process.returncode == 0
                del running[path]
        time.sleep(0.01)
    assert_disjoint([interval(path, died) for path in node.glob("c[0-9]*")])
    assert len(died) == len(doomed)
    assert len(lease(8, devices=[Device(f"GPU-{n}", n, "x", 1.0) for n in range(8)], wait_s=0).uuids) == 8


def interval(path: Path, died: dict[Path, float]) -> tuple[list[str], float, float, bool]:
    lines = path.read_text().splitlines()
    names, start = lines[0].split(" ")
    killed = path in died
    return names.split(","), float(start), died[path] if killed else float(lines[1]), killed


def assert_disjoint(found: list[tuple[list[str], float, float, bool]]) -> None:
    assert len(found) == 120
    for gpu in (f"GPU-{n}" for n in range(8)):
        held = sorted((start, end, killed) for names, start, end, killed in found if gpu in names)
        for (_, end, killed), (start, _, _) in itertools.pairwise(held):
            # A killed holder's end is only known from when it was seen dead, a little later.
            assert start >= end - (0.05 if killed else 0), gpu
