"""A job's log, its lease, its workers, and the record of its failure."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bench.stand_in_gpus import STAND_IN

from longwatt.energy.reduction.reduce import summarize_log
from longwatt.gpus import leases
from longwatt.jobs.launch import _end
from longwatt.jobs.waiting import DECIDED_BY
from longwatt.processes import RUN_VARIABLE, children, identified, started
from tests.conftest import wait_for
from tests.nvml import AVERAGE, FakeGpu, uuid

WORKER = """
import contextlib, os, sys, time
from longwatt.jobs import distributed
from longwatt.jobs.waiting import DECIDED_BY
from longwatt.jobs.worker import run_worker

def work(spec):
    rank = distributed.rank()
    sees = os.environ["CUDA_VISIBLE_DEVICES"]
    print(f"worker {rank} of {distributed.world_size()} sees {sees}", flush=True)
    os.system(f"echo a child of {rank}")
    waits = {name: value for name, value in os.environ.items() if name in DECIDED_BY}
    print(f"waits {waits}", flush=True)
    bound = sorted(os.sched_getaffinity(0))
    print(f"bound to {bound}, leased {os.environ['LONGWATT_CORES']!r}", flush=True)
    open(f"{spec.paths['out']}/pid{rank}", "w").write(str(os.getpid()))
    if spec.settings["then"] == "fail":
        raise ValueError("no luck")
    if spec.settings["then"] == "fail1":
        if rank == 1:
            raise ValueError("no luck")
        raise RuntimeError("Connection closed by peer")  # what gloo says to those who are left
    if spec.settings["then"] == "wait":
        time.sleep(600)
    if spec.settings["then"] == "work":
        marker = spec.marker()
        marker.mark("load", attempt=1, step=0)
        marker.mark("train", attempt=1, step=0)
        time.sleep(1.5)
        marker.mark("finish", attempt=1, step=9)

if __name__ == "__main__":
    # Stand-in GPUs: none for torch to see, none for NCCL to use.
    import longwatt.jobs.worker
    longwatt.jobs.worker._processes = lambda spec: contextlib.nullcontext()
    longwatt.jobs.worker._check_devices = lambda spec: None
    run_worker(work)
"""
JOB = """
import os, sys
from longwatt.jobs import launch, log

if __name__ == "__main__":
    out, count, then = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with log.logged(f"{out}/job.log", f"{out}/work/failure.json"):
        print("the job itself")
        launch.run_workers(
            "stand_in_worker",
            spec={
                "settings": {"then": then, "budget": {"gpus": count}},
                "paths": {"out": out}, "identity": {}, "provenance": {},
            },
            threads=int(os.environ.get("THREADS", "2")), work=f"{out}/work", label="cell x",
            energy_log=f"{out}/energy.jsonl.gz",
            wait_s=60 if then == "waits long" else 2,
        )
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a job with stand-in GPUs."""
    for name, text in (("pynvml", STAND_IN), ("stand_in_worker", WORKER), ("stand_in_job", JOB)):
        (tmp_path / f"{name}.py").write_text(text)
    more = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "LONGWATT_LEASE_DIR": str(tmp_path / "leases"),
        "STAND_IN_GPUS": "GPU-a=x,GPU-b=x",
    }
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("LONGWATT_LEASE_DIR", more["LONGWATT_LEASE_DIR"])

    def run(count: int, then: str = "end", out: Path = tmp_path) -> subprocess.Popen:
        environment = {**os.environ, **more}
        command = [sys.executable, "-m", "stand_in_job", str(out), str(count), then]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return run


def test_workers_see_their_lease_and_the_log_holds_everything(start, tmp_path):
    job = start(2)
    _, said = job.communicate()
    log = (tmp_path / "job.log").read_text()
    assert job.returncode == 0, said + log
    workers = [f"worker {number} of 2 sees GPU-a,GPU-b" for number in (0, 1)]
    for line in ("the job itself", *workers, "a child of 1"):
        assert line in log
    assert not (tmp_path / "work/failure.json").exists()
    found = summarize_log([tmp_path / "energy.jsonl.gz"])
    assert [gpu["uuid"] for gpu in _headers(tmp_path)[-1]["gpus"]] == ["GPU-a", "GPU-b"]
    assert {"idle_before", "load"} <= {interval["phase"] for interval in found["timeline"]}
    assert any("GPU-b was not metered" in problem for problem in found["problems"]), (
        "the stand-in has no sensors"
    )


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "PASSIVE"}])
def test_threads_of_workers_sleep_while_they_wait_unless_the_user_decided(
    start, tmp_path, monkeypatch, given
):
    for name in DECIDED_BY:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert start(0).wait() == 0
    assert f"waits {given or {'GOMP_SPINCOUNT': '10000'}}" in (tmp_path / "job.log").read_text()


def test_only_workers_are_bound_to_the_cores_of_their_job(start, tmp_path, monkeypatch):
    monkeypatch.setenv("THREADS", "1")
    everywhere = psutil.Process().cpu_affinity()
    with start(0, "wait") as job:
        wait_for((tmp_path / "pid0").exists, "the worker")
        worker = psutil.Process(int((tmp_path / "pid0").read_text()))
        (core,) = worker.cpu_affinity()
        others = [job.pid, *(pid for pid in children(job.pid) if pid != worker.pid)]
        assert len(others) > 1, "the recorder is there"
        assert all(psutil.Process(pid).cpu_affinity() == everywhere for pid in others)
        name = f"core-{core}"
        assert "cell x" in str(leases.holder(name)) and leases.holder("core-999") is None
        job.kill()
    assert f"bound to [{core}], leased '{core}'" in (tmp_path / "job.log").read_text()
    wait_for(lambda: leases.holder(name) is None, "the lease to end with the job")


@pytest.mark.parametrize(("count", "given"), [(1, ""), (0, "cluster")])
def test_jobs_on_gpus_and_on_a_cluster_are_bound_to_nothing(
    start, tmp_path, monkeypatch, count, given
):
    monkeypatch.setenv("LONGWATT_PIN", given)
    assert start(count).wait() == 0
    log = (tmp_path / "job.log").read_text()
    assert f"bound to {psutil.Process().cpu_affinity()}, leased ''" in log
    assert ("not pinned to cores: LONGWATT_PIN is cluster" in log) == (count == 0)


def test_a_job_whose_recorder_cannot_start_goes_on_and_says_so(start, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif any('energy.recorder' in argument for argument in sys.orig_argv):\n"
        "    raise SystemExit('broken')\n"
    )
    job = start(0)
    _, said = job.communicate()
    assert job.returncode == 0 and "the energy recorder does not run" in said
    found = summarize_log([tmp_path / "energy.jsonl.gz"])
    assert any("its recorder did not run" in problem for problem in found["problems"])
    assert found["energy_source"] == "none" and found["timeline"]


def test_every_run_has_a_log_of_its_own_and_all_are_kept(start, tmp_path):
    assert start(0, "fail").wait() == 1
    assert not (tmp_path / "energy.jsonl.gz").exists()
    (tmp_path / "work/energy/.1.jsonl.1.gz.123.part").write_text("a kill left this")
    assert start(0).wait() == 0
    headers = _headers(tmp_path)
    assert len(headers) == 2 and headers[0]["label"] == "cell x"
    assert headers[0]["segment"] != headers[1]["segment"]


def test_leased_gpus_are_metered_and_packed_jobs_never_count_each_other_s(
    start, machine, tmp_path, monkeypatch
):
    (tmp_path / "pynvml.py").unlink()  # the real one, on the stand-in for the driver's library
    machine.has([FakeGpu(high=300, **AVERAGE), FakeGpu(uuid=uuid(1), high=200, **AVERAGE)])
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "second").mkdir()
    jobs = [start(1, "work"), start(1, "work", tmp_path / "second")]
    assert [job.wait(60) for job in jobs] == [0, 0], (tmp_path / "job.log").read_text()
    found = [
        summarize_log([folder / "energy.jsonl.gz"]) for folder in (tmp_path, tmp_path / "second")
    ]
    assert sorted(gpu for job in found for gpu in job["gpus"]) == [uuid(0), uuid(1)]
    for job in found:
        watts = 300 if uuid(0) in job["gpus"] else 200
        assert job["energy_source"] == "nvml_counter" and job["problems"] == []
        assert {"idle_before", "load", "idle_after"} <= set(job["phases"])
        assert job["phases"]["idle_after"]["duration_s"] == pytest.approx(2, abs=1)
        assert job["energy_j"] == pytest.approx(watts * job["duration_s"], abs=0.3 * watts)
        assert job["duration_s"] > 1


def _headers(tmp_path: Path) -> list[dict]:
    with gzip.open(tmp_path / "energy.jsonl.gz", "rt") as stream:
        return [json.loads(line) for line in stream if '"segment"' in line]


def test_one_worker_is_alone_whatever_an_outer_launcher_said(start, tmp_path, monkeypatch):
    for name, value in (("RANK", "3"), ("LOCAL_RANK", "3"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    job = start(1)
    _, said = job.communicate()
    assert job.returncode == 0, said
    assert "worker 0 of 1 sees GPU-a\n" in (tmp_path / "job.log").read_text()


def test_a_failure_is_said_recorded_and_kept_in_the_log(start, tmp_path):
    job = start(0, "fail")
    _, said = job.communicate()
    assert job.returncode == 1
    assert "cell x: FAILED: ValueError: no luck" in said
    assert f"cell x: see {tmp_path}/job.log" in said
    assert "no luck" in (tmp_path / "job.log").read_text()
    record = json.loads((tmp_path / "work/failure.json").read_text())
    assert record["message"] == "ValueError: no luck" and record["log"].endswith("job.log")
    assert start(0, "end").wait() == 0
    assert not (tmp_path / "work/failure.json").exists(), "a success ends the failure"


def test_more_gpus_than_there_are_is_said(start, tmp_path):
    job = start(3)
    _, said = job.communicate()
    assert job.returncode == 1 and "3 GPU(s) wanted, 2 visible here" in said


def alive(tmp_path: Path) -> list[int]:
    pids = [int(path.read_text() or 0) for path in tmp_path.glob("pid*")]
    return [pid for pid in pids if pid and _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    try:
        return any("stand_in_worker" in word for word in psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:  # a zombie included, in some versions
        return False


def test_workers_die_with_a_killed_job_and_free_its_gpus(start, tmp_path):
    job = start(2, "wait")
    wait_for(lambda: len(alive(tmp_path)) == 2, "two workers", 40)
    job.kill()
    job.wait()
    wait_for(lambda: not alive(tmp_path), "the workers to end", 10)
    again = start(2)
    assert again.wait() == 0, again.stderr.read()
    log = (tmp_path / "job.log").read_text()
    assert log.count("the job itself") == 2, "what the killed attempt printed stays"


def test_what_a_killed_attempt_printed_outlives_a_log_that_snakemake_removes(start, tmp_path):
    log = tmp_path / "job.log"
    assert start(0, "fail").wait() == 1
    log.unlink()
    assert start(0, "fail").wait() == 1
    log.unlink()
    assert start(0).wait() == 0
    assert log.read_text().count("the job itself") == 3 and log.read_text().count("no luck") >= 2
    assert start(0).wait() == 0
    assert log.read_text().count("the job itself") == 1, "after a success a new log begins"


def test_an_orphan_that_still_runs_is_ended_by_the_next_attempt(start, tmp_path):
    orphan = start(0, "wait")
    wait_for(lambda: len(alive(tmp_path)) == 1, "a worker", 40)
    assert start(0).wait() == 0
    assert orphan.wait(10) != 0
    assert "still runs; ending it" in (tmp_path / "job.log").read_text()


def test_a_worker_that_is_killed_leaves_a_message(start, tmp_path):
    job = start(0, "wait")
    wait_for(lambda: alive(tmp_path), "a worker", 40)
    os.kill(alive(tmp_path)[0], 9)
    _, said = job.communicate()
    assert job.returncode == 1 and "a worker died without a message" in said


def test_when_one_of_several_workers_is_killed_all_end_and_the_job_has_failed(start, tmp_path):
    job = start(2, "wait")
    wait_for(lambda: len(alive(tmp_path)) == 2, "two workers", 40)
    os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
    _, said = job.communicate()
    assert job.returncode == 1 and "FAILED: one of 2 workers died without a message" in said
    wait_for(lambda: not alive(tmp_path), "the other worker to end", 10)
    assert (tmp_path / "work/failure.json").exists()
    assert start(2).wait() == 0, "its GPUs are free again"


def test_several_workers_are_asked_to_end_when_their_job_is(start, tmp_path):
    job = start(2, "wait")
    wait_for(lambda: len(alive(tmp_path)) == 2, "two workers", 40)
    # As Slurm signals every process. Its recorder does not mind either.
    for launcher in children(job.pid):
        os.kill(launcher, signal.SIGTERM)
    time.sleep(2)
    assert len(alive(tmp_path)) == 2, "the launcher leaves it to the workers"
    job.terminate()
    _, said = job.communicate()
    assert job.returncode == 1 and "cell x: stopped by SIGTERM" in said and "FAILED" not in said
    assert not alive(tmp_path) and not (tmp_path / "work/failure.json").exists()


def test_of_several_workers_the_one_with_the_reason_is_believed(start, tmp_path):
    job = start(2, "fail1")
    _, said = job.communicate()
    assert job.returncode == 1 and "cell x: FAILED: ValueError: no luck" in said


def test_a_job_that_waits_for_gpus_says_that_it_was_stopped(start, tmp_path):
    (tmp_path / "first").mkdir()
    holder = start(2, "wait", tmp_path / "first")
    wait_for(lambda: len(alive(tmp_path / "first")) == 2, "two workers", 40)
    job = start(1, "waits long")
    wait_for(lambda: "held by" in _text(tmp_path / "job.log"), "a job that waits", 40)
    job.terminate()
    _, said = job.communicate(timeout=20)
    assert "cell x: stopped by SIGTERM" in said and not (tmp_path / "work/failure.json").exists()
    holder.kill()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_the_lock_of_a_dead_process_is_nobody_s(start, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/lock").write_text('{"pid": 1, "started": 1, "host": "a node that is gone"}')
    assert start(0).wait() == 0


def test_work_that_another_living_run_asked_for_is_left_alone(start, tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, identified(os.getpid()))
    job = start(0, "wait")
    wait_for(lambda: alive(tmp_path), "a worker", 40)
    with subprocess.Popen(["sleep", "600"]) as other:
        monkeypatch.setenv(RUN_VARIABLE, identified(other.pid))
        second = start(0)
        _, said = second.communicate(timeout=40)
        assert second.returncode == 1 and "whose Snakemake still runs" in said
        assert job.poll() is None and alive(tmp_path)
        monkeypatch.setenv(RUN_VARIABLE, identified(os.getpid()))
        assert start(0).wait(60) == 0, "a run may end its own earlier attempt"
        assert job.wait(10) == -signal.SIGKILL
        other.kill()


def test_a_terminated_job_ends_its_workers(start, tmp_path):
    job = start(0, "wait")
    wait_for(lambda: alive(tmp_path), "a worker", 40)
    job.terminate()
    _, said = job.communicate()
    assert job.returncode != 0
    wait_for(lambda: not alive(tmp_path), "the workers to end", 10)
    assert "cell x: stopped by SIGTERM; the next run goes on from what is saved" in said
    assert "FAILED" not in said
    assert not (tmp_path / "work/failure.json").exists(), "to be asked to end is no failure"


def test_an_interrupted_job_is_no_failed_one_and_ends_an_earlier_failure(start, tmp_path):
    assert start(0, "fail").wait() == 1
    job = start(0, "wait")
    wait_for(lambda: alive(tmp_path), "a worker", 40)
    assert not (tmp_path / "work/failure.json").exists(), "a new attempt has not failed"
    job.send_signal(signal.SIGINT)
    _, said = job.communicate()
    assert "cell x: stopped by Ctrl-C; the next run goes on from what is saved (of a train" in said
    assert not (tmp_path / "work/failure.json").exists()


def test_a_number_that_now_belongs_to_another_process_is_left_alone():
    with subprocess.Popen(["sleep", "60"]) as other:
        _end(other.pid, started(other.pid) - 1)
        assert other.poll() is None
        _end(other.pid, started(other.pid))
        assert other.wait(5) == -signal.SIGKILL
    assert started(other.pid) is None
    _end(other.pid, None)  # there is nobody to end


TOLD = """
import os, subprocess, sys
from longwatt.jobs import log
from longwatt.progress import say

if sys.argv[1] == "job":
    with log.logged("job.log"):
        say("from the job, " + "long " * 4000)
        subprocess.run([sys.executable, __file__, "worker"], check=True)
elif sys.argv[1] == "worker":
    say("from a worker")
else:  # as Snakemake, which keeps the descriptor that the shell opened
    for number in (1, 2):
        os.write(2, b"before %d\\n" % number)
        subprocess.run([sys.executable, __file__, "job"], check=True)
        os.write(2, b"after %d\\n" % number)
"""


def test_progress_and_its_snakemake_share_a_file_that_output_is_sent_to(tmp_path):
    script, log = tmp_path / "told.py", tmp_path / "log"
    script.write_text(TOLD)
    with log.open("wb") as stream:  # as `> log 2>&1`: without append
        command = [sys.executable, script, "watcher"]
        subprocess.run(command, cwd=tmp_path, stdout=stream, stderr=stream, check=True)
    said = "longwatt: from the job, " + "long " * 4000
    each = [f"before {n}\n{said}\nlongwatt: from a worker\nafter {n}\n" for n in (1, 2)]
    assert log.read_text() == "".join(each)
