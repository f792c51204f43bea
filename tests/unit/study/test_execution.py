"""Settings that change no result: for them no training is made again or begins anew."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longwatt.config.documents import merge
from longwatt.provenance.identity import without, work_identity
from longwatt.provenance.stamps import CONTENT, digest, stamp
from longwatt.study.cells import Cell, expand, points_of, points_of_cells
from longwatt.study.execution import EXECUTION, MAY_CHANGE
from longwatt.study.settings import (
    execution_settings,
    finetune_settings,
    predict_settings,
    record_settings,
)
from longwatt.training import finetune
from tests.labelled_study import labelled_study
from tests.tiny_cell import made_from, training_spec
from tests.unit.training.test_finetune import history, killed_at

CELL = Cell("needle", "led", 64, "cpu", "generated", 1)
FORCED = replace(CELL, protocol="teacher_forced")


CARRIED = [("log_every_steps", 3), ("checkpoint_every_s", 7.5), ("dataloader_workers", 2)]


@pytest.mark.parametrize(("name", "value"), CARRIED)
def test_how_a_training_is_carried_out_is_no_part_of_its_settings(study, name, value):
    changed = merge(study, {"models": {"led": {"training": {name: value}}}})
    assert finetune_settings(changed, CELL) == finetune_settings(study, CELL)
    assert execution_settings(changed, CELL) == {**execution_settings(study, CELL), name: value}
    assert set(execution_settings(study, CELL)) == set(EXECUTION)


def test_points_of_a_cell_are_those_of_all_cells(study):
    every = points_of_cells(study)
    assert {name: points_of(study, cell) for name, cell in expand(study).items()} == every


# By cell: a change of the study that another setting overrules.
OVERRULED = {
    "epochs where steps rule": (CELL, {"training": {"max_epochs": 7}}),
    "a warm-up that the schedule lacks": (CELL, {"training": {"warmup_ratio": 0.5}}),
    "settings of beams with a single beam": (
        CELL,
        {"generation": {"length_penalty": 2.0, "early_stopping": True}},
    ),
    "beams where nothing is generated": (
        FORCED,
        {"generation": {"num_beams": 4, "no_repeat_ngram_size": 3}},
    ),
}


@pytest.mark.parametrize("case", OVERRULED)
def test_a_setting_that_another_overrules_decides_nothing(study, case):
    cell, change = OVERRULED[case]
    constant = merge(study, {"training": {"lr_scheduler": "constant"}})
    changed = merge(constant, change)
    assert finetune_settings(changed, cell) == finetune_settings(constant, cell)
    assert predict_settings(changed, cell, "greedy") == predict_settings(constant, cell, "greedy")


def test_the_same_settings_decide_where_nothing_overrules_them(study):
    free = merge(study, {"training": {"max_steps": None}, "generation": {"num_beams": 2}})
    for change in (
        {"training": {"max_epochs": 7}},
        {"training": {"warmup_ratio": 0.5}},
        {"generation": {"length_penalty": 2.0}},
    ):
        assert finetune_settings(merge(free, change), CELL) != finetune_settings(free, CELL)


def test_where_one_text_is_answered_at_a_time_nothing_is_regrouped():
    one, other = (labelled_study(inference={"leave": {"regroup_batches": n}}) for n in (1, 8))
    cell = next(iter(training_cells(one)))
    alone, together = (
        [predict_settings(study, cell, f"leave-t0.9-b{size}") for study in (one, other)]
        for size in (1, 32)
    )
    assert alone[0] == alone[1] and together[0] != together[1]


def training_cells(study) -> list[Cell]:
    from longwatt.study.cells import expand

    layers = {name: model["exits"]["layers"] for name, model in study["models"].items()}
    return [cell for cell in expand(study).values() if len(layers[cell.model]) > 1]


def test_recording_has_a_batch_size_of_its_own_that_no_training_depends_on():
    study = labelled_study()
    small = labelled_study(calibration={"batch_size": 2})
    cell = training_cells(study)[0]
    assert record_settings(small, cell, ["test"])["batch_size"] == 2
    size = finetune_settings(study, cell)["training"]["validation"]["batch_size"]
    assert record_settings(study, cell, ["test"])["batch_size"] == size
    assert finetune_settings(small, cell) == finetune_settings(study, cell)


def test_work_is_of_one_identity_whatever_the_validations_batch_size(study, data):
    settings = [
        finetune_settings(merge(study, {"training": change}), CELL)
        for change in ({}, {"validation": {"batch_size": 2}}, {"validation": {"patience": 9}})
    ]
    stamps = [stamp("finetune", chosen, "code") for chosen in settings]
    first, smaller, other = (
        work_identity(made_by, made_from(data), MAY_CHANGE) for made_by in stamps
    )
    assert first == smaller != other
    assert stamps[0]["settings_digest"] != stamps[1]["settings_digest"], (
        "complete, it is another training"
    )
    assert work_identity(stamps[0], made_from(data))["settings"] == digest(settings[0])


def test_settings_without_some_keep_the_others_and_are_not_changed():
    given = {"a": {"b": 1, "c": 2}, "d": 3}
    assert without(given, ["a.b", "d", "x.y", "d.e"]) == {"a": {"c": 2}}
    assert given == {"a": {"b": 1, "c": 2}, "d": 3}


UNTIL = {"training": {"max_steps": 12, "checkpoint_every_s": 600, "validation": {"every_steps": 6}}}


def test_an_unfinished_training_goes_on_with_the_new_ones(study, data, tmp_path, monkeypatch):
    """As the advice has it that a job gives which ran out of memory in a validation."""
    train(study, data, tmp_path / "whole", UNTIL)
    often = merge(UNTIL, {"training": {"checkpoint_every_s": 0}})
    killed_at(monkeypatch, 7, study, data, tmp_path / "killed", often)
    change = {"log_every_steps": 5, "dataloader_workers": 1, "validation": {"batch_size": 2}}
    resumed = train(study, data, tmp_path / "killed", merge(UNTIL, {"training": change}))
    assert [attempt["from_step"] for attempt in resumed["attempts"]] == [0, 7]
    carried = [attempt["execution"] for attempt in resumed["attempts"]]
    assert [one["validation.batch_size"] for one in carried] == [6, 2]
    assert [one["log_every_steps"] for one in carried] == [2, 5] and resumed["execution"][
        "dataloader_workers"
    ] == 1
    a, b = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [
        (row["step"], row["loss"]) for row in history(tmp_path / "killed") if row["loss"] != "NA"
    ]
    assert [step for step, _ in losses] == ["2", "4", "6", "10"]
    assert all(0 < float(loss) < 10 for _, loss in losses), "each is a mean over its own steps"


def test_a_finished_training_counts_only_with_the_batch_size_that_it_validated_with(
    study, data, tmp_path
):
    spec = stamped(training_spec(study, data, tmp_path, UNTIL))
    finetune.train(spec)
    finetune.train(spec)
    assert len(attempts(tmp_path)) == 1
    change = merge(UNTIL, {"training": {"validation": {"batch_size": 2}}})
    smaller = stamped(training_spec(study, data, tmp_path, change))
    finetune.train(smaller)
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["provenance"].pop(CONTENT)
    assert facts["provenance"] == dict(smaller.provenance)
    assert [attempt["from_step"] for attempt in facts["attempts"]] == [0]


def stamped(spec):
    return replace(spec, provenance=stamp("finetune", spec.settings, "code"))


def attempts(out: Path) -> list[dict]:
    return json.loads((out / "training.json").read_text())["attempts"]


def train(study, data, out: Path, changes: dict) -> dict:
    finetune.train(training_spec(study, data, out, changes))
    return json.loads((out / "training.json").read_text())


def test_out_of_memory_the_advice_says_what_it_costs(study, data, tmp_path):
    said = finetune._advice(training_spec(study, data, tmp_path))
    assert (
        "lower training.validation.batch_size: this cell then goes on from its last checkpoint"
        in said
    )
    assert "this cell then begins anew" in said
    assert "Finished cells that a change applies to are trained again" in said
