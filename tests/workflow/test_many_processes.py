"""A cell of several processes through torch's launcher: killed, asked to end, completed."""

import csv
import json
import os
import signal

import psutil
import pytest

from longwatt.processes import children
from tests.conftest import TINY_STUDY, wait_for
from tests.workflow.conftest import Project, processes_of, send, works_in

TOGETHER = (
    TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [64]")
    .replace("max_steps: 8", "max_steps: 80")
    .replace("gpus: 0, per_device_batch_size: 4", "gpus: 0, processes: 2, per_device_batch_size: 2")
)


def launchers(project: Project) -> list[int]:
    return [pid for pid in processes_of("torch.distributed.run") if works_in(pid, project.path)]


def workers(project: Project) -> list[int]:
    return [child for pid in launchers(project) for child in children(pid)]


def checkpoints(project: Project) -> set[str]:
    found = (project.cell(64) / "work/checkpoints").glob("checkpoint-*/complete.json")
    return {path.parent.name for path in found}


@pytest.mark.long
def test_a_cell_of_two_processes_survives_a_killed_worker_and_a_sigterm(tmp_path):
    project = Project.create(tmp_path / "project", TOGETHER)
    running = project.start()
    awaited = "a checkpoint of two workers"
    wait_for(lambda: checkpoints(project) and len(workers(project)) == 2, awaited, 90)
    send(signal.SIGKILL, workers(project)[1:])
    assert running.wait(90) != 0
    said = (project.path / "run.log").read_text()
    assert (
        "one of 2 workers died without a message" in said
        or "another process of this job died" in said
    )
    failure = project.cell(64) / "work/failure-finetune.json"
    assert not workers(project) and failure.exists()

    before = checkpoints(project)
    running = project.start()
    wait_for(lambda: checkpoints(project) - before and launchers(project), "another checkpoint", 90)
    os.kill(psutil.Process(launchers(project)[0]).ppid(), signal.SIGTERM)
    assert running.wait(90) != 0
    said = (project.path / "run.log").read_text()
    assert "stopped by SIGTERM at step" in said and "saved; the next run goes on there" in said
    assert not workers(project) and not failure.exists(), "to be asked to end is no failure"

    project.run("results/tiny/summary.csv")
    log = (project.logs(64) / "finetune.log").read_text()
    assert "attempt 1 starts from the beginning" in log and "attempt 3 resumes at step" in log, (
        "one log of all attempts"
    )
    facts = json.loads((project.cell(64) / "finetune/training.json").read_text())
    wanted = (2, 4, 4 * facts["steps"])
    assert (facts["processes"], facts["effective_batch_size"], facts["samples"]) == wanted
    with (project.results / "summary.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert row["attempts"] == "3" and float(row["wasted_runtime_s"]) > 0
    assert row["wasted_energy_kwh"] == "NA"
    rows = (project.cell(64) / "predict/greedy/predictions.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in rows}) == len(rows) == 12
