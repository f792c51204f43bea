"""Machines without a GPU: RAPL, of a job that runs alone, and CPU time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from longwatt.energy.meters.rapl import Rapl
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.processes import cpu_seconds, identified, is_alive, started
from tests.conftest import wait_for


class Powercap:
    """A folder like /sys/class/powercap: two packages with memory, and what must not be counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        zones = {
            "intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram",
            "intel-rapl:1": "package-1", "intel-rapl:2": "psys",
        }  # fmt: skip
        for zone, name in zones.items():
            (folder / zone).mkdir(parents=True)
            (folder / zone / "name").write_text(name + "\n")
            (folder / zone / "max_energy_range_uj").write_text("262143328850\n")
            self.says(zone, 1000)

    def says(self, zone: str, microjoules: int) -> None:
        (self.folder / zone / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGWATT_POWERCAP", str(tmp_path / "powercap"))
    monkeypatch.setenv("LONGWATT_LEASE_DIR", str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Powercap(tmp_path / "powercap")


def test_packages_and_memory_are_read_and_their_parts_are_not(powercap):
    rapl = Rapl()
    assert [zone.split()[1] for zone in rapl.zones] == ["package-0", "dram", "package-1"]
    powercap.says("intel-rapl:0", 5000)
    assert rapl.energies_uj() == [5000, 1000, 1000] and rapl.ranges_uj == [262143328850] * 3


def test_a_second_job_is_never_billed_for_the_node(powercap):
    first = Rapl()
    second = Rapl()
    assert second.zones == []
    assert "another metered job of this node runs" in second.reason
    assert first.others_were_refused()
    del first
    third = Rapl()
    assert third.zones and third.others_were_refused(), "the second still runs"
    del second, third
    fourth = Rapl()
    assert fourth.zones and not fourth.others_were_refused()


def test_who_was_refused_under_another_boot_shares_nothing(powercap, tmp_path):
    (tmp_path / "leases").mkdir(mode=0o700)
    (tmp_path / "leases/rapl.others").write_text(f"another-boot {10**18}")
    assert not Rapl().others_were_refused()


def test_counters_that_only_root_may_read_are_no_counters(powercap, monkeypatch):
    # Tests may run as root.
    monkeypatch.setattr("longwatt.energy.meters.rapl._readable", lambda path: False)
    assert Rapl().zones == [] and "root only" in Rapl().reason


def record(out: Path, *command: str) -> subprocess.Popen:
    meter = [sys.executable, "-m", "longwatt.energy", "record", "--out", str(out), "--"]
    return subprocess.Popen([*meter, *command], stderr=subprocess.PIPE)


def runs(log: Path) -> bool:
    return log.exists() and '"mark":"run"' in log.read_text()


@pytest.mark.parametrize("watts", [None, 10.0])
def test_of_jobs_at_the_same_time_none_is_billed_for_the_node(powercap, tmp_path, watts):
    jobs = [record(tmp_path / f"{n}.jsonl", "sleep", "4") for n in range(2)]
    for n in range(2):
        wait_for(lambda n=n: runs(tmp_path / f"{n}.jsonl"), "both to run")
    time.sleep(0.5)
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        powercap.says(zone, 30_001_000)
    assert [job.wait(30) for job in jobs] == [0, 0]
    found = [summarize_log([tmp_path / f"{n}.jsonl"], watts) for n in range(2)]
    source = "none" if watts is None else "estimate"
    assert [(one["energy_source"], one["measured"]) for one in found] == [(source, False)] * 2
    said = sorted(problem for one in found for problem in one["problems"])
    assert "another metered job of this node runs" in said[0] and "is left out" in said[1]
    # Each has slept, whatever the other and the node did.
    assert all(one["energy_j"] is None if watts is None else one["energy_j"] < 20 for one in found)


def test_a_job_killed_beside_another_is_not_billed_for_the_node_either(powercap, tmp_path):
    first = record(tmp_path / "0.jsonl", "sleep", "60")
    wait_for(lambda: runs(tmp_path / "0.jsonl"), "it to run")
    second = record(tmp_path / "1.jsonl", "sleep", "60")
    wait_for(lambda: "rapl_shared" in (tmp_path / "0.jsonl").read_text(), "it to notice the other")
    for job in (first, second):
        commands = psutil.Process(job.pid).children()
        job.kill()
        for command in commands:  # they hold the pipes open for as long as they live
            command.kill()
        job.communicate()
    lines = (tmp_path / "0.jsonl").read_text().splitlines()
    (tmp_path / "0.jsonl").write_text("\n".join(line for line in lines if '"end"' not in line))
    found = summarize_log([tmp_path / "0.jsonl"])
    assert (found["energy_j"], found["energy_source"]) == (None, "none")


def test_estimates_of_jobs_at_the_same_time_count_each_its_own_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGWATT_POWERCAP", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    burn = "from time import *\nt = process_time()\nwhile process_time() - t < {}: pass\nsleep(2)"
    jobs = [
        record(tmp_path / f"{n}.jsonl", sys.executable, "-c", burn.format(seconds))
        for n, seconds in enumerate((1, 3))
    ]
    assert [job.wait(60) for job in jobs] == [0, 0]
    joules = [summarize_log([tmp_path / f"{n}.jsonl"], 10.0)["energy_j"] for n in range(2)]
    assert 9 < joules[0] < 20 and 29 < joules[1] < 42


def test_a_job_alone_has_the_node_s_energy_by_phase(powercap, tmp_path):
    script = f"sleep 1; {sys.executable} -m longwatt.energy mark two; sleep 1"
    job = record(tmp_path / "a.jsonl", "sh", "-c", script)
    wait_for(lambda: runs(tmp_path / "a.jsonl"), "it to run")
    time.sleep(0.5)
    powercap.says("intel-rapl:0", 50_001_000)
    assert job.wait(30) == 0
    found = summarize_log([tmp_path / "a.jsonl"])
    assert found["measured"] and found["energy_j"] == pytest.approx(50) and found["problems"] == []
    assert sum(phase["energy_j"] for phase in found["phases"].values()) == pytest.approx(50)


def test_cpu_time_counts_children_that_live_and_those_that_ended():
    burn = "from time import *\nt = process_time()\nwhile process_time() - t < .4: pass"
    code = (
        f"import subprocess, sys, time; burn = {burn!r}\n"
        "subprocess.run([sys.executable, '-c', burn])\n"
        "child = subprocess.Popen([sys.executable, '-c', burn + '\\ntime.sleep(30)'])\n"
        "time.sleep(2); print('ready', flush=True); time.sleep(30)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        assert 0.5 <= cpu_seconds(process.pid) < 1.6
    finally:
        subprocess.run(["pkill", "-P", str(process.pid)])
        process.kill()
        process.communicate()
    assert cpu_seconds(process.pid) is None


def test_an_estimate_covers_every_process_of_the_job(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGWATT_POWERCAP", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    burn = "from time import *\nt = process_time()\nwhile process_time() - t < 1: pass"
    script = f"{sys.executable} -c '{burn}'; {sys.executable} -c '{burn}'"
    assert record(tmp_path / "a.jsonl", "sh", "-c", script).wait(60) == 0
    found = summarize_log([tmp_path / "a.jsonl"], 10.0)
    assert found["energy_source"] == "estimate" and 18 < found["energy_j"] < 40


def test_a_process_that_was_not_waited_for_still_counts_and_keeps_its_start():
    process = subprocess.Popen(
        [sys.executable, "-c", "t = __import__('time').process_time\nwhile t() < .3: pass"]
    )
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, "it to end")
    name = identified(process.pid)
    assert cpu_seconds(process.pid) > 0.2 and is_alive(name)
    process.wait()
    assert cpu_seconds(process.pid) is None and not is_alive(name) and started(process.pid) is None


def test_a_number_that_belongs_to_another_process_now_is_not_alive():
    host, pid, since = identified(os.getpid()).rsplit(":", 2)
    assert is_alive(f"{host}:{pid}:{since}")
    assert not is_alive(f"{host}:{pid}:{int(since) - 1}") and not is_alive(f"other:{pid}:{since}")


def test_cpu_time_agrees_with_psutil():
    assert cpu_seconds(os.getpid()) == pytest.approx(sum(psutil.Process().cpu_times()[:4]), abs=0.1)
