"""The status of a study from its files alone, whoever runs it, and whether or not anybody does."""

import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from longwatt.commands import status as command
from longwatt.commands.app import make_app
from longwatt.processes import identified
from longwatt.provenance.stamps import stamp, write_json
from longwatt.watch.announced import Announced, announce, announced, run_file
from longwatt.watch.job_progress import work_folder
from longwatt.watch.status_page import failed_lines, head_lines, job_rows, status_facts
from longwatt.watch.study_status import StatusReader
from tests.unit.watch.test_job_progress import write

CELLS = [f"needle/led/{length}/cpu/generated/seed1" for length in (32, 64)]


def make(current, stages) -> None:
    """Write artefacts as their jobs would."""
    for stage in stages:
        path = Path(stage.artefact)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = stamp(stage.rule, dict(stage.settings), current.code(stage))
        write_json(path, {"provenance": made})


def begin(part: str, cell: str = CELLS[0], **facts) -> None:
    folder = work_folder(Path("results/tiny"), cell, part)
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    label = {"label": f"{part.split('/')[0]} {cell}", "entered_s": now - 10, "began_s": now - 100}
    write(folder, now, **{**label, "scores": [], "steps": 80, **facts})


def text(status) -> str:
    rows = [f"{row.name} {row.words} {row.left}" for row in job_rows(status)]
    return "\n".join([*head_lines(status), *rows, *failed_lines(status)])


def test_a_study_that_never_ran_is_not_started_and_has_an_estimate(current):
    status = StatusReader(current).read()
    assert status.state == "not started" and status.run is None and not status.jobs
    assert status.left["finetune"] == (2, 2) and status.left["summarize"] == (1, 1)
    assert "tiny: not started, 0 of 18 jobs done" in text(status)
    assert "would take about" in text(status) and "none measured yet" in text(status)


def test_a_running_study_says_what_runs_what_is_left_and_when_it_ends(current):
    announce(Announced(current, None))
    make(current, [current.stages.finetune(CELLS[1])])
    begin("finetune", loss=2.5)
    begin("predict/greedy", CELLS[1], phase="generate", batches=80)
    status = StatusReader(current).read()
    assert status.state == "running" and status.run.alive and status.run.pid == os.getpid()
    assert status.left["finetune"] == (1, 2)
    said = text(status)
    assert "needle/led/32 step 30/80  loss 2.5" in said and "≤ " in said
    assert "needle/led/64 greedy batch 30/80" in said
    assert f"Snakemake runs it (process {os.getpid()}, " in said and "ends in about" in said


def test_a_killed_run_is_said_to_be_over_and_its_jobs_gone(current):
    announce(Announced(current, None))
    run = json.loads(run_file("tiny").read_text())
    run_file("tiny").write_text(json.dumps({**run, "run": identified(1).replace(":1:", ":0:")}))
    begin("finetune", started=1)
    status = StatusReader(current).read()
    assert status.state == "stopped" and status.run.alive is False
    assert "not running, unfinished" in text(status) and "process gone" in text(status)
    assert "is over; the next one goes on" in text(status)


def test_a_second_run_which_the_lock_refuses_is_not_the_one_to_watch(current):
    with subprocess.Popen(["sleep", "60"]) as first:
        noted = {"run": identified(first.pid), "pid": first.pid, "began_s": 1.0}
        run_file("tiny").parent.mkdir(parents=True)
        run_file("tiny").write_text(json.dumps({**noted, "host": os.uname().nodename}))
        announce(Announced(current, None))
        assert StatusReader(current).read().run.pid == first.pid
        first.kill()
    announce(Announced(current, None))
    assert StatusReader(current).read().run.pid == os.getpid()


@pytest.mark.parametrize("torn", ["", "{}", '{"run": "a"}', '{"run": "a:b:c"}', '{"run": 3}'])
def test_a_torn_note_of_a_run_is_replaced(current, torn):
    run_file("tiny").parent.mkdir(parents=True)
    run_file("tiny").write_text(torn)
    announce(Announced(current, None))
    assert json.loads(run_file("tiny").read_text())["pid"] == os.getpid()


def test_a_finished_study_has_no_next_run(current):
    make(current, list(current.stages.all()))
    noted = {"run": "x:1:0", "pid": 1, "began_s": 1.0, "host": os.uname().nodename}
    run_file("tiny").parent.mkdir(parents=True)
    run_file("tiny").write_text(json.dumps(noted))
    assert text(StatusReader(current).read()).endswith("is over")


def test_another_machines_run_is_judged_by_its_jobs(current):
    announce(Announced(current, None))
    run = json.loads(run_file("tiny").read_text())
    run_file("tiny").write_text(json.dumps({**run, "host": "node7"}))
    begin("finetune", host="node7")
    status = StatusReader(current).read()
    assert status.state == "running" and status.run.alive is None
    assert "its newest run is on node7" in text(status)
    later = StatusReader(current).read(time.time() + 600)
    assert later.state == "unseen" and "last seen 10 min ago on node7" in text(later)


def test_failures_are_listed_with_their_logs(current):
    record = {"message": "out of memory", "log": "logs/a.log", "wall_time_s": 0.0, "label": "f a"}
    work = Path("results/tiny") / CELLS[0] / "work"
    work.mkdir(parents=True)
    (work / "failure-finetune.json").write_text(json.dumps(record))
    assert "f a: out of memory (see logs/a.log)" in text(StatusReader(current).read())


def test_a_finished_study_has_nothing_left_though_data_were_removed(current):
    every = list(current.stages.all())
    make(current, every)
    reader = StatusReader(current)
    assert reader.read().state == "finished"
    Path(current.stages.download_dataset(next(iter(current.stages.datasets))).artefact).unlink()
    status = reader.read()
    assert status.state == "finished" and status.outlook is None
    assert text(status) == "tiny: finished, 18 of 18 jobs done"


def test_a_result_of_other_settings_is_left_to_make(current):
    make(current, [current.stages.finetune(name) for name in CELLS])
    path = Path(current.stages.finetune(CELLS[0]).artefact)
    made = json.loads(path.read_text())
    made["provenance"]["settings_digest"] = "0" * 64
    path.write_text(json.dumps(made))
    assert StatusReader(current).read().left["finetune"] == (1, 2)


def test_facts_for_programs_are_json_with_null_for_unknown(current):
    begin("finetune", steps=None)
    facts = json.loads(json.dumps(status_facts(StatusReader(current).read())))
    (job,) = facts["jobs"]
    assert (job["cell"], job["part"], job["loss"]) == (CELLS[0], "finetune", None)
    assert job["total"] == 80, "of the plan until the job says it"
    assert facts["left_basis"].startswith("estimated: ") and facts["run"] is None


def test_a_loss_that_is_no_number_is_null_for_programs(current):
    begin("finetune", loss=float("nan"))
    written = json.dumps(status_facts(StatusReader(current).read()), allow_nan=False)
    assert json.loads(written)["jobs"][0]["loss"] is None


def test_ended_jobs_of_the_study_correct_the_plan(current):
    reader = StatusReader(current)
    plan = reader.clock.seconds((CELLS[1], "finetune"))
    spent = {"waiting": 50, "train": 100 * plan}
    begin("finetune", ended="done", ended_s=time.time(), first_step=0, step=80, spent_s=spent)
    make(current, [current.stages.finetune(CELLS[0])])
    status = reader.read()
    assert status.outlook.measured == 1 and "corrected by 1 job" in status.outlook.basis
    assert reader.clock.seconds((CELLS[1], "finetune")) == pytest.approx(
        reader.clock.foretold((CELLS[1], "finetune"))
        * 100 * plan / reader.clock.foretold((CELLS[0], "finetune"))
        + max(0.0, 50 - 100 * plan),
        rel=0.01,
    )  # fmt: skip


def test_a_training_is_expected_to_stop_between_its_patience_and_its_last_step(current):
    reader = StatusReader(current)
    begin("finetune", step=20, first_step=0)
    status = reader.read()
    ((part, job),) = status.jobs.items()
    clock = reader.clock
    assert 0 < clock.left_of(part, job) <= clock.left_of(part, job, at_most=True)
    assert status.outlook.seconds <= status.outlook.at_most_s


def test_a_run_names_its_study_to_watchers_of_its_process(current):
    announce(Announced(current, None))
    assert announced().current is current


def test_a_run_that_is_refused_by_the_lock_of_a_living_one_takes_not_its_place(current):
    study = Announced(current, None)
    path = run_file("tiny")
    write_json(path, {"run": identified(os.getppid()), "pid": os.getppid()})
    announce(study)
    assert json.loads(path.read_text())["pid"] == os.getppid()
    for noted in ("host:1:1", "x", 3, f"{os.uname().nodename}:{os.getppid()}:0"):
        write_json(path, {"run": noted, "pid": os.getppid()})
        announce(study)
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_watching_waits_for_a_run_and_ends_with_it(current, monkeypatch):
    states = iter(["not started", "stopped", "running", "running", "stopped", "running"])
    reader = SimpleNamespace(read=lambda: SimpleNamespace(state=next(states)))
    monkeypatch.setattr(command.time, "sleep", lambda _: None)
    seen = [status.state for status in command._statuses(reader, again=True)]
    assert seen == ["not started", "stopped", "running", "running", "stopped"]
    assert len(list(command._statuses(reader, again=False))) == 1


def test_the_command_prints_lines_or_json_and_names_what_is_nearest(current):
    def status(*options):
        return CliRunner().invoke(make_app(), ["status", *options])

    assert "tiny: not started" in status("--study", "tiny").output
    assert json.loads(status("--study", "tiny", "--json").output)["state"] == "not started"
    wrong = status("--study", "tyni")
    assert wrong.exit_code == 2 and "tiny" in wrong.output
    Path("studies/tiny.yaml").write_text("title: x\nmodls: {}\n")
    broken = status("--study", "tiny")
    assert broken.exit_code == 2 and "modls" in broken.output
    assert "Traceback" not in broken.output
