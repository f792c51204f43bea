"""The measurements of a job's start and of a step's parts."""

import pytest
from bench import job_start, step_overhead


def process(pid: int, parent: int, command: list[str], cpu_s: float, **more) -> dict:
    began = {"cpu_s": more.pop("began")} if "began" in more else {}
    known = {"modules": 9, "libraries": ["torch", "json"], "children_cpu_s": 0.0}
    return {"pid": pid, "parent": parent, "command": command, "cpu_s": cpu_s, "began": began} | (
        known | more
    )


PROCESSES = [
    process(1, 0, ["-m", "snakemake", "--cores", "1"], 9),
    process(2, 1, [".snakemake/scripts/tmpx.finetune.py"], 0.5, began=0.25, children_cpu_s=7.75),
    process(3, 2, ["-m", "longwatt.energy.recorder", "8"], 0.25),
    process(
        4, 2, ["-m", "longwatt.jobs.start", "longwatt.training.finetune", "a/f.spec"], 6, began=2
    ),
    process(5, 1, [".snakemake/scripts/tmpy.score.py"], 0.5),
]


def test_what_a_job_takes_is_told_by_its_processes():
    found = dict(job_start.costs(PROCESSES))
    assert list(found) == ["finetune", "recorder", "worker of finetune", "score"]
    assert (found["finetune"]["start"], found["finetune"]["whole"]) == (0.25, 0.5)
    assert found["worker of finetune"]["start"] == 2
    assert found["worker of finetune"]["after"] == 7.75 - 6 - 0.25
    assert found["score"]["start"] == 0.5, "one that opens no log has begun nothing"
    assert found["score"]["libraries"] == "torch"


def test_medians_leave_out_what_a_kind_does_not_have():
    rows = [{"start": n, "whole": 2 * n, "modules": 5, "libraries": ""} for n in (1, 2, 6)]
    found = job_start.medians(rows)
    assert (found["start"], found["whole"], found["after"]) == (2, 4, None)


@pytest.mark.parametrize("case", ["demo"])
def test_a_step_is_told_by_parts_that_all_take_time(case):
    parts = step_overhead.measure(case, 2, None)
    assert set(parts) == {"data", "forward", "backward", "norm", "optimiser", "rest"}
    assert all(seconds > 0 for seconds in parts.values())
    assert parts["backward"] > parts["data"]
