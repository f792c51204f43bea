"""The work folder resumes sound work of the same identity, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from longwatt.jobs.work_folder import COMPLETE, WorkFolder, checkpoint_state, read_lines

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
    assert (attempt, checkpoint.name) == (2, "checkpoint-20")
    assert sentence == "attempt 2 resumes at step 20"
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
    finish(work, attempt)
    assert not work.checkpoints.exists()
    assert read_lines(work.attempts_log)[-1]["status"] == "completed"
    assert work.begin()[:2] == (1, None)
    assert (work.path / "lock").read_text() == "held"
    assert not work.result.exists()


def finish(work: WorkFolder, attempt: int) -> None:
    part = work.path / "result.part"
    part.mkdir()
    (part / "training.json").write_text("{}")
    work.finish(attempt, part)


def test_a_result_is_there_for_its_own_identity_only(work):
    attempt, _, _ = work.begin()
    assert not work.has_result()
    finish(work, attempt)
    assert WorkFolder(work.path, IDENTITY).has_result()
    other = WorkFolder(work.path, {**IDENTITY, "weights": "w"})
    assert not other.has_result()
    other.begin()
    assert not other.has_result() and not WorkFolder(work.path, IDENTITY).has_result()


def test_a_removal_that_was_killed_is_repeated_and_never_mistaken_for_work(work, monkeypatch):
    work.begin()
    save(work, 90, 80)
    other = WorkFolder(work.path, {**IDENTITY, "settings": "other"})
    removed = []

    def killed(path, *args, **kwargs):
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        rmtree(path, *args, **kwargs)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        other.begin()
    monkeypatch.undo()
    assert other.begin()[:2] == (1, None)
    assert not list(work.path.glob("best-*")) and not list(work.checkpoints.iterdir())


def test_another_training_s_checkpoint_neither_resumes_nor_displaces_one_s_own(work):
    work.begin()
    save(work, 90, None)
    # As a removal by hand, or an older version, could leave it.
    (work.path / "attempts.jsonl").unlink()
    mine = WorkFolder(work.path, {**IDENTITY, "settings": "other"})
    assert mine.begin()[:2] == (1, None)
    for step in (10, 20):
        save(mine, step, None)
    kept = sorted(path.name for path in mine.checkpoints.iterdir())
    assert kept == ["checkpoint-10", "checkpoint-20"]
    assert mine.begin()[1].name == "checkpoint-20"


def test_a_torn_line_is_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"event": "start"}) + '\n{"b": ')
    assert read_lines(path) == [{"event": "start"}]
    assert read_lines(Path("absent")) == []
