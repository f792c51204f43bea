"""The work folder: what is resumed, and what is not."""

import json
from pathlib import Path

import pytest

from longwatt.workdir import COMPLETE, WorkFolder, checkpoint_state, read_lines

IDENTITY = {"settings": "s", "code": "c", "data": "d"}


@pytest.fixture
def work(tmp_path) -> WorkFolder:
    return WorkFolder(tmp_path / "work", IDENTITY)


def save(work: WorkFolder, step: int, best: int | None) -> None:
    if best is not None:
        work.best(best).mkdir(exist_ok=True)
    folder = work.partial_checkpoint() / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "optimizer.pt").write_text("state")
    work.commit_checkpoint(folder, step, {"best_step": best})


def test_a_first_attempt_starts_from_the_beginning(work):
    assert work.begin() == (1, None, "attempt 1 starts from the beginning")


def test_a_second_attempt_resumes_at_the_last_complete_checkpoint(work):
    work.begin()
    save(work, 10, 5)
    save(work, 20, 5)
    attempt, checkpoint, sentence = WorkFolder(work.path, IDENTITY).begin()
    assert (attempt, checkpoint.name, sentence) == (2, "checkpoint-20", "attempt 2 resumes at step 20")
    assert checkpoint_state(checkpoint) == {"best_step": 5}
    assert [start["from_step"] for start in work.starts()] == [0, 20]


def test_a_torn_checkpoint_is_passed_over(work):
    work.begin()
    save(work, 10, 5)
    save(work, 20, 5)
    (work.checkpoints / "checkpoint-20" / COMPLETE).write_text('{"step": 2')
    assert work.begin()[1].name == "checkpoint-10"


def test_a_checkpoint_whose_best_weights_are_gone_is_passed_over(work):
    work.begin()
    save(work, 10, 5)
    save(work, 20, 15)
    work.best(15).rmdir()
    assert work.begin()[1].name == "checkpoint-10"


def test_two_checkpoints_are_kept_and_the_best_weights_they_need(work):
    work.begin()
    for step, best in ((10, 5), (20, 5), (30, 25), (40, 35)):
        save(work, step, best)
    assert sorted(p.name for p in work.checkpoints.iterdir()) == ["checkpoint-30", "checkpoint-40"]
    assert sorted(p.name for p in work.path.glob("best-*")) == ["best-25", "best-35"]


def test_weights_of_a_lost_future_are_dropped(work):
    work.begin()
    save(work, 10, 5)
    work.best(12).mkdir()
    (work.path / "best-14.part").mkdir()
    work.begin()
    assert [p.name for p in work.path.glob("best-*")] == ["best-5"]


@pytest.mark.parametrize("part", ["settings", "code", "data"])
def test_work_of_another_identity_is_never_continued(work, part):
    work.begin()
    save(work, 10, 5)
    other = WorkFolder(work.path, {**IDENTITY, part: "other"})
    attempt, checkpoint, sentence = other.begin()
    assert (attempt, checkpoint) == (1, None)
    assert f"other {part}" in sentence
    assert not list(work.path.glob("best-*"))


def test_completed_work_starts_anew_and_a_lock_stays(work):
    attempt, _, _ = work.begin()
    save(work, 10, 5)
    (work.path / "lock").write_text("held")
    work.finish(attempt)
    assert not work.checkpoints.exists()
    assert read_lines(work.attempts_log)[-1]["status"] == "completed"
    assert work.begin()[:2] == (1, None)
    assert (work.path / "lock").read_text() == "held"


def test_a_torn_line_is_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"a": 1}) + '\n{"b": ')
    assert read_lines(path) == [{"a": 1}]
    assert read_lines(Path("absent")) == []
