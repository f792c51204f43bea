"""Killed or stopped trainings and inferences end as undisturbed ones do, to the bit."""

import csv
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longwatt.config.documents import merge
from longwatt.energy.log import runs
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.inference import batch_progress
from longwatt.inference import predict as inference_predict
from longwatt.inference.batch_store import BatchStore
from longwatt.jobs import distributed
from longwatt.jobs.work_folder import WorkFolder, read_lines
from longwatt.processes import children
from longwatt.results import scoring
from longwatt.study.settings import COMPARISON_DEFAULTS
from longwatt.training import finetune, validation
from tests import forked
from tests.tiny_cell import inference_spec, made_from, training_spec

# Dropout, so that every process's own random state must come back. Uneven batches end each epoch.
CELL = {
    "model": {"config": {"dropout": 0.3}},
    "budget": {"per_device_batch_size": 3},
    "training": {
        "max_steps": 30,
        "checkpoint_every_s": 0,
        "log_every_steps": 7,
        "validation": {"every_steps": 6, "patience": 9, "max_examples": 7, "batch_size": 2},
    },
}
COUNTS = ("samples", "input_tokens", "padded_input_tokens", "target_tokens", "steps", "best_step",
          "best_score", "validations", "epochs", "without_improvement",
          "effective_batch_size")  # fmt: skip


def before(owner: type, name: str, number: int, signal_: signal.Signals):
    """Return a fault: a signal to this process at the nth call of a method."""

    def set_up() -> None:
        original, calls = getattr(owner, name), []

        def instead(*args, **kwargs):
            calls.append(1)
            if len(calls) == number:
                os.kill(os.getpid(), signal_)
                time.sleep(0.05)  # Python takes it between two instructions
            return original(*args, **kwargs)

        setattr(owner, name, instead)

    return set_up


def kill(owner: type, name: str, number: int = 1):
    return before(owner, name, number, signal.SIGKILL)


def ask(owner: type, name: str, number: int = 1):
    return before(owner, name, number, signal.SIGTERM)


class Cell:
    """A training in forked processes."""

    def __init__(
        self, study: dict, data: Path, out: Path, processes: int, changes: dict | None = None
    ) -> None:
        self.study, self.data, self.out, self.processes = study, data, out, processes
        self.changes = merge(CELL, {"budget": {"processes": processes}}, changes or {})
        out.mkdir(exist_ok=True)

    def attempt(self, fault=None, rank: int = 0) -> list[int]:
        spec = training_spec(self.study, self.data, self.out, self.changes)
        return forked.run(finetune.train, [spec] * self.processes, fault, rank)

    @property
    def log(self) -> str:
        return (self.out / "processes.log").read_text()

    @property
    def facts(self) -> dict:
        return json.loads((self.out / "training.json").read_text())

    def result(self) -> tuple:
        with (self.out / "history.csv").open() as stream:
            history = list(csv.DictReader(stream))
        for row in history:
            del row["seconds"]
        return {name: self.facts[name] for name in COUNTS}, history

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.out / "model/model.safetensors")

    def must_equal(self, other: "Cell") -> None:
        (counts, history), (others_counts, others_history) = self.result(), other.result()
        assert counts == others_counts
        assert history == others_history
        mine, others = self.weights(), other.weights()
        assert all(torch.equal(mine[name], others[name]) for name in others)


@pytest.fixture(scope="module")
def undisturbed(study, data, tmp_path_factory):
    """Return an undisturbed training by its number of processes."""
    cells: dict[int, Cell] = {}

    def get(processes: int) -> Cell:
        if processes not in cells:
            cells[processes] = Cell(study, data, tmp_path_factory.mktemp("undisturbed"), processes)
            assert cells[processes].attempt() == [0] * processes, cells[processes].log
        return cells[processes]

    return get


KILLS = {
    "writing weights": kill(WorkFolder, "keep_best"),
    "training": kill(finetune.CellTrainer, "training_step", 9),
    "validation": kill(validation.Validator, "_predictions", 2),
    "writing a checkpoint": kill(WorkFolder, "commit_checkpoint", 3),
    "writing the result": kill(WorkFolder, "finish"),
}


@pytest.mark.parametrize(
    "processes", [1, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3))]
)
def test_killed_anywhere_and_again_a_training_ends_as_if_undisturbed(
    study, data, tmp_path, undisturbed, processes
):
    cell = Cell(study, data, tmp_path / "cell", processes)
    for place, fault in KILLS.items():
        # Not always the main process.
        last = processes - 1 if place in ("training", "validation") else 0
        assert cell.attempt(fault, last)[last] == -signal.SIGKILL, (place, cell.log)
    assert cell.attempt() == [0] * processes, cell.log
    cell.must_equal(undisturbed(processes))
    assert len(cell.facts["attempts"]) == 1 + len(KILLS)
    found = summarize_log(runs(cell.out / "work"))
    assert found["wasted"]["duration_s"] > 0
    # The log and the ledger are two clocks. Neither counts work that was killed.
    assert found["duration_s"] == pytest.approx(cell.facts["train_runtime_s"], rel=0.1, abs=0.2)


@pytest.mark.parametrize("processes", [1, 2])
def test_asked_to_end_a_training_saves_and_goes_on_there(
    study, data, tmp_path, undisturbed, processes
):
    rare = {"training": {"checkpoint_every_s": 600}}
    cell = Cell(study, data, tmp_path / "cell", processes, rare)
    stopped = [forked.STOPPED] * processes
    last = processes - 1  # the signal need not reach the main process
    assert cell.attempt(ask(finetune.CellTrainer, "training_step", 9), last) == stopped, cell.log
    assert "stopped by SIGTERM at step 9, saved; the next run goes on there" in cell.log
    assert cell.attempt(ask(validation.Validator, "_predictions", 1), last) == stopped, cell.log
    assert "stopped by SIGTERM at step 12, saved" in cell.log, "the validation is left for later"
    again = cell.attempt(ask(validation.Validator, "_predictions", 1), last)
    assert again == stopped, "left once more"
    assert cell.attempt(ask(validation.Validator, "_predictions", 4), last) == stopped, cell.log
    assert "stopped by SIGTERM at step 30, saved" in cell.log, "the last one too"
    assert cell.attempt() == [0] * processes, cell.log
    cell.must_equal(undisturbed(processes))
    assert [a["from_step"] for a in cell.facts["attempts"]] == [0, 9, 12, 12, 30]
    lines = read_lines(cell.out / "work/attempts.jsonl")
    ends = [line["status"] for line in lines if line["event"] == "end"]
    assert ends == ["stopped"] * 4 + ["completed"]
    found = summarize_log(runs(cell.out / "work"))
    for phase in ("train", "validation", "checkpoint"):
        seconds = found["phases"][phase]["duration_s"]
        assert cell.facts[f"{phase}_s"] == pytest.approx(seconds, abs=0.05), phase


def test_a_torn_checkpoint_is_passed_over_and_named(study, data, tmp_path, undisturbed):
    cell = Cell(study, data, tmp_path / "cell", 1)
    cell.attempt(kill(finetune.CellTrainer, "training_step", 9))
    newest = cell.out / "work/checkpoints/checkpoint-8"
    with (newest / "optimizer.pt").open("r+b") as stream:
        stream.truncate(1000)
    cell.attempt(kill(finetune.CellTrainer, "training_step", 9))
    said = "attempt 2 resumes at step 7 (checkpoint-8 cannot be used: optimizer.pt is damaged)"
    assert said in cell.log
    for path in (cell.out / "work/checkpoints").iterdir():
        (path / "trainer_state.json").unlink()
    cell.attempt()
    why = "checkpoint-15 cannot be used: trainer_state.json is missing;"
    assert f"attempt 3 starts from the beginning ({why}" in cell.log
    cell.must_equal(undisturbed(1))


def test_damaged_best_weights_are_never_a_result(study, data, tmp_path, undisturbed):
    cell = Cell(study, data, tmp_path / "cell", 1)
    cell.attempt(kill(finetune.CellTrainer, "training_step", 29))
    (best,) = (cell.out / "work").glob("best-*/model.safetensors")
    best.write_bytes(best.read_bytes()[:-1000] + bytes(1000))
    assert cell.attempt() == [0], cell.log
    why = "checkpoint-28 cannot be used: the best weights, of step"
    assert f"starts from the beginning ({why}" in cell.log
    cell.must_equal(undisturbed(1))


def test_a_result_that_bit_rot_struck_is_trained_again_and_never_published(
    study, data, tmp_path, undisturbed
):
    cell = Cell(study, data, tmp_path / "cell", 1)
    assert cell.attempt() == [0], cell.log
    weights = cell.out / "model/model.safetensors"
    kept = cell.out / "work/result/model/model.safetensors"
    assert weights.stat().st_ino == kept.stat().st_ino, "one file with two names"
    with weights.open("r+b") as stream:
        stream.seek(-100, os.SEEK_END)
        stream.write(b"rot")
    shutil.rmtree(cell.out / "model")
    assert cell.attempt() == [0], cell.log
    why = "its SHA-256 is not what was written"
    assert f"result/model/model.safetensors is damaged ({why}): it is trained" in cell.log
    cell.must_equal(undisturbed(1))
    (cell.out / "work/result/training.json").write_text("{")
    assert cell.attempt() == [0], cell.log
    assert "result/training.json is damaged (it is not JSON" in cell.log
    assert cell.attempt() == [0] and "its result is taken from" in cell.log


def test_a_signal_to_all_of_a_job_leaves_the_loader_s_processes_be(
    study, data, tmp_path, undisturbed
):
    cell = Cell(study, data, tmp_path / "cell", 1, {"training": {"dataloader_workers": 2}})

    def to_all() -> None:
        original, calls = finetune.CellTrainer.training_step, []

        def instead(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 9:
                for pid in [*children(os.getpid()), os.getpid()]:
                    os.kill(pid, signal.SIGTERM)
                time.sleep(0.3)
            return original(self, *args, **kwargs)

        finetune.CellTrainer.training_step = instead

    assert cell.attempt(to_all) == [forked.STOPPED], cell.log
    assert "stopped by SIGTERM at step 9, saved" in cell.log
    assert cell.attempt() == [0], cell.log
    cell.must_equal(undisturbed(1))


def test_a_full_disk_is_named_and_costs_only_what_came_after_the_last_checkpoint(
    study, data, tmp_path, undisturbed
):
    cell = Cell(study, data, tmp_path / "cell", 1)
    cell.attempt(kill(finetune.CellTrainer, "training_step", 9))
    size = (cell.out / "work/checkpoints/checkpoint-8/optimizer.pt").stat().st_size

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))

    assert cell.attempt(fill) == [forked.FAILED]
    assert "the checkpoint of step 9 could not be written" in cell.log
    assert "GiB are free at" in cell.log
    assert cell.attempt() == [0], cell.log
    assert "attempt 3 resumes at step 8" in cell.log
    cell.must_equal(undisturbed(1))


def test_a_clock_set_back_changes_nothing(study, data, tmp_path, undisturbed):
    cell = Cell(study, data, tmp_path / "cell", 1)
    cell.attempt(kill(finetune.CellTrainer, "training_step", 9))

    def set_back() -> None:
        now = time.time
        time.time = lambda: now() - 86400

    assert cell.attempt(set_back) == [0], cell.log
    assert "attempt 2 resumes at step 8" in cell.log
    cell.must_equal(undisturbed(1))


def test_damaged_tokens_are_made_again_as_they_were(study, data, tmp_path, undisturbed):
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    arrow = next((mine / "tokens/train").glob("*.arrow"))
    whole, made = arrow.read_bytes(), (mine / "tokenized.json").stat().st_mtime
    arrow.write_bytes(whole[: len(whole) // 2] + b"\0" * (len(whole) - len(whole) // 2))
    (mine / "tokens/validation/state.json").write_text('{"_data_fi')
    cell = Cell(study, mine, tmp_path / "cell", 1)
    assert cell.attempt() == [0], cell.log
    assert f"{mine / 'tokens'} is damaged: it is made again" in cell.log
    assert arrow.read_bytes() == whole
    stamped = (mine / "tokens/.snakemake_timestamp").stat().st_mtime
    assert stamped == pytest.approx(made), "nothing is out of date"
    cell.must_equal(undisturbed(1))


def test_tokens_that_cannot_be_made_as_they_were_are_refused(study, data, tmp_path):
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    next((mine / "tokens/train").glob("*.arrow")).unlink()
    with (mine / "records.jsonl").open("a") as stream:
        first = (mine / "records.jsonl").read_text().splitlines()[0]
        stream.write(first.replace("train", "extra") + "\n")
    cell = Cell(study, mine, tmp_path / "cell", 1)
    assert cell.attempt() == [forked.FAILED]
    assert "records.jsonl is damaged (its SHA-256" in cell.log
    assert "run again, which makes all cells" in cell.log


class Inference:
    """An inference in forked processes."""

    def __init__(self, study: dict, data: Path, model: Path, out: Path, processes: int) -> None:
        self.given, self.model, self.out = (study, data, model, out), model, out
        self.processes = processes
        self.changes = {"budget": {"processes": processes}, "inference": {"batch_size": 1}}
        out.mkdir(exist_ok=True)

    def attempt(self, fault=None, rank: int = 0) -> list[int]:
        spec = inference_spec(*self.given, self.changes)
        return forked.run(inference_predict.infer, [spec] * self.processes, fault, rank)

    @property
    def log(self) -> str:
        return (self.out / "processes.log").read_text()

    @property
    def texts(self) -> list[tuple]:
        rows = map(json.loads, (self.out / "predictions.jsonl").read_text().splitlines())
        return [(row["id"], row["prediction"], row["batch"], row["output_tokens"]) for row in rows]

    @property
    def facts(self) -> dict:
        return json.loads((self.out / "inference.json").read_text())


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_inference_goes_on_at_the_first_missing_batch(
    study, data, tmp_path, undisturbed, monkeypatch, processes
):
    monkeypatch.setattr(batch_progress, "WRITE_EVERY_S", 0)
    model = undisturbed(1).out / "model"
    whole = Inference(study, data, model, tmp_path / "whole", 1)
    assert whole.attempt() == [0], whole.log
    cut = Inference(study, data, model, tmp_path / "cut", processes)
    assert cut.attempt(kill(BatchStore, "add", 3), processes - 1)[-1] == -signal.SIGKILL
    kept = len(BatchStore(cut.out / "work", {}, 0).kept())
    assert 2 <= kept < 12
    assert cut.attempt(ask(BatchStore, "add", 1))[0] == forked.STOPPED, cut.log
    assert "stopped by SIGTERM" in cut.log and "the next run goes on there" in cut.log
    assert cut.attempt() == [0] * processes, cut.log
    assert f"12 examples in 12 batches, {kept} of them predicted by an earlier attempt" in cut.log
    assert cut.texts == whole.texts, "whoever predicted a batch, and whenever"
    for name in ("samples", "batches", "output_tokens"):
        assert cut.facts[name] == whole.facts[name]
    found = summarize_log(runs(cut.out / "work"))
    assert found["wasted"]["duration_s"] > 0 and found["phases"]["generate"]["duration_s"] > 0


def test_a_process_that_looks_late_shares_the_missing_batches_as_the_others_do(
    study, data, tmp_path
):
    def work(spec) -> None:
        rank = distributed.rank()
        store = BatchStore(Path(spec.paths["work"]), spec.identity, rank)
        progress = batch_progress.Progress(spec, store)

        def predict(mine) -> None:
            for number, _ in mine:
                progress.keep(number, {}, (0, 1), last=True)

        def late() -> dict:
            time.sleep(0.5)
            return BatchStore.kept(store)

        store.kept = store.kept if rank else late
        kept = progress.complete("abcdef", predict)
        assert rank or list(kept) == list(range(6))

    out = tmp_path / "cell"
    spec = inference_spec(study, data, tmp_path, out, {"budget": {"processes": 2}})
    assert forked.run(work, [spec] * 2) == [0, 0], (out / "processes.log").read_text()


def test_batches_of_another_training_are_never_used_nor_those_that_are_asked_for_anew(
    study, data, tmp_path, undisturbed, monkeypatch
):
    cell = Inference(study, data, undisturbed(1).out / "model", tmp_path / "cell", 1)
    assert cell.attempt() == [0], cell.log
    measured = cell.facts["inference_runtime_s"]
    assert cell.attempt() == [0]
    assert cell.facts["inference_runtime_s"] == measured, "nothing was left to predict"
    another = {"settings": "s", "code": "c", "data": "d", "training": "another"}
    store = BatchStore(cell.out / "work", another, 0)
    assert store.begin() and store.kept() == {}
    cell.attempt()
    measured = cell.facts["inference_runtime_s"]
    monkeypatch.setattr(batch_progress, "WRITE_EVERY_S", 0)
    monkeypatch.setenv("LONGWATT_ANEW", "this command:predict")
    assert cell.attempt(kill(BatchStore, "add", 3)) == [-signal.SIGKILL], "predicted again"
    assert cell.attempt() == [0] and cell.facts["inference_runtime_s"] != measured
    # A retry under one command begins anew only once.
    assert "2 of them predicted by an earlier attempt" in cell.log


def test_scoring_that_is_killed_leaves_nothing_half_written(study, data, tmp_path, undisturbed):
    cell = Inference(study, data, undisturbed(1).out / "model", tmp_path / "cell", 1)
    cell.attempt()
    spec = inference_spec(study, data, cell.model, cell.out)

    def score(_) -> None:
        names = ("scores.json", "examples.csv", "predictions.jsonl")
        made = {name.split(".")[0]: cell.out / name for name in names}
        made |= {name: Path(path) for name, path in made_from(data).items()}
        settings = {"metric": "f1", "seq_len": 64, "split": "validation", "max_examples": None}
        settings |= {**COMPARISON_DEFAULTS, "bootstrap_resamples": 100}
        scoring.score({**settings, "confidence": 0.95, "seed": 0}, **made, provenance={})

    assert forked.run(score, [spec], kill(scoring, "write_json")) == [-signal.SIGKILL]
    assert not (cell.out / "scores.json").exists()
    assert forked.run(score, [spec]) == [0], cell.log
    assert json.loads((cell.out / "scores.json").read_text())["score_name"] == "f1"
