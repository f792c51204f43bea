"""Two Snakemake runs at the same time: in one folder, and on the same GPUs."""

from __future__ import annotations

import subprocess
from itertools import combinations

import pytest
from bench.stand_in_gpus import environment as stand_in_gpus
from bench.stand_in_stages import make_project, read_log, write_plan

from tests.conftest import ROOT, TINY_STUDY, wait_for
from tests.workflow.conftest import Project

ON_GPUS = TINY_STUDY.replace("cpu: {gpus: 0", "cpu: {gpus: 1").replace(
    "seq_lens: [32, 64]", "seq_lens: [64]"
)
OTHER = ON_GPUS.replace(
    "learning_rate: 1e-3", "learning_rate: 2e-3"
)  # another training on the same data


@pytest.fixture
def project(tmp_path) -> Project:
    """Two studies whose jobs are stand-ins, on a machine with two stand-in GPUs."""
    make_project(ROOT, tmp_path / "project")
    project = Project(tmp_path / "project")
    project.study.write_text(ON_GPUS)
    project.study.with_name("other.yaml").write_text(OTHER)
    write_plan(
        tmp_path / "plan.json", {"finetune": str(tmp_path / "enough")}
    )  # trainings last until it is there
    return project


def environment(project: Project) -> dict[str, str]:
    folder = project.path.parent
    variables = {"STAND_IN_PLAN": str(folder / "plan.json")}
    variables["STAND_IN_LOG"] = str(folder / "log.jsonl")
    return {**stand_in_gpus(folder / "gpus", 2), **variables}


def trainings(project: Project) -> list[dict]:
    """What trainings wrote down so far: when they started and ended, and on which GPUs."""
    return [
        line for line in read_log(project.path.parent / "log.jsonl") if line["rule"] == "finetune"
    ]


def start(project: Project, study: str, variables: dict[str, str]) -> subprocess.Popen:
    where = {"cwd": project.path, "env": project.environment(**variables)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(project.command(study=study), **where, **silent)


@pytest.mark.long
def test_a_study_that_is_running_is_refused_and_another_on_the_same_data_runs_beside_it(project):
    variables = environment(project)
    project.run("--until", "tokenize_dataset", **variables)
    with start(project, "tiny", variables) as first:
        wait_for(lambda: trainings(project), "the first study's training")
        said = project.run(ok=False, **variables)
        assert "LockException" in said and "--unlock" in said and "Traceback" not in said
        with start(project, "other", variables) as second:
            wait_for(lambda: len(trainings(project)) == 2, "the other study's training", 120)
            (project.path.parent / "enough").touch()
    assert first.returncode == second.returncode == 0
    starts, ends = (
        [line for line in trainings(project) if line["event"] == event]
        for event in ("start", "end")
    )
    assert len(starts) == len(ends) == 2, "the refused run trained nothing"
    assert max(line["time"] for line in starts) < min(line["time"] for line in ends), (
        "both trained at the same time"
    )
    assert all(set(a["uuids"]).isdisjoint(b["uuids"]) for a, b in combinations(starts, 2))
