"""What the packing benchmark makes of its jobs' log."""

import pytest
from bench.packing import DATASET_H, GPUS, Run, durations, overlaps, published_study, training_hours

from longwatt.study.checks import checked_stages

ALL = [f"GPU-{n}" for n in range(GPUS)]


def lines(rule: str, cell: str, begin: float, end: float, uuids=()) -> list[dict]:
    facts = {"rule": rule, "cell": cell, "process_start": begin, "uuids": list(uuids)}
    return [
        {**facts, "event": "start", "time": begin + 0.1},
        {**facts, "event": "end", "time": end},
    ]


@pytest.fixture
def run() -> Run:
    """Make a run: data at 1 and 3, a narrow cell from 1 to 11, a wide one ready at 3 from 11."""
    log = [
        *lines("tokenize_dataset", "early/bpe", 0, 1),
        *lines("tokenize_dataset", "late/bpe", 0, 3),
        *lines("finetune", "narrow", 1, 11, ALL[:1]),
        *lines("finetune", "wide", 11, 15, ALL),
        *lines("predict", "wide", 15, 16, ALL),
        *lines("predict", "narrow", 16, 17, ALL[:1]),
    ]
    return Run(log, {"narrow": "early", "wide": "late"})


def test_the_bound_is_the_largest_of_three(run):
    assert run.area == 10 + 8 * 4 + 8 * 1 + 1
    assert run.bounds() == {"gpu_seconds": 1 + 51 / 8, "alone_and_longest": 1 + 5 + 11, "chain": 12}
    assert run.bound() == run.makespan == 17


def test_a_wait_is_seen_beside_what_ran_meanwhile(run):
    assert run.waits() == [{"cell": "wide", "wait_s": 8, "longest_beside_s": 10}]
    assert run.pauses() == [0]


def test_held_gpus_are_those_that_a_ready_job_could_have_had(run):
    # Only the narrow cell's prediction was ready and would have fitted, and it waited for no free
    # GPU.
    assert run.held_back() == 0
    other = [
        *lines("tokenize_dataset", "early/bpe", 0, 1),
        *lines("finetune", "narrow", 3, 5, ALL[:1]),
    ]
    assert Run(other, {"narrow": "early"}).held_back() == 2 * 8


def test_two_jobs_on_one_gpu_are_found():
    first, second = lines("finetune", "a", 0, 5, ALL[:2]), lines("predict", "b", 5, 6, ALL[1:3])
    assert not overlaps([*first, *second])
    found = overlaps([*first, *lines("predict", "b", 4, 6, ALL[1:3])])
    assert found == ["GPU-1: finetune a and predict b"]


def test_durations_come_to_the_wanted_gpu_seconds_and_are_not_the_scheduler_s():
    study = published_study()
    stages = checked_stages("packing", study, {})
    plan = durations(stages, 100, seed=0)
    jobs = [(n, plan[f"finetune {n}"] + plan[f"predict {n}"]) for n in stages.cells]
    assert len(jobs) == 64 and sum(stages.gpus(name) == 8 for name, _ in jobs) == 16
    assert sum(seconds * stages.gpus(name) for name, seconds in jobs) / GPUS == pytest.approx(100)
    longest = next(
        c
        for c in stages.cells.values()
        if (c.dataset, c.model, c.seq_len) == ("gov_report", "bigbird_large", 4096)
    )
    assert 0.5 <= training_hours(longest, 1, 0) / (DATASET_H["gov_report"] * 4 * 5) <= 2
