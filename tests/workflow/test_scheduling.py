"""Sharing of a machine by jobs of one and of all GPUs, with real leases and sleeping jobs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.packing import Job, jobs_of, overlaps
from bench.stand_in_gpus import environment
from bench.stand_in_stages import make_project, read_log, write_plan

from longwatt.config.studies import read_study
from longwatt.provenance.stamps import read_stamp
from longwatt.study.settings import dataset_key
from tests.conftest import ROOT, TINY_STUDY

WIDE = "late/led/64/both/generated/seed1"
TWO_DATASETS = """datasets:
  early: &data {source: needle, metric: f1,
                options: {words_per_document: 40, train: 64, validation: 12, test: 4}}
  late: {<<: *data, options: {words_per_document: 40, train: 64, validation: 12, test: 4, seed: 1}}
"""
BUDGETS_AND_GRID = """
budgets:
  one: {gpus: 1, per_device_batch_size: 4}
  both: {gpus: 2, per_device_batch_size: 4}
inference:
  greedy: {split: validation, batch_size: 5}
training: {max_target_tokens: 8}
grid:
  - {datasets: [early], models: [led], seq_lens: [64], budgets: [one], seeds: [1, 2, 3, 4, 5, 6]}
  - {datasets: [late], models: [led], seq_lens: [64], budgets: [both], seeds: [1]}
"""
CHOSEN_BEFORE = (
    2  # jobs that Snakemake may have started before it noticed that the wide one's data were there
)


class Machine:
    """A project of stand-in jobs on a machine with two GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, folder / "project"
        make_project(ROOT, self.project)
        study = self.project / "studies" / "tiny.yaml"
        head, models = (
            TINY_STUDY.partition("datasets:")[0],
            TINY_STUDY.partition("tokenizers:")[2].partition("budgets:")[0],
        )
        study.write_text(head + TWO_DATASETS + "tokenizers:" + models + BUDGETS_AND_GRID)
        late = dataset_key(
            read_study(study, ROOT / "workflow" / "schemas" / "study.schema.json"), "late"
        )
        # Of different lengths, so that two GPUs never fall free together.
        narrow = {
            f"finetune early/led/64/one/generated/seed{n}": 0.8 + 0.2 * (n % 3) for n in range(1, 7)
        }
        write_plan(folder / "plan.json", {**narrow, f"download_dataset {late}": 1.5})

    def run(self, *arguments: str) -> str:
        """Run Snakemake; what it said."""
        stand_ins = {"STAND_IN_PLAN": str(self.folder / "plan.json")}
        stand_ins["STAND_IN_LOG"] = str(self.folder / "log.jsonl")
        command = [
            sys.executable, "-m", "snakemake", "--cores", "5", "--until", "predict", *arguments,
        ]  # fmt: skip
        command += ["--config", "study=tiny"]
        env = {**os.environ, **environment(self.folder / "gpus", 2), **stand_ins}
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=self.project, env=env, **how)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def jobs(self) -> list[Job]:
        """What ran, by time of its start; no GPU was ever given to two."""
        lines = read_log(self.folder / "log.jsonl")
        assert not overlaps(lines)
        return jobs_of(lines)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def starts(jobs: list[Job], rule: str, cell: str) -> float:
    return next(job.begin for job in jobs if job.rule == rule and job.cell.startswith(cell))


def test_a_wide_job_waits_only_for_narrow_ones_that_already_run(machine):
    machine.run("--scheduler-longwatt-patience-s", "0")
    jobs = machine.jobs()
    ready = next(
        job.end for job in jobs if job.rule == "tokenize_dataset" and job.cell.startswith("late")
    )
    started = starts(jobs, "finetune", WIDE)
    narrow = [job for job in jobs if len(job.uuids) == 1]
    assert any(job.begin < ready for job in narrow) and any(job.begin > started for job in narrow)
    assert len([job for job in narrow if ready < job.begin < started]) <= CHOSEN_BEFORE
    after = [job for job in jobs if job.begin > started and job.uuids]
    assert (after[0].rule, after[0].cell) == (
        "predict",
        WIDE,
    )  # its prediction follows at once, narrow ones wait


@pytest.mark.long
def test_gpus_wait_for_data_of_a_wide_job_and_priorities_make_nothing_again(machine):
    machine.run()
    jobs = machine.jobs()
    assert starts(jobs, "finetune", WIDE) == min(job.begin for job in jobs if job.uuids)
    assert len([job for job in jobs if job.uuids]) == 14
    artefact = machine.project / "results" / "tiny" / WIDE / "finetune" / "training.json"
    assert (read_stamp(artefact) or {})["rule"] == "finetune"
    rules = machine.project / "workflow" / "rules" / "train.smk"
    rules.write_text(rules.read_text().replace("priority: priority_of", "priority: 7"))
    assert re.search(r"^total +0$", machine.run("-n"), flags=re.MULTILINE)
