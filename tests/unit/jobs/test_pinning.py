"""Cores of their own for jobs on the CPU: leased, bound and given back."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from longwatt import processes
from longwatt.gpus import leases
from longwatt.jobs import pinning

CORES = sorted(os.sched_getaffinity(0))
HOLDER = """
import sys, time
from longwatt.jobs import pinning
with pinning.own_cores(int(sys.argv[1]), "held", lambda line: print(line, flush=True)) as cores:
    print(*cores, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_leases(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGWATT_LEASE_DIR", str(tmp_path / "leases"))
    for name in (pinning.PIN_VARIABLE, *pinning.BOUND_BY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pinning, "LOOK_S", 0.01)
    monkeypatch.setattr(processes, "CGROUPS", tmp_path)


@pytest.fixture
def four(monkeypatch):
    """A machine of four cores that nobody uses."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(pinning, "_busy_cores", set)


@contextlib.contextmanager
def taken(threads: int):
    said: list[str] = []
    with pinning.own_cores(threads, "x", said.append) as cores:
        yield cores, said


def test_jobs_have_cores_of_their_own_and_give_them_back(four):
    with taken(1) as (one, said), taken(2) as (two, _):
        assert (one, two, said) == ((0,), (1, 2), [])
        with taken(2) as (none, why):
            assert none == () and why == ["not pinned to cores: fewer than 2 of 4 cores are free"]
        with taken(1) as (last, _):
            assert last == (3,), "what too large a request held is free again"
    with taken(4) as (all_, _):
        assert all_ == (0, 1, 2, 3)


def test_a_job_on_gpus_takes_no_core_and_says_nothing(four):
    with taken(0) as (cores, said):
        assert cores == () and said == [] and not leases.lock_folder().joinpath("x").exists()
    assert list(leases.lock_folder().iterdir()) == []


def test_a_core_is_free_once_its_job_is_killed():
    command = [sys.executable, "-c", HOLDER, "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        held = int(job.stdout.readline())
        with taken(len(CORES)) as (cores, _):
            assert cores == ()
        job.send_signal(signal.SIGKILL)
    with taken(len(CORES)) as (cores, said):
        assert list(cores) == CORES and held in cores and said == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (pinning.PIN_VARIABLE, "no"),
        (pinning.PIN_VARIABLE, "No"),
        (pinning.PIN_VARIABLE, "cluster"),
        ("OMP_PROC_BIND", "close"),
        ("OMP_PLACES", "cores"),
        ("GOMP_CPU_AFFINITY", "0-3"),
        ("KMP_AFFINITY", "verbose,compact"),
    ],
)
def test_who_binds_otherwise_is_left_alone(monkeypatch, name, word):
    monkeypatch.setenv(name, word)
    with taken(1) as (cores, said):
        assert cores == () and said == [f"not pinned to cores: {name} is {word}"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("OMP_PROC_BIND", "FALSE"),
        ("KMP_AFFINITY", "none"),
        ("KMP_AFFINITY", "disabled"),
        ("KMP_AFFINITY", "verbose, none"),
    ],
)
def test_words_that_bind_no_threads_leave_jobs_pinned(four, monkeypatch, name, word):
    monkeypatch.setenv(name, word)
    with taken(1) as (cores, said):
        assert cores == (0,) and said == []


@pytest.mark.parametrize("word", ["yes", "1", "nn"])
def test_a_word_that_turns_nothing_off_pins_and_is_named(four, monkeypatch, word):
    monkeypatch.setenv(pinning.PIN_VARIABLE, word)
    with taken(1) as (cores, said):
        assert cores == (0,)
    assert said == [f"LONGWATT_PIN is {word}, which says nothing: no would leave jobs unbound"]


def test_a_quota_of_time_gives_no_cores(four, tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("150000 100000\n")
    with taken(1) as (cores, said):
        assert cores == ()
    assert said == [
        "not pinned to cores: a quota gives 1.5 of 4 cores in time, no cores of its own"
    ]
    for text in ("max 100000\n", "400000 100000\n"):
        quota.write_text(text)
        with taken(1) as (cores, said):
            assert cores == (0,) and said == []


def test_a_folder_without_leases_leaves_a_job_unpinned_and_says_so(tmp_path, monkeypatch):
    (tmp_path / "leases").write_text("no folder")
    with taken(1) as (cores, said):
        assert cores == () and len(said) == 1
        assert said[0].startswith("not pinned to cores: ") and "LONGWATT_LEASE_DIR" in said[0]


def test_physical_cores_come_before_their_siblings_and_idle_ones_first(tmp_path, monkeypatch):
    monkeypatch.setattr(pinning, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(pinning, "_busy_cores", set)
    for core in range(4):
        (tmp_path / f"cpu{core}" / "topology").mkdir(parents=True)
        siblings = "0-1" if core < 2 else "2-3"
        (tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    assert pinning.preferred({0, 1, 2, 3}) == [0, 2, 1, 3]
    assert pinning.preferred({1, 2, 3, 9}) == [1, 2, 9, 3], "a core of unknown topology is whole"
    monkeypatch.setattr(pinning, "_busy_cores", lambda: {0, 2})
    assert pinning.preferred({0, 1, 2, 3}) == [1, 3, 0, 2]


def test_busy_cores_are_those_that_were_not_idle_meanwhile(tmp_path, monkeypatch):
    def times(first: str, second: str) -> str:
        return (
            f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {first} 0 0 0 0 0\ncpu1 {second} 0 0 0 0 0\nintr 1\n"
        )

    (tmp_path / "stat").write_text(times("100 0 0 100", "0 0 50 100"))
    monkeypatch.setattr(pinning, "CORE_TIMES", tmp_path / "stat")
    after = times("109 0 0 101", "0 0 51 109")
    monkeypatch.setattr(pinning.time, "sleep", lambda s: (tmp_path / "stat").write_text(after))
    assert pinning._busy_cores() == {0}
    monkeypatch.setattr(pinning, "CORE_TIMES", tmp_path / "none")
    assert pinning._busy_cores() == set()


def test_a_process_says_the_cores_that_it_is_bound_to():
    code = (
        "import os; from longwatt.jobs import pinning; pinning.bind([int(os.environ['CORE'])]); "
        "print(pinning.bound_cores(os.environ), len(os.sched_getaffinity(0)))"
    )
    core = CORES[-1]
    for leased, said in ((core, f"{core} 1"), (core + 1, "no 1"), ("", "no 1")):
        given = {**os.environ, "CORE": str(core), **pinning.core_environment([leased])}
        done = subprocess.run(
            [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == said


def test_cores_that_are_gone_bind_nothing():
    before = os.sched_getaffinity(0)
    pinning.bind([10**4])
    pinning.bind([])
    assert os.sched_getaffinity(0) == before and pinning.bound_cores({}) == "no"
