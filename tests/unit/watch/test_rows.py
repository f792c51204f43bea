"""Lines of progress: what they say, and that they fit the terminal."""

import io

import pytest
from rich.console import Console

from longwatt.watch.drawing import ProgressRows
from longwatt.watch.job_progress import read_progress
from longwatt.watch.rows import ProgressRow, job_row, short_names
from tests.unit.watch.test_job_progress import NOW, write


def text_of(rows, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(ProgressRows(rows), end="")
    return stream.getvalue().splitlines()


def row(folder, part="finetune", **facts) -> ProgressRow:
    return job_row("needle/led/32", part, read_progress(write(folder, **facts), NOW), NOW)


def test_a_training_shows_its_steps_its_loss_and_the_most_that_is_left(tmp_path):
    shown = row(tmp_path, loss=2.345, lr=1e-5)
    assert shown.words == "step 30/100  loss 2.35  best 25"
    assert (shown.left, shown.share) == ("≤ 2 min", 0.3)


def test_a_validation_shows_which_batch_of_how_many(tmp_path):
    shown = row(tmp_path, phase="validation", count=4, groups=7)
    assert shown.words == "validates 3/7, step 30/100"
    assert row(tmp_path, phase="validation", count=1).words == "validates 0, step 30/100"


def test_a_prediction_shows_its_point_and_batches(tmp_path):
    made = {"label": "predict a", "phase": "generate", "batches": 50, "scores": []}
    shown = row(tmp_path, "predict/greedy", **made)
    assert (shown.name, shown.words) == ("needle/led/32 greedy", "batch 30/50")


def test_a_job_that_was_killed_or_is_silent_is_said_to_be(tmp_path):
    assert row(tmp_path, started=1, seen_s=NOW - 180).words == "last seen 3 min ago, process gone"
    lost = row(tmp_path, host="node7", seen_s=NOW - 180)
    assert lost.words == "last seen 3 min ago on node7"
    assert row(tmp_path, seen_s=NOW - 300).left == "silent 5 min"


def test_only_a_job_that_saved_is_said_to_have_saved(tmp_path):
    assert row(tmp_path, ended="stopped", ended_s=NOW).words == "stopped at step 30/100, saved"
    cut = row(tmp_path, ended="interrupted", ended_s=NOW)
    assert cut.words == "interrupted at step 30/100"
    waited = {"phase": "waiting", "step": None, "ended_s": NOW}
    for how in ("stopped", "interrupted"):
        assert row(tmp_path, ended=how, **waited).words == "stopped before its first step"


LONG = "squad_articles/bigbird_pegasus_large/16384/eight_gpus/generated/seed1 greedy_of_four_beams"


@pytest.mark.parametrize("width", [30, 60, 80, 100, 200])
def test_lines_fit_the_terminal_and_lose_no_number_where_there_is_room(width):
    rows = [
        ProgressRow(LONG, 0.5, "step 1200/24000  loss 2.31  best 41.2", "≤ 25 min"),
        ProgressRow("short", None, "loads 3 s", "", "dim"),
        ProgressRow("study", 1.0, "40 of 72 jobs, end estimated", "≈ 3 h"),
    ]
    lines = text_of(rows, width)
    assert len(lines) == 3 and max(map(len, lines)) <= width
    if width >= 80:
        assert "step 1200/24000" in lines[0] and "≤ 25 min" in lines[0]
        assert lines[0].startswith("squad_") and "beams" in lines[0]
        assert lines[2].index("40 of") == lines[0].index("step")


def test_a_bar_is_filled_by_its_share():
    (half,) = text_of([ProgressRow("a", 0.5, "", "")], 100)
    assert half.count("━") == half.count("─") == 8
    (none,) = text_of([ProgressRow("a", None, "words", "")], 100)
    assert "━" not in none and "─" not in none


def test_names_lose_only_what_all_have_in_common_at_their_end():
    names = short_names(["needle/led/32/cpu/g/seed1", "needle/led/64/cpu/g/seed1"])
    assert list(names.values()) == ["needle/led/32", "needle/led/64"]
    assert short_names(["a/b/c"]) == {"a/b/c": "a/b/c"}
    assert list(short_names(["a/1", "b/1"]).values()) == ["a", "b"]
