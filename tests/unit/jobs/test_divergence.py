"""A training whose loss or weights are not finite stops, keeps what was good, and says so."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from longwatt.config.documents import merge
from longwatt.jobs import endings
from longwatt.jobs.errors import WorkerError
from longwatt.report.figures import COST_AXES, accuracy_against
from longwatt.report.tables import readable, scores_by_length
from longwatt.results.judge_claims import UNDECIDED, judge
from longwatt.training import finetune
from tests import forked
from tests.tiny_cell import training_spec
from tests.unit.report.test_figures import row, table, words
from tests.unit.report.test_tables import ROW

# The tiny cell's loss is not finite from its eighth step on; it is validated every four. With
# weights as large as that, the fast path's products overflow some steps earlier.
WILD = {
    "training": {"learning_rate": 1e4, "max_steps": 60, "checkpoint_every_s": 600},
    "model": {"attention": "stock"},
}
EARLY = merge(WILD, {"training": {"validation": {"every_steps": 20}}})


def train(study, data, out: Path, changes: dict) -> dict:
    rare = {"training": {"checkpoint_every_s": 600}}
    finetune.train(training_spec(study, data, out, merge(rare, changes)))
    return json.loads((out / "training.json").read_text())


def finite(out: Path) -> bool:
    weights = load_file(out / "model/model.safetensors")
    return all(bool(tensor.isfinite().all()) for tensor in weights.values())


WAYS = {
    "a checkpoint is due after every step": {"training": {"checkpoint_every_s": 0}},
    "none is due": {},
    "no log line comes before": {"training": {"log_every_steps": 1000}},
    "targets are given": {"protocol": "teacher_forced"},
    "micro-batches are accumulated": {"budget": {"gradient_accumulation_steps": 2}},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_stops_where_the_loss_is_not_finite_and_keeps_the_best_weights(
    study, data, tmp_path, capfd, way
):
    facts = train(study, data, tmp_path, merge(WILD, WAYS[way]))
    # Accumulated, a validation before the next step's loss is the first to see it.
    what = "the loss in validation" if "accumulated" in way else "the loss"
    assert facts["ended_by"] == "divergence" and facts["diverged_in"] == what
    # At the step itself, whatever the log interval.
    assert facts["steps"] == facts["diverged_step"] == 8
    assert facts["best_step"] == 4 and math.isfinite(facts["best_score"]) and finite(tmp_path)
    assert not facts["stopped_early"]
    said = "".join(capfd.readouterr())
    assert f"training diverged: {what} is not finite at step {facts['steps']}" in said
    assert (
        "Lower training.learning_rate (now 10000)" in said
        and "kept are the best weights before, of step 4" in said
    )
    with (tmp_path / "history.csv").open() as stream:
        *_, last = csv.DictReader(stream)
    assert (last["step"], last["score" if "accumulated" in way else "loss"]) == (
        str(facts["steps"]),
        "nan",
    )


def test_a_diverged_training_is_complete_and_run_again_takes_what_it_gave(study, data, tmp_path):
    first = train(study, data, tmp_path, WILD)
    (tmp_path / "training.json").unlink()
    assert train(study, data, tmp_path, WILD) == first and len(first["attempts"]) == 1


def test_without_weights_to_keep_it_fails_and_is_not_tried_again_alike(
    study, data, tmp_path, monkeypatch
):
    with pytest.raises(WorkerError, match="No validation before it left weights to keep") as failed:
        train(study, data, tmp_path, EARLY)
    assert "loss is not finite at step 8. Lower training.learning_rate" in str(failed.value)
    assert f"--forcerun {tmp_path / 'training.json'}" in str(failed.value)
    assert not (tmp_path / "model").exists() and not (tmp_path / "work/checkpoints").exists()
    steps = counted(monkeypatch)
    with pytest.raises(WorkerError) as again:
        train(study, data, tmp_path, EARLY)
    assert str(again.value) == str(failed.value) and not steps
    spec = training_spec(study, data, tmp_path, {"training": {"max_steps": 2}})
    finetune.train(replace(spec, identity={**spec.identity, "settings": "other"}))
    assert len(steps) == 2 and finite(tmp_path), "the advice was followed"


def test_asked_for_by_name_it_is_tried_once_more(study, data, tmp_path, monkeypatch):
    with pytest.raises(WorkerError):
        train(study, data, tmp_path, EARLY)
    steps = counted(monkeypatch)
    monkeypatch.setenv("LONGWATT_ANEW", "a command:finetune")
    for tried in (8, 8):  # what Snakemake's --retries makes of one command is one command
        with pytest.raises(WorkerError, match="diverged"):
            train(study, data, tmp_path, EARLY)
        assert len(steps) == tried
    monkeypatch.delenv("LONGWATT_ANEW")
    with pytest.raises(WorkerError, match="diverged"):
        train(study, data, tmp_path, EARLY)
    assert len(steps) == 8


def counted(monkeypatch) -> list[int]:
    """Every training step from now on."""
    steps: list[int] = []
    original = finetune.CellTrainer.training_step
    monkeypatch.setattr(
        finetune.CellTrainer,
        "training_step",
        lambda self, *args, **kwargs: steps.append(1) or original(self, *args, **kwargs),
    )
    return steps


def spoil_gradients(monkeypatch, step: int) -> None:
    """Let the loss of a step (from 1) be finite, and its gradients not."""
    original = finetune.CellTrainer.training_step

    def spoilt(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        if self.state.global_step == step - 1:
            next(p for p in self.model.parameters() if p.grad is not None).grad.fill_(math.nan)
        return loss

    monkeypatch.setattr(finetune.CellTrainer, "training_step", spoilt)


def test_weights_spoilt_by_finite_losses_are_never_the_best(study, data, tmp_path, monkeypatch):
    spoil_gradients(monkeypatch, 8)
    facts = train(study, data, tmp_path, {"training": {"max_steps": 12}})
    assert (facts["diverged_in"], facts["diverged_step"], facts["best_step"]) == ("a weight", 8, 4)
    assert facts["validations"] == 1 and finite(tmp_path)


def test_spoilt_weights_in_a_checkpoint_end_as_if_undisturbed(study, data, tmp_path, monkeypatch):
    spoil_gradients(monkeypatch, 6)
    changes = {"training": {"max_steps": 12, "checkpoint_every_s": 0}}
    whole = train(study, data, tmp_path / "whole", changes)
    spoilt = finetune.CellTrainer.training_step

    def kill(self, *args, **kwargs):
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return spoilt(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune.CellTrainer, "training_step", kill)
        train(study, data, tmp_path / "killed", changes)
    resumed = train(study, data, tmp_path / "killed", changes)
    assert [attempt["from_step"] for attempt in resumed["attempts"]] == [0, 6]
    for name in ("ended_by", "diverged_step", "diverged_in", "best_step", "best_score", "steps"):
        assert resumed[name] == whole[name]
    assert whole["diverged_step"] == 7 and finite(tmp_path / "killed")


def test_a_score_that_is_not_finite_is_never_the_best(study, data, tmp_path, monkeypatch):
    scores = iter([(1.0, 0.0), (math.inf, 0.0)])
    monkeypatch.setattr(finetune.Validator, "score", lambda self: next(scores))
    facts = train(study, data, tmp_path, {"training": {"max_steps": 40}})
    assert (facts["diverged_in"], facts["diverged_step"]) == ("the validation score", 8)
    assert (facts["best_step"], facts["best_score"]) == (4, 1.0)


@pytest.mark.parametrize("protocol", ["generated", "teacher_forced"])
def test_weights_that_are_finite_but_too_large_to_compute_with_are_never_the_best(
    study, data, tmp_path, protocol
):
    # The loss of the last step is that before its update: only the validation sees what this made.
    last = {
        "learning_rate": 1e10,
        "lr_scheduler": "constant",
        "max_steps": 1,
        "validation": {"every_steps": 1},
    }
    with pytest.raises(
        WorkerError, match="diverged: the loss in validation is not finite at step 1"
    ):
        train(study, data, tmp_path, {"protocol": protocol, "training": last})
    assert not (tmp_path / "model").exists()


def test_fp16_that_skips_every_step_ends_as_diverged(study, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "accelerate.Accelerator.optimizer_step_was_skipped", property(lambda self: True)
    )
    facts = train(
        study, data, tmp_path, {"training": {"max_steps": 60, "validation": {"patience": 60}}}
    )
    assert (facts["ended_by"], facts["diverged_step"]) == ("divergence", 25)
    assert facts["diverged_in"].startswith("a gradient") and facts["best_step"] == 4


def test_one_of_several_processes_stops_all(study, data, tmp_path, monkeypatch):
    changes = {
        "budget": {"processes": 2},
        "protocol": "teacher_forced",
        "training": {"max_steps": 12},
    }
    original = finetune.CellTrainer.compute_loss

    def fault() -> None:
        def lose(self, *args, **kwargs):
            loss = original(self, *args, **kwargs)
            return loss * math.nan if self.state.global_step == 5 else loss

        finetune.CellTrainer.compute_loss = lose

    statuses = forked.run(
        finetune.train, [training_spec(study, data, tmp_path, changes)] * 2, fault, rank=1
    )
    assert statuses == [0, 0], (tmp_path / "processes.log").read_text()
    facts = json.loads((tmp_path / "training.json").read_text())
    assert (facts["diverged_step"], facts["best_step"]) == (6, 4) and finite(tmp_path)


def test_what_only_code_raises_is_not_the_disk_s(study, data, tmp_path, monkeypatch):
    faults = {
        ValueError("not JSON compliant"): "^not JSON compliant$",
        OSError("no room"): "Free some, then run again",
    }
    for number, (fault, said) in enumerate(faults.items()):

        def fail(self, *args, fault=fault, **kwargs):
            raise fault

        with monkeypatch.context() as patch, pytest.raises(Exception, match=said):
            patch.setattr(finetune.WorkFolder, "commit_checkpoint", fail)
            train(study, data, tmp_path / str(number), {"training": {"checkpoint_every_s": 0}})


def test_the_advice_is_that_of_the_settings():
    chosen = {
        "training": {
            "learning_rate": 2e-5,
            "warmup_ratio": 0.1,
            "max_grad_norm": 1.0,
            "lr_scheduler": "linear",
        },
        "budget": {"precision": "fp16"},
    }
    said = endings.divergence_words(endings.LOSS, 300, chosen)
    assert (
        "(now 2e-05), raise training.warmup_ratio (now 0.1), lower training.max_grad_norm (now 1)"
        in said
    )
    assert said.endswith("or set the budget's precision (now fp16) to bf16 or fp32")
    assert (
        "very first" in endings.divergence_words(endings.LOSS, 1, chosen)
        and "very first" not in said
    )
    other = merge(
        chosen,
        {
            "training": {"max_grad_norm": 0, "lr_scheduler": "constant"},
            "budget": {"precision": "fp32"},
        },
    )
    said = endings.divergence_words(endings.WEIGHTS, 8, other)
    assert "a weight is not finite at step 8" in said and "gradients are not clipped" in said
    assert "one that warms up" in said and "precision" not in said


LOST = {"ended_by": "divergence", "diverged_step": 8.0, "initialisation": "checkpoint"}


def test_tables_name_what_ended_a_training_and_mark_one_that_diverged():
    rows = [
        row(**ROW, **LOST),
        row(**ROW, ended_by="max_steps", initialisation="checkpoint", seq_len=128),
        row(**ROW),
    ]
    found = readable(table(*rows), {})
    assert found["ended by"].tolist() == ["divergence at step 8", "max steps", ""]
    assert found["model"].tolist() == ["led (training diverged)", "led", "led (random weights)"]
    (scores,) = scores_by_length(table(*rows[:2]), {}).to_dict("records")
    assert scores["64"].endswith(", training diverged") and "diverged" not in scores["128"]


def test_figures_cross_such_a_point_out_and_say_why():
    time = COST_AXES["training_time"]
    figure = accuracy_against(table(row(**LOST), row(seq_len=128, train_runtime_s=20.0)), time, {})
    crosses = [line for axis in figure.axes for line in axis.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[10.0]]
    assert "crossed out: training diverged" in words(figure)
    assert "crossed out" not in words(accuracy_against(table(row(), row(seq_len=128)), time, {}))


@pytest.mark.parametrize(
    ("column", "verdict"), [("score", UNDECIDED), ("train_runtime_s", UNDECIDED), ("steps", None)]
)
def test_no_claim_is_decided_by_one(column, verdict):
    axes = {
        "dataset": "needle",
        "model": "led",
        "budget": "cpu",
        "protocol": "generated",
        "seed": 1,
    }
    cell = {**axes, "seq_len": 64, "cell": "c", "inference": "greedy", "left_out": None}
    summary = pd.DataFrame(
        [{**row(**LOST), **cell, "train_runtime_s": 10.0, "steps": 8, "attention_regime": None}]
    )
    for ended, expected in (("divergence", verdict or UNDECIDED), ("max_steps", "supported")):
        tests = [{"value": {"column": column, "below": 1000}}]
        claims = {"fast": {"statement": "It is.", "tests": tests}}
        judged = judge(summary.assign(ended_by=ended), {"claims": claims, "cells": [cell]})["fast"]
        assert set(judged["verdicts"].values()) == {expected}
        assert ("training diverged" in judged["notes"]) == (ended == "divergence")


def test_a_micro_batch_s_loss_is_looked_at_once_a_step(study, data, tmp_path, monkeypatch):
    looks = []
    original = finetune.CellTrainer._not_finite
    monkeypatch.setattr(
        finetune.CellTrainer,
        "_not_finite",
        lambda self, weights: looks.append(weights) or original(self, weights),
    )
    train(
        study,
        data,
        tmp_path,
        {"budget": {"gradient_accumulation_steps": 3}, "training": {"max_steps": 4}},
    )
    assert looks == [False, False, False, True]
