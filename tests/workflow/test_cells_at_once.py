"""Cells on the CPU that run at once, each on cores of its own."""

import json
import os

import pytest

from longwatt.energy.reduction.segments import read_log
from tests.workflow.conftest import Project

LENGTHS = (32, 64)


@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is no two")
def test_two_small_cells_run_at_once_on_different_cores(tmp_path):
    project = Project.create(tmp_path / "project")
    project.run("--until", "predict", LONGWATT_LEASE_DIR=str(tmp_path / "leases"))
    parts = ("finetune/training.json", "predict/greedy/inference.json")
    found = [
        json.loads((project.cell(length) / part).read_text())
        for length in LENGTHS
        for part in parts
    ]
    assert [facts["threads"] for facts in found] == [1] * 4
    cores = {str(core) for core in os.sched_getaffinity(0)}
    assert {facts["pinned"] for facts in found} <= cores
    trainings = found[::2]
    assert trainings[0]["pinned"] != trainings[1]["pinned"]
    runs = [
        read_log([project.cell(length) / "finetune/energy.jsonl.gz"]).segments[0]
        for length in LENGTHS
    ]
    starts = [run.header["t"] / 1e9 for run in runs]
    assert max(starts) < min(start + run.length_s for start, run in zip(starts, runs, strict=True))
