"""Studies of many cells: what is read before the first job, and what a dry run costs."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bench.dag import Cost, create, dry_run, environment, forget, pretend

CELLS, MORE_CELLS = 50, 250
# finetune, predict, score, 2 x summarize_energy; data; rule all included
JOBS_OF_A_CELL, SHARED_JOBS, STUDY_JOBS = 5, 6, 6
# Runs Snakemake and then prints every file below the project that it opened.
WATCH = """
import os, sys
here, opened = os.getcwd(), []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    paths = {os.path.relpath(path, here) for path in opened if isinstance(path, str)}
    print("OPENED", *sorted(path for path in paths if not path.startswith("..")), sep="\\n")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished study of 50 cells, with Snakemake's records of it."""
    project = create(tmp_path_factory.mktemp("scale") / "project", CELLS)
    pretend(project)
    return project


def opened_by(project: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", WATCH, *arguments, "--cores", "2", "--config", "study=scale"]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split("OPENED\n")[1].splitlines()


def of_cells(paths: list[str]) -> list[str]:
    """What belongs to one cell: its files, and Snakemake's records, whose names are encoded."""
    return [path for path in paths if re.match(r"results/scale/needle|\.snakemake/metadata/", path)]


def test_parsing_reads_no_file_of_a_cell(finished):
    opened = opened_by(finished, "--list-rules")
    assert "studies/scale.yaml" in opened, "the watch sees nothing"
    assert of_cells(opened) == []


def test_a_dry_run_of_a_finished_study_reads_no_result(finished):
    opened = opened_by(finished, "-n")
    assert [path for path in of_cells(opened) if path.startswith("results")] == []
    assert len(of_cells(opened)) >= CELLS * JOBS_OF_A_CELL, "Snakemake's own records"


def test_every_job_is_recorded_with_its_own_outputs_only(finished):
    records = [path for path in (finished / ".snakemake/metadata").rglob("*") if path.is_file()]
    made = Counter(json.loads(path.read_text())["rule"] for path in records)
    assert made["finetune"] == 4 * CELLS
    # Snakemake lists all inputs in the record of each output: jobs that read every cell must have
    # few.
    assert made["plot_power"] == made["summarize"] == made["answer"] == 2


def test_without_records_every_stamp_is_read_once(finished, tmp_path):
    project = tmp_path / "copy"
    subprocess.run(["cp", "-a", finished, project], check=True)
    forget(project)
    stamps = [
        path for path in of_cells(opened_by(project, "--list-rules")) if path.endswith(".json")
    ]
    assert len(stamps) == CELLS * JOBS_OF_A_CELL


def test_memory_grows_with_the_cells_and_stays_small(tmp_path):
    few, many = (dry_run(create(tmp_path / str(cells), cells)) for cells in (CELLS, MORE_CELLS))
    assert few.jobs == CELLS * JOBS_OF_A_CELL + SHARED_JOBS + STUDY_JOBS
    assert many.jobs - few.jobs == (MORE_CELLS - CELLS) * JOBS_OF_A_CELL
    per_cell_mib = (many.memory_mib - few.memory_mib) / (MORE_CELLS - CELLS)
    assert few.memory_mib + 5000 * per_cell_mib < 2048


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_cells_dry_run_in_a_minute_and_two_gib(tmp_path):
    project = create(tmp_path / "project", 5000)
    fresh = dry_run(project)
    assert fresh.jobs == 5000 * JOBS_OF_A_CELL + SHARED_JOBS + STUDY_JOBS
    pretend(project)
    finished = dry_run(project)
    assert finished.jobs == 0
    for cost in (fresh, finished):
        _within_limits(cost)


def _within_limits(cost: Cost) -> None:
    # One thread does it all: on a quiet machine CPU seconds are those of the clock, on a busy one
    # somewhat more.
    assert cost.cpu_s < 60 and cost.memory_mib < 2048, cost
