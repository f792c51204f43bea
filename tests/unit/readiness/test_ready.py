"""A check names all that would be refused, and passes what would run."""

from contextlib import chdir

import pytest

from longwatt.plan.memory import CellMemory, Memory
from longwatt.readiness.findings import Findings
from longwatt.readiness.machine_room import compare_disk, compare_memory
from longwatt.readiness.ready import check_study
from tests.unit.first_study.made_rows import lines, question_rows, written


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with a study that runs; tests change copies of its files."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "rows.jsonl").write_text(lines(question_rows()))
    written(folder, folder / "rows.jsonl", study="mine")
    return folder


@pytest.fixture
def here(sound, tmp_path, monkeypatch):
    for path in (path for path in sound.rglob("*") if path.is_file()):
        copy = tmp_path / path.relative_to(sound)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def no_forecast(monkeypatch):
    """Leave out the forecast of memory, whose process takes seconds."""
    monkeypatch.setattr("longwatt.readiness.ready.check_machine", lambda *_: None)
    monkeypatch.setattr("longwatt.readiness.ready.MisspeltKeys", NoKeys)


class NoKeys:
    def __init__(self, models):
        self.models = models

    def problems(self):
        return {}


@pytest.mark.long
def test_a_sound_study_has_no_problems_and_says_what_was_looked_at(sound):
    with chdir(sound):
        found = check_study(None)
    assert found.problems == []
    said = "\n".join(found.checked)
    for part in ("42 rows of train", "memory: ", "(forecast)", "disk: ", "GPUs: ", "cells (1)"):
        assert part in said


@pytest.mark.long
def test_a_misspelt_key_of_a_model_is_found_without_building_it(here, monkeypatch):
    monkeypatch.setattr("longwatt.readiness.ready.check_machine", lambda *_: None)
    edit(here / "studies/mine.yaml", ("d_model: 64", "d_modell: 64"))
    (problem,) = check_study("mine").problems
    assert "models.tiny.config" in problem and "did you mean 'd_model'" in problem


def test_every_problem_of_the_rows_is_named_with_its_line(here, no_forecast):
    with (here / "data/train.jsonl").open("a") as stream:
        stream.write('{"report": 1}\n[1]\nnot json\n' + "{\n" * 9)
    (here / "data/test.jsonl").write_text("")
    problems = check_study(None).problems
    for words in (
        "line 43: the field 'question' is missing",
        "line 44 must be a JSON object",
        "line 45 is not JSON",
        "7 more rows cannot be used, of 54 that were read",
        "test.jsonl is empty",
    ):
        assert any(words in one and "datasets.mine" in one for one in problems), words


def test_problems_of_several_kinds_are_all_named(here, no_forecast):
    edit(
        here / "studies/mine.yaml",
        ("per_device_batch_size: 8", "per_device_batch_size: 64"),
        ("seq_lens: [32]", "seq_lens: [32, 4096]"),
        ("split: test", "split: tset"),
    )
    problems = check_study(None).problems
    assert len(problems) == 1 and "tset" in problems[0]  # no name may be wrong, to go on
    edit(here / "studies/mine.yaml", ("split: tset", "split: test"))
    problems = check_study(None).problems
    assert any("seq_len 4096 is above the model's" in one for one in problems)
    assert any("budgets.cpu has 64 examples in each step, but" in one for one in problems)
    assert len(problems) == 2


def test_all_wrong_keys_are_named_at_once(here, no_forecast):
    edit(
        here / "studies/mine.yaml",
        ("learning_rate:", "learning_rte:"),
        ("max_steps: 200", "max_steps: many"),
        ("requests: 100000", "requests: many"),
    )
    problems = check_study(None).problems
    assert len(problems) == 3
    assert "did you mean 'learning_rate'" in problems[0]


def test_entries_that_contradict_each_other_are_all_named(here, no_forecast):
    edit(
        here / "studies/mine.yaml",
        ("family: led", "family: let"),
        ("gpus: 0,", "gpus: 0, watts_per_gpu: 3,"),
        ("metric: f1", "metric: macro_f1"),
    )
    problems = check_study(None).problems
    assert [one for one in problems if "watts_per_gpu" in one]
    assert [one for one in problems if "did you mean 'led'" in one]
    assert [one for one in problems if "macro_f1 is for labels" in one]


def test_references_that_the_metric_cannot_see_are_found_before_any_job(here, no_forecast):
    edit(here / "data/test.jsonl", ('"Elbe"', '"安娜来了"'), ('"Rhine"', '"安娜"'))
    edit(here / "studies/mine.yaml", ("metric: f1", "metric: rouge"))
    (problem,) = check_study(None).problems
    assert "rouge" in problem and "choose a metric" in problem.lower()


def test_missing_files_are_named_and_other_files_still_read(here, no_forecast):
    (here / "data/validation.jsonl").unlink()
    problems = check_study(None).problems
    assert any("validation.jsonl does not exist" in one for one in problems)


def test_rows_that_stand_in_two_splits_are_a_note(here, no_forecast):
    train = (here / "data/train.jsonl").read_text().splitlines()
    with (here / "data/test.jsonl").open("a") as stream:
        stream.write(train[0] + "\n" + train[1].replace("Which river?", "Whose?") + "\n")
    found = check_study(None)
    assert not found.problems
    assert any("2 records of test have a document that train has too" in n for n in found.notes)


def test_budgets_are_compared_with_the_devices(here, no_forecast):
    edit(here / "studies/mine.yaml", ("gpus: 0,", "gpus: 2,"))
    (problem,) = check_study(None).problems
    assert "needs 2 GPU(s) but the limit is 0" in problem and "check --gpus N" in problem
    assert "--gpus N" not in check_study(None, gpus=1).problems[0]
    assert check_study(None, gpus=2).problems == []


def test_an_unknown_study_names_the_nearest(here, no_forecast):
    (problem,) = check_study("mien").problems
    assert "did you mean 'mine'" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [("study: [", "is not YAML"), ("- a\n", "expected a mapping"), ("puee: 2\n", "'pue'")],
)
def test_a_wrong_configuration_is_named(text, words, here, no_forecast):
    (here / "config.yaml").write_text(text)
    (problem,) = check_study(None).problems
    assert words in problem


def test_much_data_is_read_in_part_and_says_so(here, no_forecast, monkeypatch):
    monkeypatch.setattr("longwatt.readiness.data_rows.MOST_BYTES", 10)
    monkeypatch.setattr("longwatt.readiness.data_rows.FIRST_ROWS", 5)
    found = check_study(None)
    assert not found.problems
    assert any("only the first 5 rows of each were read (15 rows)" in one for one in found.notes)
    assert any("5 rows of train" in one and "the first of them" in one for one in found.checked)


def cell_of(gib, limit_gib=None, on_cpu=True):
    return {"a/b": CellMemory(Memory(weights=gib), {}, limit_gib, on_cpu)}


def test_memory_that_will_not_fit_is_a_problem_and_what_may_not_is_a_note():
    found = Findings()
    compare_memory("s.yaml", cell_of(100), found, 16, None)
    (problem,) = found.problems
    assert "s.yaml: cell a/b takes 100.0 GiB (forecast), but this machine has 16.0" in problem
    for cell, gpu in ((cell_of(17), None), (cell_of(9, on_cpu=False), 8), (cell_of(9, 8), None)):
        found = Findings()
        compare_memory("s.yaml", cell, found, 16, gpu)
        assert not found.problems and len(found.notes) == 1
    found = Findings()
    compare_memory("s.yaml", {}, found, 16, None)
    assert "a probe finds" in found.checked[0] and not found.notes


def test_more_disk_than_there_is_is_a_problem():
    found = Findings()
    compare_disk(10.0**9, found)
    assert "the disk is too small" in found.problems[0]
