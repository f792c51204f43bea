"""How far a job is, by its record: counts, time left, and whether it still runs."""

import json
import os
import subprocess
import time

import pytest

from longwatt.processes import started
from longwatt.progress_record import FILE
from longwatt.watch.job_progress import SEEN_WITHIN_S, read_progress, work_folder

NOW = 1_000_000.0


def write(folder, seen_s=NOW, **facts):
    known = {
        "label": "finetune a", "pid": os.getpid(), "started": started(os.getpid()),
        "host": os.uname().nodename, "began_s": NOW - 100, "phase": "train", "entered_s": NOW - 10,
        "at_s": seen_s, "step": 30, "first_step": 10, "steps": 100, "validated": 2,
        "spent_s": {"waiting": 5, "load": 8, "train": 30, "validation": 6, "checkpoint": 0},
        "scores": [[10, 20.0], [20, 25.0], [30, 24.0]],
    }  # fmt: skip
    path = folder / FILE
    path.write_text(json.dumps({**known, **facts}))
    os.utime(path, (seen_s, seen_s))
    return folder


def test_the_time_left_is_that_of_steps_and_validations_at_the_pace_so_far(tmp_path):
    job = read_progress(write(tmp_path), NOW, every=10)
    # 20 steps took 30 + 10 s, a validation 3 s; 70 steps and 7 validations are left.
    assert job.at_most_s == pytest.approx(70 * 2 + 7 * 3)
    assert (job.state, job.done, job.total, job.share) == ("running", 30, 100, 0.3)
    assert (job.best, job.stale_validations) == ((20, 25.0), 1)


def test_unknown_is_none(tmp_path):
    job = read_progress(write(tmp_path, steps=None, scores=[], step=10), NOW)
    assert (job.total, job.share, job.at_most_s, job.best, job.loss) == (None,) * 5
    assert read_progress(write(tmp_path, steps=None), NOW, steps=60).total == 60


def test_a_prediction_counts_batches(tmp_path):
    made = {"label": "predict a", "phase": "generate", "batches": 50, "spent_s": {"generate": 10}}
    job = read_progress(write(tmp_path, **made), NOW)
    assert job.at_most_s == pytest.approx(20 * 20 / 20)


def test_a_job_of_this_machine_runs_as_long_as_its_process(tmp_path):
    assert read_progress(write(tmp_path, seen_s=NOW - 9999), NOW).state == "running"
    job = read_progress(write(tmp_path, seen_s=NOW - 180, started=1), NOW)
    assert (job.state, NOW - job.seen_s) == ("gone", 180)


def test_a_zombie_runs_no_more(tmp_path):
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
        facts = {"pid": process.pid, "started": started(process.pid)}
        assert facts["started"] is not None
        assert read_progress(write(tmp_path, **facts), NOW).state == "gone"


@pytest.mark.parametrize(("ago", "state"), [(SEEN_WITHIN_S - 1, "running"), (300, "not seen")])
def test_a_job_of_another_node_is_judged_by_its_last_sign_of_life(tmp_path, ago, state):
    assert read_progress(write(tmp_path, seen_s=NOW - ago, host="node7"), NOW).state == state


@pytest.mark.parametrize("text", ["", "{", "[]", '{"began_s": 1}', '{"began_s": "x", "at_s": 1}'])
def test_a_torn_or_foreign_record_is_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read_progress(tmp_path, NOW) is None
    assert read_progress(tmp_path / "missing", NOW) is None


def test_an_ended_job_says_how_long_it_took_without_waiting(tmp_path):
    job = read_progress(write(tmp_path, ended="done", ended_s=NOW - 10), time.time())
    assert (job.state, job.job_s) == ("done", 90 - 5)
    assert job.computed_s == 36


def test_every_part_has_the_work_folder_of_its_rule(root, tmp_path):
    rules = "\n".join(path.read_text() for path in (root / "workflow/rules").glob("*.smk"))
    for part, rule in (("finetune", ""), ("predict/x", "/predict-x"), ("exits", "/record_exits")):
        assert str(work_folder(tmp_path, "c", part)) == f"{tmp_path}/c/work{rule}"
        assert (
            f'work="results/{{study}}/{{cell}}/work{rule}"'.replace("-x", "-{inference}") in rules
        )
