"""A training that diverges, through Snakemake: what is said, and what following the advice does."""

import json
import re

import pytest

from longwatt.jobs.work_folder import read_lines
from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

# No validation comes before the loss is not finite.
WILD = (
    TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [64]")
    .replace("learning_rate: 1e-3", "learning_rate: 1e4")
    .replace("max_steps: 8", "max_steps: 60")
    .replace("every_steps: 4", "every_steps: 20")
)
TRAINED = "results/tiny/needle/led/64/cpu/generated/seed1/finetune/training.json"


def started(project: Project) -> list[float]:
    lines = read_lines(project.cell(64) / "work/attempts.jsonl")
    return [line["wall_time_s"] for line in lines if line["event"] == "start"]


@pytest.mark.long
def test_a_cell_without_weights_to_keep_fails_once_and_every_advice_works(tmp_path):
    project = Project.create(tmp_path / "project", WILD)
    said = project.run(TRAINED, ok=False)
    # In which step depends on the path of attention: products of such weights overflow.
    found = re.search(
        r"FAILED: WorkerError: training diverged: the loss is not finite at step (\d)", said
    )
    assert found and int(found.group(1)) < 20
    failure = json.loads((project.cell(64) / "work/failure-finetune.json").read_text())
    assert "no validation before it left weights to keep" in failure["message"].lower()
    first = started(project)
    assert "training diverged" in project.run(TRAINED, ok=False) and started(project) == first, (
        "no second training"
    )
    assert (
        "failed: needle/led/64/cpu/generated/seed1: WorkerError: training diverged"
        in project.run("partial")
    )
    advised = re.search(r"`(--forcerun) (\S+)`", failure["message"])
    assert advised and advised.group(2) == TRAINED
    project.run(TRAINED, *advised.groups(), ok=False)
    assert len(started(project)) == 1 and started(project) != first, "tried once more, as asked"
    project.edit("studies/tiny.yaml", "learning_rate: 1e4", "learning_rate: 1e-3")
    project.run(TRAINED)
    facts = json.loads((project.path / TRAINED).read_text())
    assert facts["ended_by"] == "max_steps" and facts["execution"]["log_every_steps"] == 2
