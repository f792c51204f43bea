"""Cells that fail, jobs that are killed: what is reported, and what the next run makes."""

import csv
import json
import os
import signal
import subprocess
import time

import pytest

from tests.conftest import TINY_STUDY, wait_for
from tests.workflow.conftest import Project, processes_of, send, works_in

# A batch larger than the training split makes one cell fail when it starts; all others are fine.
FINE, TOO_LARGE = "per_device_batch_size: 4}", "per_device_batch_size: {led: {32: 4, 64: 100}}}"
ONE_BAD_CELL = TINY_STUDY.replace(FINE, TOO_LARGE)
# Slow enough to be killed in the middle, with a checkpoint at every step.
SLOW = TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [64]").replace(
    "max_steps: 8", "max_steps: 60"
)
METRICS = (
    "score", "rouge1", "rouge2", "rougeL", "f1", "steps", "best_step", "samples", "input_tokens",
)  # fmt: skip


def metrics(project: Project) -> dict[str, str]:
    with (project.results / "summary.csv").open() as stream:
        row = next(csv.DictReader(stream))
    return {name: row[name] for name in METRICS}


SUMMARY = "results/tiny/summary.csv"  # without tables and figures, which take longest
TRAINED = "results/tiny/needle/led/64/cpu/generated/seed1/finetune/training.json"
COUNTS = ("steps", "best_step", "best_score", "samples", "input_tokens")


def counts(project: Project) -> dict[str, float]:
    facts = json.loads((project.path / TRAINED).read_text())
    return {name: facts[name] for name in COUNTS}


def losses(project: Project) -> list[tuple[str, str, str]]:
    with (project.cell(64) / "finetune/history.csv").open() as stream:
        return [(row["step"], row["loss"], row["score"]) for row in csv.DictReader(stream)]


def weights(project: Project) -> bytes:
    return (project.cell(64) / "finetune/model/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("undisturbed") / "project", SLOW)
    project.run(SUMMARY)
    return project


@pytest.mark.long
def test_one_cell_fails_alone_and_is_made_alone(tmp_path):
    project = Project.create(tmp_path / "project", ONE_BAD_CELL)
    said = project.run(ok=False)
    assert (
        "finetune needle/led/64/cpu/generated/seed1: FAILED: WorkerError: the training split has 64"
        in said
    )
    assert (
        "fewer than one effective batch of 100 (100 per device x 1 accumulation steps x 1 devices)"
        in said
    )
    assert (project.cell(32) / "predict/greedy/scores.json").exists()
    assert "fewer than one effective batch" in (project.logs(64) / "finetune.log").read_text()
    assert not (project.results / "summary.csv").exists()

    said = project.run("partial")
    assert "2 cells: 1 finished, 1 failed" in said
    assert "failed: needle/led/64/cpu/generated/seed1: WorkerError" in said
    with (project.results / "partial/summary.csv").open() as stream:
        assert [row["seq_len"] for row in csv.DictReader(stream)] == ["32"]
    assert (project.results / "partial/figures/accuracy_vs_training_time.png").exists()
    assert (project.results / "partial/power/power.html").read_text().count("<details>") == 1

    project.edit("studies/tiny.yaml", "init_std: 0.08", "init_std: 0.07")
    assert project.would_run()["finetune"] == 2, "the model's settings are both cells'"
    project.edit("studies/tiny.yaml", "init_std: 0.07", "init_std: 0.08")
    project.edit("studies/tiny.yaml", TOO_LARGE, FINE)
    once = ("finetune", "predict", "score", "summarize", "tabulate", "plot", "plot_power", "answer")
    assert project.would_run() == {**dict.fromkeys(once, 1), "summarize_energy": 2}


@pytest.mark.long
def test_a_cell_that_fails_on_a_rerun_is_never_up_to_date(project):
    project.edit("studies/tiny.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    project.edit("studies/tiny.yaml", FINE, TOO_LARGE)
    project.run(ok=False)
    assert project.would_run()["finetune"] == 1
    assert "Nothing to be done" not in project.run(ok=False), "and it stays so"
    assert project.would_run()["finetune"] == 1
    assert "1 failed" in project.run("partial")
    assert "is older than" in project.run("--report", "report.html", ok=False)


def checkpoints(project: Project) -> list:
    return list((project.cell(64) / "work/checkpoints").glob("checkpoint-*/complete.json"))


def start_to_a_checkpoint(project: Project) -> subprocess.Popen[str]:
    running = project.start()
    wait_for(lambda: checkpoints(project), "a checkpoint")
    return running


def training_processes(project: Project) -> list[int]:
    return [
        pid for pid in processes_of("longwatt.training.finetune") if works_in(pid, project.path)
    ]


@pytest.mark.long
def test_a_killed_training_goes_on_to_the_same_end(undisturbed, tmp_path):
    project = Project.create(tmp_path / "project", SLOW)
    running = start_to_a_checkpoint(project)
    time.sleep(0.2)
    workers = training_processes(project)
    assert workers
    send(signal.SIGKILL, workers)
    assert running.wait(60) != 0
    assert "a worker died without a message" in (project.path / "run.log").read_text()

    project.run(SUMMARY)
    assert _attempts(project) == 2
    assert metrics(project) == metrics(undisturbed)
    assert losses(project) == losses(undisturbed)
    assert weights(project) == weights(undisturbed)
    assert "attempt 2 resumes at step" in (project.logs(64) / "finetune.log").read_text()


@pytest.mark.long
def test_a_killed_snakemake_is_followed_by_the_same_end(undisturbed, tmp_path):
    project = Project.create(tmp_path / "project", SLOW)
    running = start_to_a_checkpoint(project)
    running.kill()
    running.wait()
    # The training outlives its Snakemake; the next run ends it and goes on from its last
    # checkpoint. Frozen, since on a fast machine it would complete while the next run starts (the
    # next test but one is about that).
    send(signal.SIGSTOP, training_processes(project))
    project.run("--unlock")
    project.run(SUMMARY)
    log = (project.logs(64) / "finetune.log").read_text()
    assert "an earlier attempt at this cell, still runs; ending it" in log
    assert "attempt 2 resumes at step" in log and _attempts(project) == 2
    assert metrics(project) == metrics(undisturbed)
    assert weights(project) == weights(undisturbed)
    assert not training_processes(project)


@pytest.mark.long
def test_an_interrupt_leaves_what_the_next_run_needs(undisturbed, tmp_path):
    project = Project.create(tmp_path / "project", SLOW)
    running = start_to_a_checkpoint(project)
    os.killpg(running.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group
    running.wait(60)
    wait_for(lambda: not training_processes(project), "workers to end")
    assert "FAILED" not in (project.path / "run.log").read_text()
    assert "1 interrupted" in project.run("partial")
    project.run(TRAINED)
    assert _attempts(project) == 2
    assert weights(project) == weights(undisturbed)


@pytest.mark.long
def test_a_training_that_ends_after_its_snakemake_was_killed_is_not_made_again(
    undisturbed, tmp_path
):
    project = Project.create(tmp_path / "project", SLOW)
    running = start_to_a_checkpoint(project)
    running.kill()
    running.wait()
    trained = project.cell(64) / "finetune/training.json"
    wait_for(trained.exists, "the orphan to complete", 120)
    wait_for(lambda: not training_processes(project), "it to end")
    project.run("--unlock")
    project.run(TRAINED)
    log = (project.logs(64) / "finetune.log").read_text()
    assert "this training had completed before: its result is taken from" in log
    assert _attempts(project) == 1
    assert counts(project) == counts(undisturbed)
    assert "attempt 1 starts from the beginning" not in log

    project.run(TRAINED, "-R", "finetune")
    assert "attempt 1 starts from the beginning" in (project.logs(64) / "finetune.log").read_text()
    assert weights(project) == weights(undisturbed)


@pytest.mark.long
def test_changed_settings_never_go_on_from_old_work(tmp_path):
    project = Project.create(tmp_path / "project", SLOW)
    running = start_to_a_checkpoint(project)
    send(signal.SIGKILL, training_processes(project))
    running.wait(60)
    project.edit("studies/tiny.yaml", "max_steps: 60", "max_steps: 4")
    project.run(TRAINED)
    log = (project.logs(64) / "finetune.log").read_text()
    assert "earlier work was made with other settings and is not continued" in log
    assert counts(project)["steps"] == 4


def _attempts(project: Project) -> int:
    return len(json.loads((project.cell(64) / "finetune/training.json").read_text())["attempts"])


@pytest.mark.long
def test_a_clock_set_back_by_a_day_makes_nothing_again(project):
    for folder in ("resources", "results", "studies", ".snakemake/log"):
        for path in (project.path / folder).rglob("*"):
            when = path.lstat().st_mtime + 86400
            os.utime(path, (when, when), follow_symlinks=False)
    (project.cell(32) / "predict/greedy/predictions.jsonl").unlink()
    said = project.run()
    assert "The clock was set back since the last run" in said
    assert "rule finetune" not in said and project.would_run() == {}
    assert "The clock was set back" not in project.run("-n")


@pytest.mark.long
def test_a_damaged_token_cache_is_made_again_and_costs_no_training(project):
    (tokens,) = (project.path / "resources/tokenized").glob("*/*/tokens/validation/*.arrow")
    whole = tokens.read_bytes()
    tokens.write_bytes(b"\0" * len(whole))
    (project.cell(32) / "predict/greedy/predictions.jsonl").unlink()
    project.run("-R", "predict")
    assert tokens.read_bytes() == whole
    logs = "".join(
        path.read_text() for path in project.results.parents[1].glob("logs/**/predict-greedy.log")
    )
    assert logs.count("is damaged: it is made again") == 1
    assert project.would_run() == {}
