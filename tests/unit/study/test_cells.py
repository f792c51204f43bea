"""Grids expand to cells."""

import copy

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.study.cells import (
    Cell,
    StepBatch,
    expand,
    per_device_batch_size,
    step_batch,
    wanted_batch_size,
)


@pytest.fixture
def study(tmp_path, tiny_study_text, study_schema):
    (tmp_path / "s.yaml").write_text(tiny_study_text)
    return read_study(tmp_path / "s.yaml", study_schema)


def test_a_cell_has_one_name(study):
    assert list(expand(study)) == [
        "needle/led/32/cpu/generated/seed1",
        "needle/led/64/cpu/generated/seed1",
    ]


def test_blocks_are_a_union(study):
    study["grid"].append({**study["grid"][0], "seq_lens": [64, 96]})
    assert [c.seq_len for c in expand(study).values()] == [32, 64, 96]


@pytest.mark.parametrize(
    ("axis", "plural"), [("dataset", "datasets"), ("model", "models"), ("budget", "budgets")]
)
def test_an_unknown_name_in_a_grid_names_the_nearest(study, axis, plural):
    known = next(iter(study[plural]))
    study["grid"][0][plural] = [known + "x"]
    with pytest.raises(
        StudyError,
        match=rf"grid\[0\]\.{plural}: unknown {axis} '{known}x' \(did you mean '{known}'",
    ):
        expand(study)


def test_exclusions_take_cells_away(study):
    study["exclude"] = [{"seq_len": 64, "reason": "does not fit"}]
    assert [c.seq_len for c in expand(study).values()] == [32]
    study["exclude"].append({"seq_len": 99, "reason": "never there"})
    with pytest.raises(StudyError, match=r"exclude\[1\]: unknown seq_len '99'.*known: 32, 64"):
        expand(study)
    study["exclude"] = [{"model": ["led", "ledd"], "seq_len": [64], "reason": "one of them"}]
    assert [c.seq_len for c in expand(study).values()] == [32], (
        "a list takes away what any of its values names"
    )
    study["exclude"] = [{"model": "ledd", "reason": "misspelt"}]
    with pytest.raises(
        StudyError, match=r"exclude\[0\]: unknown model 'ledd' \(did you mean 'led'\?\)"
    ):
        expand(study)


def test_a_study_whose_cells_are_all_excluded_is_refused(study):
    study["exclude"] = [{"model": "led", "reason": "no"}]
    with pytest.raises(StudyError, match="all 2 cells fall to `exclude`"):
        expand(study)


def test_a_batch_table_with_a_hole_names_cell_and_key(study):
    broken = copy.deepcopy(study)
    broken["budgets"]["cpu"]["per_device_batch_size"] = {"led": {"32": 4}}
    cell = Cell("needle", "led", 64, "cpu", "generated", 1)
    assert per_device_batch_size(broken, Cell("needle", "led", 32, "cpu", "generated", 1)) == 4
    with pytest.raises(StudyError, match=r"no entry '64', which the cell needle/led/64"):
        per_device_batch_size(broken, cell)


@pytest.mark.parametrize(
    ("most", "wanted", "gpus", "found"),
    [
        (24, 24, 1, StepBatch(24, 1, 24)),
        (10, 24, 1, StepBatch(8, 3, 24)),
        (4, 7, 1, StepBatch(4, 2, 7)),
        (1, 7, 1, StepBatch(1, 7, 7)),
        (100, 24, 1, StepBatch(24, 1, 24)),
        (9, 704, 8, StepBatch(9, 10, 704)),
    ],
)
def test_accumulation_follows_from_what_a_step_is_to_hold(most, wanted, gpus, found):
    assert step_batch(most, {"gpus": gpus, "effective_batch_size": wanted}) == found
    assert found.per_device <= most and found.per_device * found.accumulation * gpus >= wanted


def test_a_wanted_batch_is_looked_up_like_the_other_and_must_be_shared_evenly(study):
    (cell, *_) = expand(study).values()
    budget = study["budgets"]["cpu"]
    assert wanted_batch_size(study, cell) is None
    budget["effective_batch_size"] = {"led": {"32": 12, "64": 6}}
    assert wanted_batch_size(study, cell) == 12
    del budget["effective_batch_size"]["led"]["32"]
    with pytest.raises(StudyError, match=r"budgets.cpu.effective_batch_size has no entry '32'"):
        wanted_batch_size(study, cell)
    budget.update(effective_batch_size=7, processes=2)
    with pytest.raises(
        StudyError, match=r"is 7 for the cell .* but its 2 devices cannot share that evenly"
    ):
        wanted_batch_size(study, cell)
