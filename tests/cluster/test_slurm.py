"""Studies on a real Slurm of one node with eight stand-in GPUs, through profiles/slurm."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from bench.stand_in_gpus import environment as stand_in_gpus
from bench.stand_in_stages import make_project, read_log, write_plan

from tests.cluster.throwaway import GPUS, Slurm
from tests.conftest import ROOT, TINY_STUDY, wait_for
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slurm

# Where the throw-away Slurm differs from a cluster: no accounting, nobody else waits for it, files
# show at once.
HERE = ("--slurm-status-command", "squeue", "--latency-wait", "5")
HERE += ("--slurm-init-seconds-before-status-checks", "1")
BUDGETS = "cpu: {gpus: 0, per_device_batch_size: 4}"
ONE = "one: {gpus: 1, per_device_batch_size: 4}"
STUDY = TINY_STUDY.replace(
    BUDGETS, f"{ONE}\n  eight: {{gpus: 8, per_device_batch_size: 4}}"
).replace(
    "seq_lens: [32, 64], budgets: [cpu], seeds: [1]}",
    "seq_lens: [32, 64], budgets: [one], seeds: [1, 2, 3, 4, 5]}\n"
    "  - {datasets: [needle], models: [led], seq_lens: [64], budgets: [eight], seeds: [1]}",
)
CELLS = [
    f"needle/led/{length}/one/generated/seed{seed}" for length in (32, 64) for seed in range(1, 6)
]
EIGHT, BAD = "needle/led/64/eight/generated/seed1", CELLS[3]
# Trains until it is cut off, with a checkpoint every second.
ENDLESS = (
    TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [64]")
    .replace("max_steps: 8", "max_steps: 1000000")
    .replace("checkpoint_every_s: 0", "checkpoint_every_s: 1")
    .replace("every_steps: 4", "every_steps: 1000000")
)
TRAINED = "results/tiny/needle/led/64/cpu/generated/seed1/finetune/training.json"
# A minute is Slurm's shortest limit. It signals up to a minute early, here between 25 and 55
# seconds after the start.
SIGNAL = "finetune:slurm_extra='--signal=TERM@5'"
SHORT = ("--set-resources", "finetune:runtime=1", SIGNAL, "--set-threads", "finetune=1")


@dataclass
class Runs:
    """Snakemake, run on one project through the throw-away Slurm."""

    slurm: Slurm
    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake in the background, its output in run.log."""
        profile = ["--workflow-profile", "profiles/slurm", *HERE]
        command = [sys.executable, "-m", "snakemake", *arguments, *profile]
        command += ["--config", "study=tiny"]
        env = self.slurm.environment()
        env.pop("PYTHONPATH", None)
        env.update(self.environment)
        with (self.path / "run.log").open("w") as log:
            how = {"stdout": log, "stderr": log, "text": True}
            return subprocess.Popen(command, cwd=self.path, env=env, **how)

    def run(self, *arguments: str, ok: bool) -> str:
        """Run Snakemake; its output."""
        status = self.start(*arguments).wait(400)  # three times what it takes on two cores
        said = (self.path / "run.log").read_text()
        assert (status == 0) == ok, said[-6000:]
        return said


@pytest.fixture(scope="module")
def cut_off(slurm: Slurm, tmp_path_factory) -> Iterator[tuple[Runs, subprocess.Popen[str]]]:
    """A training that its time limit will cut off; it runs while the next fixture's study does."""
    project = Project.create(tmp_path_factory.mktemp("cut_off") / "project", ENDLESS)
    runs = Runs(slurm, project.path)
    running = runs.start(TRAINED, *SHORT)
    yield runs, running
    running.kill()
    running.wait()


@pytest.fixture(scope="module")
def study(slurm: Slurm, cut_off, tmp_path_factory) -> Runs:
    """A study that has run once; one of its cells failed."""
    folder = tmp_path_factory.mktemp("study")
    make_project(ROOT, folder / "project")
    (folder / "project/studies/tiny.yaml").write_text(STUDY)
    plan, log = folder / "plan.json", folder / "log.jsonl"
    write_plan(plan, {"finetune": 2.0}, fail=[f"finetune {BAD}"])
    variables = {**stand_in_gpus(folder / "gpus", GPUS), "STAND_IN_PLAN": str(plan)}
    variables["STAND_IN_LOG"] = str(log)
    Project(folder / "project").run("--until", "tokenize_dataset", **variables)
    runs = Runs(slurm, folder / "project", variables)
    runs.run(ok=False)
    return runs


def jobs(runs: Runs, since: int = 0) -> dict[tuple[str, str], dict[str, dict]]:
    """By rule and cell what each job wrote down at its start and its end."""
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for line in read_log(Path(runs.environment["STAND_IN_LOG"]))[since:]:
        found.setdefault((line["rule"], line["cell"]), {})[line["event"]] = line
    return found


def overlap(one: dict[str, dict], other: dict[str, dict]) -> bool:
    return (
        one["start"]["time"] < other["end"]["time"] and other["start"]["time"] < one["end"]["time"]
    )


def test_no_two_jobs_share_a_gpu(study):
    leased = {key: job for key, job in jobs(study).items() if job["start"]["uuids"]}
    assert {cell for rule, cell in leased if rule == "finetune"} == {*CELLS, EIGHT}
    assert {len(job["start"]["uuids"]) for (_, cell), job in leased.items() if cell == EIGHT} == {
        GPUS
    }
    assert {len(job["start"]["uuids"]) for (_, cell), job in leased.items() if cell != EIGHT} == {1}
    together = [pair for pair in combinations(leased.values(), 2) if overlap(*pair)]
    assert together, "jobs ran side by side"
    assert all(set(a["start"]["uuids"]).isdisjoint(b["start"]["uuids"]) for a, b in together)
    assert all(job["start"]["job_id"] for job in leased.values()), "each through Slurm"


def test_slurm_is_asked_for_what_the_profile_and_the_rules_say(study, slurm):
    submitted = [line for line in slurm.submissions() if str(study.path) in line]
    trainings = [line for line in submitted if "rule_finetune" in line]
    assert len(trainings) == len(CELLS) + 1
    assert all({"--nodes=1", "--signal=TERM@300"} <= set(line.split()) for line in trainings)
    assert all("-t 1440 " in line for line in trainings)
    (eight,) = [line for line in trainings if "_eight_" in line]
    assert f"--gpus={GPUS}" in eight.split() and "--mem 384000 " in eight
    assert "--cpus-per-gpu=8" in eight.split()
    assert all(
        "--gpus=1" in line.split() and "--mem 48000 " in line for line in trainings if line != eight
    )
    predictions = [line for line in submitted if "rule_predict" in line]
    assert len(predictions) == len(CELLS) and all(
        "--nodes=1" in line.split() for line in predictions
    )
    assert not any("rule_score" in line or "rule_download" in line for line in submitted), (
        "light jobs stay here"
    )


def test_a_failing_cell_is_named_and_made_again_alone(study, slurm):
    said = (study.path / "run.log").read_text()
    assert re.findall(r"Error in rule (\w+):", said) == ["finetune"]
    assert f"logs/tiny/{BAD}/finetune.log" in said
    assert {cell for rule, cell in jobs(study) if rule == "score"} == {*CELLS, EIGHT} - {BAD}

    submitted, written = (
        len(slurm.submissions()),
        len(read_log(Path(study.environment["STAND_IN_LOG"]))),
    )
    write_plan(Path(study.environment["STAND_IN_PLAN"]), {})
    study.run(ok=True)
    again = jobs(study, since=written)
    assert {
        cell for rule, cell in again if rule in ("finetune", "predict", "score", "summarize_energy")
    } == {BAD}
    wanted = {"finetune", "predict", "score", "summarize", "tabulate", "plot"}
    assert {rule for rule, _ in again} >= wanted
    assert len(slurm.submissions()) - submitted == 2
    assert (study.path / "results/tiny/summary.csv").exists()


def slurm_logs(runs: Runs) -> str:
    """What the project's Slurm jobs printed."""
    return "".join(
        path.read_text() for path in (runs.path / ".snakemake/slurm_logs").rglob("*.log")
    )


def test_a_cell_cut_off_by_its_time_limit_goes_on_in_the_next_run(cut_off, slurm):
    runs, running = cut_off
    said = runs.path / "run.log"
    wait_for(lambda: "Error in rule finetune" in said.read_text(), "the cell to be reported", 180)
    running.kill()  # it would sleep for another half minute before it looks at Slurm again and ends
    running.wait()
    said = slurm_logs(runs)
    (saved,) = re.findall(
        r"stopped by SIGTERM at step (\d+), saved; the next run goes on there", said
    )
    assert "FAILED" not in said and "died with <Signals" not in said
    work = runs.path / "results/tiny/needle/led/64/cpu/generated/seed1/work"
    assert not (work / "failure-finetune.json").exists()
    steps = [
        json.loads(path.read_text())["step"] for path in work.glob("checkpoints/*/complete.json")
    ]
    assert int(saved) == max(steps), (
        "the early signal reached the training, which was left to save and end"
    )

    runs.run("--unlock", ok=True)
    going_on = runs.start(TRAINED, *SHORT)
    wait_for(lambda: "attempt 2 resumes at step" in slurm_logs(runs), "the next run to go on", 90)
    assert int(re.findall(r"attempt 2 resumes at step (\d+)", slurm_logs(runs))[0]) == max(steps)
    going_on.send_signal(signal.SIGINT)
    wait_for(lambda: slurm.run("squeue", "-h") == "", "Ctrl-C to cancel the job")
    going_on.kill()
    going_on.wait()


def test_a_throw_away_slurm_ends_with_whoever_started_it(slurm):
    start = "from tests.cluster.throwaway import Slurm; s = Slurm.start()"
    code = f"{start}; print(s.guardian.pid, s.folder, flush=True); input()"
    how = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    how |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    owner = subprocess.Popen([sys.executable, "-c", code], **how)
    pid, folder = owner.stdout.readline().split()
    guardian = psutil.Process(int(pid))
    daemons = guardian.children(recursive=True)
    assert {"munged", "slurmctld", "slurmd"} <= {daemon.name() for daemon in daemons}
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs([guardian, *daemons], timeout=10)
    assert not alive and not Path(folder).exists()
