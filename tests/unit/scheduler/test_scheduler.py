"""Which ready jobs start: urgency, GPUs held back, and never a deadlock."""

import heapq
import random
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_scheduler_plugins.registry import SchedulerPluginRegistry

from longwatt.plan import urgency
from snakemake_scheduler_plugin_longwatt import Scheduler, SchedulerSettings
from snakemake_scheduler_plugin_longwatt.policy import Need, choose

FREE = {"_cores": 17, "gpu": 8, "_job_count": 2**63 - 1}


def need(priority, gpu=0, cores=1, **more) -> Need:
    return Need(priority, {"_cores": cores, "gpu": gpu, "_job_count": 1, **more})


def test_snakemake_finds_the_scheduler_by_its_name():
    assert SchedulerPluginRegistry().get_plugin("longwatt").scheduler is Scheduler


def test_the_most_urgent_start_and_what_fits_beside_them():
    needs = [need(1, gpu=1), need(9, gpu=4), need(5, gpu=2), need(7, gpu=2), need(4, gpu=1)]
    assert choose(needs, FREE) == [1, 3, 2]
    assert choose(needs, {**FREE, "gpu": 7}) == [1, 3]  # the last one is held for the job of two


@pytest.mark.parametrize(("cores", "cells"), [(2, 2), (8, 7)])
def test_short_jobs_never_wait_behind_cells_on_the_cpu(cores, cells):
    """A score takes a cell's place on a small machine, and the free core of a larger one."""
    free = {"_cores": cores, "gpu": 0, "on_cpu": cells}
    waiting = [need(urgency.of_cell(0, 100.0, trained=False), on_cpu=1)] * 20
    score = need(urgency.REDUCTION, on_cpu=0)
    assert len(choose(waiting, free)) == cells
    chosen = choose([*waiting, score], free)
    assert chosen[0] == 20 and len(chosen) == 1 + min(cells, cores - 1)
    running = {"_cores": cores - cells, "gpu": 0, "on_cpu": 0}
    assert choose([*waiting, score], running) == ([20] if cores > cells else [])


def test_free_gpus_are_held_for_a_ready_job_that_needs_more():
    needs = [need(5, gpu=1), need(9, gpu=8), need(3)]
    assert choose(needs, {**FREE, "gpu": 7}) == [2]  # the job without a GPU goes on
    assert choose(needs, FREE) == [1, 2]


def test_of_the_cores_only_the_share_of_the_free_gpus_is_held():
    wide, narrow = need(9, gpu=8, cores=16), need(5, gpu=0, cores=2)
    assert choose([wide, narrow], {"_cores": 10, "gpu": 4}) == [1]
    assert choose([wide, narrow], {"_cores": 9, "gpu": 4}) == []
    assert (
        choose([wide, narrow], {"_cores": 15, "gpu": 8}) == []
    )  # only cores are missing now: all are held


def test_what_a_ready_job_leaves_is_not_held():
    needs = [need(9, gpu=4), need(5, gpu=1), need(4, gpu=4)]
    assert choose(needs, {**FREE, "gpu": 3}) == []
    assert choose(needs, {"_cores": 3, "gpu": 8}) == [0, 1]
    assert choose([need(9, gpu=4, cores=4), need(5, gpu=4)], {"_cores": 3, "gpu": 8}) == []


def test_narrower_jobs_give_way_to_a_coming_one_and_others_do_not():
    coming = need(9, gpu=8)
    assert choose([need(5, gpu=1), need(1)], FREE, coming) == [1]
    assert choose([need(5, gpu=8), need(4, gpu=1)], FREE, coming) == [0]
    assert choose([need(10, gpu=1), need(8, gpu=1)], FREE, coming) == [0]
    half = need(9, gpu=4)
    assert choose([need(5 - i, gpu=1) for i in range(8)], FREE, half) == [0, 1, 2, 3]


def test_resources_without_a_limit_or_a_number_do_not_count():
    needs = [
        need(2, gpu=8, tmpdir="/tmp", slurm_partition="long", mem_mb=10**9),
        need(1, licence=None),
    ]
    assert choose(needs, {"_cores": 4}) == [0, 1]
    assert choose(needs, {"_cores": 4, "licence": 1}) == [0, 1]
    assert choose([need(1, gpu="many")], FREE) == [0]


def test_every_limit_is_respected():
    needs = [need(5, gpu=1, licence=1), need(4, gpu=1, licence=1), need(3)]
    assert choose(needs, {**FREE, "licence": 1}) == [0, 2]
    assert choose([need(1), need(1), need(1)], {**FREE, "_job_count": 2}) == [0, 1]


@dataclass
class Simulation:
    """Jobs of random lengths that become ready at random times, on 8 GPUs and 12 cores."""

    source: random.Random
    total: dict[str, int] = field(default_factory=lambda: {"_cores": 12, "gpu": 8})

    def jobs(self) -> list[tuple[float, float, Need]]:
        """(ready at, seconds, need)."""
        draw = self.source
        return [
            (
                draw.uniform(0, 60),
                draw.uniform(0.1, 9),
                need(draw.randint(0, 9), draw.choice([0, 1, 1, 1, 4, 8])),
            )
            for _ in range(60)
        ]

    def run(self) -> list[tuple[float, float, float, Need]]:
        """(ready at, start, end, need) of every job."""
        arriving = sorted(self.jobs(), key=lambda job: job[0])
        free, ready, running, done = dict(self.total), [], [], []
        while arriving or ready or running:
            now = min([job[0] for job in arriving[:1]] + [end for end, *_ in running[:1]])
            while running and running[0][0] <= now:
                for name, amount in heapq.heappop(running)[2].items():
                    free[name] += amount
            while arriving and arriving[0][0] <= now:
                ready.append(arriving.pop(0))
            chosen = [ready[place] for place in choose([job[2] for job in ready], free)]
            assert chosen or running or not ready, "a deadlock"
            for job in chosen:
                taken = {name: job[2].resources[name] for name in free}
                free = {name: free[name] - taken[name] for name in free}
                assert min(free.values()) >= 0
                heapq.heappush(running, (now + job[1], id(job), taken))
                done.append((job[0], now, now + job[1], job[2]))
                ready.remove(job)
        return done


@pytest.mark.parametrize("seed", range(20))
def test_a_job_of_all_gpus_waits_for_no_job_that_starts_after_it_could_have(seed):
    done = Simulation(random.Random(seed)).run()
    assert len(done) == 60
    for ready, start, _, mine in done:
        if mine.resources["gpu"] == 8:
            overtaking = [
                other
                for _, began, _, other in done
                if ready < began < start
                and other.resources["gpu"]
                and other.priority < mine.priority
            ]
            assert not overtaking


def test_thousands_of_ready_jobs_cost_milliseconds():
    needs = [need(n % 977, gpu=n % 3) for n in range(5000)]
    start = time.perf_counter()
    choose(needs, FREE)
    assert time.perf_counter() - start < 0.5  # 0.01 s where it was written


@dataclass(eq=False)
class Job:
    """As much of Snakemake's job as the scheduler asks for."""

    name: str
    priority: int
    gpu: int = 0
    after: tuple["Job", ...] = ()

    @property
    def resources(self) -> dict[str, Any]:
        return {"_cores": 1, "gpu": self.gpu}

    scheduler_resources = resources
    rule = property(lambda self: SimpleNamespace(resources=self.resources))
    output = property(lambda self: [self.name])

    def is_group(self) -> bool:
        return False


class Dag:
    """As much of Snakemake's graph as the scheduler asks for."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs, self.done = jobs, set()
        self.workflow = SimpleNamespace(scheduler=SimpleNamespace(running=set(), _open_jobs=None))
        self.workflow.scheduler._open_jobs = SimpleNamespace(release=lambda: None)

    def needrun_jobs(self):
        return [job for job in self.jobs if job not in self.done]

    def job_dependencies(self, job):
        return job.after


DATA = Job("data", 100)
WIDE = Job("wide", 9, 8, (DATA,))
NARROW = Job("narrow", 5, 1)


def selected(dag: Dag, ready: list[Job], running=(), failed=(), patience_s=600) -> list[str]:
    dag.workflow.scheduler.running = set(running)
    remaining = [job for job in dag.needrun_jobs() if job not in {*running, *failed}]
    scheduler = Scheduler(dag, SchedulerSettings(patience_s=patience_s), None)
    return [job.name for job in scheduler.select_jobs(ready, remaining, FREE, {})]


def test_gpus_wait_for_a_wide_job_whose_data_are_being_made():
    dag = Dag(DATA, WIDE, NARROW)
    assert selected(dag, [DATA, NARROW]) == ["data"]
    assert selected(dag, [NARROW], running=[DATA]) == []
    dag.done.add(DATA)
    assert selected(dag, [NARROW, WIDE]) == ["wide"]


def test_gpus_do_not_wait_for_a_wide_job_that_cannot_come():
    assert selected(Dag(DATA, WIDE, NARROW), [NARROW], failed=[DATA]) == ["narrow"]
    after_narrow = Job("wide", 9, 8, (NARROW,))
    assert selected(Dag(NARROW, after_narrow), [NARROW]) == ["narrow"]
    assert selected(Dag(DATA, WIDE, NARROW), [NARROW], running=[DATA], patience_s=0) == ["narrow"]


def test_a_wide_job_that_runs_is_awaited_no_more():
    dag = Dag(DATA, WIDE, NARROW)
    dag.done.add(DATA)
    assert selected(dag, [NARROW], running=[WIDE]) == ["narrow"]


class Group(Job):
    """A group job: ready, running or failed as one."""

    jobs = property(lambda self: [DATA])

    def is_group(self) -> bool:
        return True


def test_the_jobs_of_a_running_group_are_alive():
    dag = Dag(DATA, WIDE, NARROW)
    dag.workflow.scheduler.running = {Group("group", 100)}
    scheduler = Scheduler(dag, SchedulerSettings(), None)
    assert scheduler.select_jobs([NARROW], [WIDE, NARROW], FREE, {}) == []


def test_snakemake_is_asked_to_look_again_when_patience_ends():
    dag, asked = Dag(DATA, WIDE, NARROW), threading.Event()
    dag.workflow.scheduler._open_jobs.release = asked.set
    dag.workflow.scheduler.running = {DATA}
    scheduler = Scheduler(dag, SchedulerSettings(patience_s=0.1), None)
    assert scheduler.select_jobs([NARROW], [WIDE, NARROW], FREE, {}) == []
    assert asked.wait(10)
    assert scheduler.select_jobs([NARROW], [WIDE, NARROW], FREE, {}) == [NARROW]


def test_patience_counts_from_when_a_gpu_was_first_withheld_and_for_each_job_anew():
    slow, late = Job("slow data", 100), Job("more data", 101)
    first, second = Job("first", 9, 8, (slow,)), Job("second", 8, 8, (late,))
    dag = Dag(slow, late, first, second, NARROW)
    dag.workflow.scheduler.running = {slow, late}
    scheduler = Scheduler(dag, SchedulerSettings(patience_s=0.3), None)
    assert scheduler.select_jobs([], [first, second, NARROW], FREE, {}) == []
    time.sleep(0.4)
    assert scheduler.select_jobs([NARROW], [first, second, NARROW], FREE, {}) == [], (
        "nothing was withheld before"
    )
    time.sleep(0.2)
    dag.done.add(slow)
    dag.workflow.scheduler.running = {late, first}
    assert scheduler.select_jobs([NARROW], [second, NARROW], FREE, {}) == []
    time.sleep(0.2)
    assert scheduler.select_jobs([NARROW], [second, NARROW], FREE, {}) == [], (
        "another job, another wait"
    )
    time.sleep(0.2)
    assert scheduler.select_jobs([NARROW], [second, NARROW], FREE, {}) == [NARROW]


def test_without_a_way_to_be_woken_the_scheduler_goes_on():
    dag = Dag(DATA, WIDE, NARROW)
    dag.workflow.scheduler = SimpleNamespace(running={DATA})
    scheduler = Scheduler(dag, SchedulerSettings(), None)
    assert scheduler.select_jobs([NARROW], [WIDE, NARROW], FREE, {}) == []


def test_equal_jobs_start_by_name():
    jobs = [Job(name, 1, 3) for name in "dbca"]
    assert selected(Dag(*jobs), jobs) == ["a", "b"]
