"""Kept work alone is billed, wherever a training or an inference dies (at constant power)."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from longwatt.config.documents import merge
from longwatt.energy.log import runs
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.inference import batch_progress, predict, predictor, record_exits
from longwatt.inference.batch_store import BatchStore
from longwatt.jobs.work_folder import WorkFolder
from longwatt.jobs.worker import Spec
from longwatt.models.family import Example
from longwatt.training import finetune, validation
from tests import forked
from tests.constant_power import WATTS, has_gpus, meter
from tests.tiny_cell import IDENTITY, inference_spec, run_files, training_spec

SLOW_S = 0.01  # a batch, so that one can be cut in its middle


def before(owner: type, name: str, number: int, signal_: signal.Signals, after: bool = False):
    """A fault: this process gets a signal before (or after) a method's nth call."""

    def set_up() -> None:
        original, calls = getattr(owner, name), []

        def instead(*args, **kwargs):
            calls.append(1)
            if len(calls) == number and not after:
                os.kill(os.getpid(), signal_)
                time.sleep(0.05)
            result = original(*args, **kwargs)
            if len(calls) == number and after:
                os.kill(os.getpid(), signal_)
                time.sleep(0.05)
            return result

        setattr(owner, name, instead)

    return set_up


def inside(number: int, signal_: signal.Signals):
    """A fault: this process gets a signal in the middle of its nth batch, warm-up included."""

    def set_up() -> None:
        original, calls = predictor.Predictor._predict_batch, []

        def instead(self, chosen):
            calls.append(1)
            if len(calls) == number:
                threading.Timer(SLOW_S / 2, os.kill, (os.getpid(), signal_)).start()
            return original(self, chosen)

        predictor.Predictor._predict_batch = instead

    return set_up


@pytest.fixture(scope="module")
def model(study, data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model")
    finetune.train(training_spec(study, data, out, {"training": {"max_steps": 2}}))
    return out / "model"


@pytest.fixture(autouse=True)
def slow_batches(monkeypatch):
    original = predictor.autocast

    def slow(*args):
        rank = int(os.environ.get("RANK", "0"))
        time.sleep(SLOW_S * (1 + 2 * rank))  # each process at its own pace
        return original(*args)

    monkeypatch.setattr(predictor, "autocast", slow)
    monkeypatch.setattr(batch_progress, "WRITE_EVERY_S", 0.03)


class Inference:
    """An inference on GPUs that draw a constant power, in forked processes.

    Args:
        given: study, data, model and out.
        processes: number of processes, each with a GPU.
        batch_size: of each.
    """

    def __init__(self, *given, processes: int = 1, batch_size: int = 1) -> None:
        self.given, self.out, self.processes = given, given[-1], processes
        point = {"batch_size": batch_size, "split": "train", "max_examples": 24}
        point["warmup_batches"] = 1
        self.changes = {"budget": {"processes": processes}, "inference": point}
        self.spec = None

    def attempt(self, fault=None, rank: int = 0) -> list[int]:
        self.spec = inference_spec(*self.given, self.changes)
        has_gpus(self.spec.energy_log, self.processes)
        statuses = forked.run(predict.infer, [self.spec] * self.processes, fault, rank)
        meter(self.spec.energy_log)
        return statuses

    @property
    def seconds(self) -> dict[int, float]:
        text = (self.out / "predictions.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        return {row["batch"]: row["batch_seconds"] for row in rows}

    def must_bill_what_it_kept(self) -> dict:
        facts = json.loads((self.out / "inference.json").read_text())
        found = summarize_log(runs(self.out / "work"))
        assert found["energy_j"] == pytest.approx(WATTS * sum(self.seconds.values()), rel=2e-3)
        assert found["duration_s"] == pytest.approx(facts["inference_runtime_s"], rel=1e-6)
        assert found["mean_power_w"] * found["duration_s"] == pytest.approx(found["energy_j"])
        assert found["phases"]["generate"]["energy_j"] == found["energy_j"]
        spent = sum(p["duration_s"] for p in (*found["phases"].values(), found["wasted"]))
        if self.processes == 1:
            marked = sum(interval["end_s"] - interval["start_s"] for interval in found["timeline"])
            assert spent == pytest.approx(marked), "every second is somebody's, and nobody's twice"
        return found


K, T = signal.SIGKILL, signal.SIGTERM
DEATHS = {
    "before some batches are written": [before(BatchStore, "add", 3, K)],
    "between writing and marking": [before(BatchStore, "add", 3, K, after=True)],
    "inside a batch": [inside(9, K)],
    "asked inside a batch": [inside(9, T)],
    "asked as batches are written": [before(BatchStore, "add", 3, T)],
    "inside warm-up": [inside(1, K)],
    "asked inside warm-up": [inside(1, T)],
    "four times": [inside(6, K), inside(4, T), before(BatchStore, "add", 2, K), inside(2, T)],
    "writing the results": [before(predict, "_write", 1, K)],
    "saying what was kept": [before(batch_progress.Progress, "account", 1, K)],
}


@pytest.mark.parametrize("death", DEATHS)
def test_an_inference_bills_the_batches_that_it_keeps(study, data, model, tmp_path, death):
    cell = Inference(study, data, model, tmp_path)
    for fault in DEATHS[death]:
        assert cell.attempt(fault)[0] in (-K, forked.STOPPED)
    assert cell.attempt() == [0]
    found = cell.must_bill_what_it_kept()
    assert found["wasted"]["duration_s"] > 0 and len(cell.seconds) == 24


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("signal_", [K, T])
def test_processes_that_got_differently_far_are_billed_for_their_own(
    study, data, model, tmp_path, rank, signal_
):
    cell = Inference(study, data, model, tmp_path, processes=2)
    cell.attempt(inside(5, signal_), rank)
    assert cell.attempt() == [0, 0]
    cell.must_bill_what_it_kept()


def test_batches_that_a_power_loss_took_are_billed_once(study, data, model, tmp_path):
    cell = Inference(study, data, model, tmp_path)
    cell.attempt(inside(14, K))
    (path,) = (tmp_path / "work").glob("batches-*.jsonl")
    lines = [line for line in path.read_text().splitlines() if line]
    # As a journal may leave it.
    path.write_text("\n".join([*lines[:4], lines[4][:40], "\0" * 300]))
    assert cell.attempt() == [0]
    cell.must_bill_what_it_kept()


def test_large_batches_are_billed_alike(study, data, model, tmp_path):
    cell = Inference(study, data, model, tmp_path, batch_size=5)
    cell.attempt(inside(4, K))
    assert cell.attempt() == [0]
    cell.must_bill_what_it_kept()


def test_what_a_lost_end_of_the_log_hides_counts_with_the_mean_of_the_rest_or_leaves_na(
    study, data, model, tmp_path
):
    cell = Inference(study, data, model, tmp_path)
    assert cell.attempt() == [0]
    log = Path(cell.spec.energy_log)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line]
    ((kept),) = [line for line in lines if "kept" in line]
    windows = kept["kept"][0]["windows"]
    for lost, flagged in ((1, True), (12, False)):  # of 24 batches
        until = windows[-lost][0]
        left = [line for line in lines if "kept" in line or line["t"] <= until]
        log.write_text("".join(json.dumps(line) + "\n" for line in left))
        meter(cell.spec.energy_log, until)
        found = summarize_log(runs(tmp_path / "work"))
        whole = WATTS * sum(cell.seconds.values())
        assert found["energy_j"] == (pytest.approx(whole, rel=2e-3) if flagged else None)
        assert ("gap" in found["flags"]) is flagged
        assert any("s of the batches that are kept" in problem for problem in found["problems"])
        assert found["duration_s"] == pytest.approx(sum(cell.seconds.values()))


class Stub:
    """A model with exits that takes its time."""

    def to(self, device):
        return self

    def eval(self):
        return self

    def build(self, *args):
        return self

    def collate(self, chosen, *args):
        return {"input_ids": torch.zeros(len(chosen), 1)}

    def exit_logits(self, model, batch):
        return torch.zeros(2, len(batch["input_ids"]), 2)


FAULTS = {
    "inside a batch": before(record_exits, "autocast", 9, K),
    "asked inside a batch": before(record_exits, "autocast", 9, T),
    "between writing and marking": before(BatchStore, "add", 2, K, after=True),
}


@pytest.mark.parametrize("death", FAULTS)
def test_recording_what_exits_say_bills_what_it_keeps(tmp_path, monkeypatch, death):
    examples = [Example(f"e{n}", [1, 2], [0], ("good",)) for n in range(24)]
    parts = [record_exits.RecordedPart("test", examples, [n]) for n in range(24)]
    for name, value in {
        "_parts": lambda spec: iter(parts), "load_tokenizer": lambda path: None,
        "load_family": lambda name: Stub(),
        "autocast": predictor.autocast,
    }.items():  # fmt: skip
        monkeypatch.setattr(record_exits, name, value)
    monkeypatch.setattr(batch_progress, "repair_tokens", lambda paths: None)
    (tmp_path / "config.json").write_text(json.dumps({"labels": ["good", "bad"], "layers": [0, 1]}))
    paths = {"model": str(tmp_path), "work": str(tmp_path / "work")}
    paths |= {"logits": str(tmp_path / "logits.jsonl"), "exits": str(tmp_path / "exits.json")}
    budget = {"gpus": 0, "precision": "fp32", "memory_gib_per_gpu": None}
    settings = {"budget": budget, "family": "stub", "seq_len": 2, "splits": ["test"]}
    settings["padding"] = "longest"
    for fault in (FAULTS[death], None):
        spec = Spec(settings, paths, IDENTITY, {}, *run_files(tmp_path))
        has_gpus(spec.energy_log, 1)
        statuses = forked.run(record_exits.record_exits, [spec], fault)
        meter(spec.energy_log)
        said = (tmp_path / "processes.log").read_text()
        assert statuses[0] in ((-K, forked.STOPPED) if fault else (0,)), said
    found = summarize_log(runs(tmp_path / "work"))
    stored = BatchStore(tmp_path / "work", IDENTITY, 0).kept()
    assert len(stored) == 24 and len((tmp_path / "logits.jsonl").read_text().splitlines()) == 24
    seconds = sum(batch["took"].seconds for batch in stored.values())
    assert found["duration_s"] == pytest.approx(seconds)
    assert found["energy_j"] == pytest.approx(WATTS * seconds, rel=2e-3)
    assert found["wasted"]["duration_s"] > 0


# Trainings: the ledger, which training.json is written from, and the log speak of the same time.


class Training:
    """A training on a GPU that draws a constant power."""

    def __init__(self, study: dict, data: Path, out: Path, changes: dict | None = None) -> None:
        fixed = {"max_steps": 8, "checkpoint_every_s": 1000}
        settings = {"training": {**fixed, "validation": {"every_steps": 2, "patience": 9}}}
        self.given, self.changes, self.out = (study, data, out), merge(settings, changes or {}), out

    def attempt(self, fault=None) -> list[int]:
        spec = training_spec(*self.given, self.changes)
        has_gpus(spec.energy_log, 1)
        statuses = forked.run(finetune.train, [spec], fault)
        meter(spec.energy_log)
        return statuses

    def must_agree(self) -> dict:
        facts = json.loads((self.out / "training.json").read_text())
        found = summarize_log(runs(self.out / "work"))
        for phase in ("train", "validation", "checkpoint"):
            logged = found["phases"].get(phase, {"duration_s": 0.0})
            assert facts[f"{phase}_s"] == pytest.approx(logged["duration_s"], abs=0.01), phase
        assert facts["train_runtime_s"] == pytest.approx(found["duration_s"], abs=0.015)
        billed = WATTS * facts["train_runtime_s"]
        assert found["energy_j"] == pytest.approx(billed, abs=0.015 * WATTS)
        return found


@pytest.fixture
def slow_validations(monkeypatch):
    original = validation.Validator._headline

    def slow(self, predictions):
        time.sleep(0.2)
        return original(self, predictions)

    monkeypatch.setattr(validation.Validator, "_headline", slow)


def test_a_validation_that_is_made_up_for_is_billed_once(study, data, tmp_path, slow_validations):
    cell = Training(study, data, tmp_path)
    assert cell.attempt(before(validation.Validator, "_predictions", 2, T)) == [forked.STOPPED]
    for number in (1, 2):  # each makes up for the validation, and dies before its next checkpoint
        assert cell.attempt(before(finetune.CellTrainer, "training_step", number, K)) == [-K]
    assert cell.attempt() == [0]
    found = cell.must_agree()
    assert found["wasted"]["duration_s"] > 2 * 0.2, "what two attempts made up for in vain"


COMMIT = (WorkFolder, "commit_checkpoint", 2, K)
PLACES = {
    "a checkpoint that is durable and not counted": before(WorkFolder, "note_times", 2, K),
    "a checkpoint that is not durable": before(*COMMIT),
    "a checkpoint that is durable and not marked": before(*COMMIT, after=True),
    "the best weights": before(WorkFolder, "keep_best", 1, K),
    "a validation": before(validation.Validator, "_predictions", 3, K),
    "a step": before(finetune.CellTrainer, "training_step", 5, K),
    "a step, asked": before(finetune.CellTrainer, "training_step", 5, T),
    "the result": before(WorkFolder, "finish", 1, K),
}


@pytest.mark.parametrize("place", PLACES)
def test_ledger_and_log_agree_wherever_a_training_dies(study, data, tmp_path, place):
    changes = {"training": {"checkpoint_every_s": 0, "max_steps": 6}}
    cell = Training(study, data, tmp_path, changes)
    assert cell.attempt(PLACES[place])[0] in (-K, forked.STOPPED)
    assert cell.attempt() == [0]
    cell.must_agree()


def test_writing_the_best_weights_validates_nothing(study, data, tmp_path, monkeypatch):
    original = WorkFolder.keep_best

    def slow(self, *args):
        time.sleep(0.3)
        return original(self, *args)

    monkeypatch.setattr(WorkFolder, "keep_best", slow)
    cell = Training(study, data, tmp_path, {"training": {"max_steps": 2}})
    assert cell.attempt() == [0]
    cell.must_agree()
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["validations"] == 1 and facts["checkpoint_s"] >= 0.3 > facts["validation_s"]
