"""The record of a job's progress: it says what workers do, and nothing of it stops a job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longwatt import progress_record
from longwatt.files import read_object
from longwatt.progress_record import FILE, ProgressRecord, recorded_job
from longwatt.watch.job_progress import read_progress


@pytest.fixture
def record(tmp_path) -> ProgressRecord:
    with recorded_job(tmp_path, "finetune a", ()):
        return ProgressRecord(tmp_path / FILE)


def train(record: ProgressRecord, first: int, steps: int) -> None:
    record.enter("train", first)
    for _ in range(steps):
        record.beat()


def validate(record: ProgressRecord, step: int, groups: int, score: float) -> None:
    record.enter("validation", step)
    for _ in range(groups + 1):  # asked before each group and behind the last
        record.beat()
    record.hear(f"step {step}/40  score {score:g}  seconds 3")


def test_steps_are_counted_from_where_training_goes_on(record):
    train(record, first=10, steps=3)
    assert (record.facts["step"], record.facts["first_step"]) == (13, 10)
    record.hear("step 14/40  loss 2.5  lr 1e-05  seconds 3.2")
    assert {k: record.facts[k] for k in ("step", "steps", "loss", "lr")} == {
        "step": 14, "steps": 40, "loss": 2.5, "lr": 1e-5,
    }  # fmt: skip
    record.beat()
    assert record.facts["step"] == 15


def test_a_validation_counts_its_groups_also_where_weights_are_written_in_between(record):
    train(record, 0, 5)
    record.enter("validation", 5)
    for _ in range(4):
        record.beat()
    assert (record.facts["step"], record.facts["count"]) == (5, 4), "steps do not go on"
    record.enter("checkpoint", 5)
    record.enter("validation", 5)
    assert record.facts["count"] == 4
    record.hear("step 5/40  score 31.5  seconds 9")
    assert (record.facts["groups"], record.facts["scores"]) == (3, [[5, 31.5]])
    record.enter("train", 5)
    record.enter("validation", 10)
    assert record.facts["count"] == 0


def test_scores_of_steps_that_are_trained_again_are_forgotten(tmp_path):
    with recorded_job(tmp_path, "finetune a", ()):
        first = ProgressRecord(tmp_path / FILE)
        for step in (10, 20, 30):
            validate(first, step, 2, score=step)
        first.write()
    with recorded_job(tmp_path, "finetune a", ()):
        second = ProgressRecord(tmp_path / FILE)
        assert [step for step, _ in second.facts["scores"]] == [10, 20, 30]
        second.enter("load", 20)
        second.enter("train", 20)
        assert [step for step, _ in second.facts["scores"]] == [10, 20]


def test_batches_are_counted_and_their_number_is_heard(record):
    record.hear("12 examples in 3 batches, 1 of them predicted by an earlier attempt")
    record.enter("generate", 1)
    record.beat()
    record.enter("generate", 2)  # as every ten seconds, when batches reach the disk
    assert (record.facts["step"], record.facts["batches"]) == (2, 3)
    assert record.facts["first_step"] == 1


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (None, "done"),
        (SystemExit, "stopped"),
        (KeyboardInterrupt, "interrupted"),
        (ValueError, "failed"),
    ],
)
def test_the_record_says_how_the_job_ended(tmp_path, error, how):
    def work():
        with recorded_job(tmp_path, "predict a", (SystemExit,)):
            assert "ended" not in read_object(tmp_path / FILE)
            ProgressRecord(tmp_path / FILE).enter("generate", 7)
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    facts = read_object(tmp_path / FILE)
    assert (facts["ended"], facts["step"], facts["label"]) == (how, 7, "predict a")
    assert facts["pid"] == os.getpid()


def test_the_file_is_written_at_most_once_a_second(record, monkeypatch):
    written = []
    monkeypatch.setattr(ProgressRecord, "write", lambda self: written.append(1))
    record.facts["phase"], record._written = "train", progress_record.time.monotonic()
    for _ in range(1000):
        record.beat()
    assert not written and record.facts["step"] == 1000


def test_a_file_that_cannot_be_written_stops_no_job(tmp_path):
    gone = tmp_path / "gone" / FILE
    record = ProgressRecord(gone)
    train(record, 0, 2)
    record.write()
    assert record.facts["step"] == 2 and not gone.parent.exists()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_worker_of_a_job_writes(tmp_path, rank):
    """Phases, questions and lines of a worker reach the record without its knowing."""
    code = (
        "from longwatt.energy.marks import Marker; from longwatt.jobs import sigterm\n"
        "from longwatt.progress import say; m = Marker(None)\n"
        "m.mark('train', step=0); sigterm.asked(); sigterm.asked(); say('step 2/9  loss 1.5')\n"
        "m.mark('finish', step=2)"
    )
    path = tmp_path / FILE
    environment = {**os.environ, "RANK": rank, progress_record.VARIABLE: str(path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    if rank == "0":
        facts = json.loads(path.read_text())
        assert (facts["step"], facts["steps"], facts["loss"]) == (2, 9, 1.5)
    assert path.exists() == (rank == "0")


def test_without_a_job_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress_record.count_beat()
    progress_record.hear_line("step 2/9  loss 1.5")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "damaged",
    [
        {"scores": None}, {"scores": [[1, "x"]]}, {"scores": [3]}, {"spent_s": [1]},
        {"spent_s": {"load": None}}, {"step": "x"}, {"phase": "load", "entered_s": None},
        {"phase": ["load"]}, {"count": {}}, {"steps": "many", "groups": []}, {"began_s": "today"},
    ],
)  # fmt: skip
def test_what_a_record_of_another_version_holds_stops_no_job_and_no_watcher(tmp_path, damaged):
    path = tmp_path / FILE
    path.write_text(json.dumps(damaged))
    with recorded_job(tmp_path, "finetune a", ()):
        path.write_text(json.dumps({**read_object(path), **damaged}))
        worker = ProgressRecord(path)
        train(worker, first=0, steps=2)
        validate(worker, step=2, groups=1, score=50)
        worker.write()
        assert worker.facts["scores"] == [[2, 50.0]]
        path.write_text(json.dumps({**read_object(path), **damaged}))
        read_progress(tmp_path, steps=40, every=2)
    assert read_object(path)["ended"] == "done"
