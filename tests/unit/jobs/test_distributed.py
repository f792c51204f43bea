"""Several processes train and validate one cell as one process would."""

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from longwatt.config.documents import merge
from longwatt.jobs import distributed, errors, launch, log, sigterm, worker
from longwatt.training import finetune
from tests import forked
from tests.tiny_cell import training_spec

# Without dropout, whose random numbers are each process's own. 64 examples make 22 micro-batches of
# at most 3, which neither 2 nor 3 processes share evenly. The 7 validation examples make 4 batches,
# the last of one example.
CELL = {
    "protocol": "teacher_forced",
    "model": {"config": {"dropout": 0.0}},
    "budget": {"per_device_batch_size": 3},
    "training": {
        "max_steps": 24,
        "learning_rate": 1e-2,
        "log_every_steps": 1,
        "validation": {"every_steps": 6, "patience": 9, "max_examples": 7, "batch_size": 2},
    },
}
COUNTS = ("samples", "input_tokens", "padded_input_tokens", "target_tokens", "steps", "validations",
          "effective_batch_size", "best_step", "validation_examples")  # fmt: skip


OF_TOKENS = {"per_device_batch_size": None, "max_tokens_per_batch": 200}


def train(study, data, out: Path, processes: int, accumulation: int, **budget: Any) -> dict:
    out.mkdir()
    budget |= {"processes": processes, "gradient_accumulation_steps": accumulation}
    spec = training_spec(study, data, out, merge(CELL, {"budget": budget}))
    done = forked.run(finetune.train, [spec] * processes)
    assert done == [0] * processes, (out / "processes.log").read_text()
    return json.loads((out / "training.json").read_text())


def losses(out: Path) -> list[tuple[float, float]]:
    rows = [line.split(",") for line in (out / "history.csv").read_text().splitlines()[1:]]
    return [(float(row[2]), float(row[3])) for row in rows if row[2] != "NA"]


@pytest.mark.parametrize(
    ("processes", "accumulation", "batch"), [(2, 1, {}), (3, 2, {}), (2, 2, OF_TOKENS)]
)
def test_several_processes_train_as_one_with_as_large_a_batch(
    study, data, tmp_path, processes, accumulation, batch
):
    many = train(study, data, tmp_path / "many", processes, accumulation, **batch)
    one = train(study, data, tmp_path / "one", 1, accumulation * processes, **batch)
    assert {name: many[name] for name in COUNTS} == {name: one[name] for name in COUNTS}
    mean = many["samples"] / many["steps"]
    examples = mean if batch else 3 * accumulation * processes
    assert many["effective_batch_size"] == examples
    assert (many["processes"], one["processes"]) == (processes, 1)
    for mine, its in zip(losses(tmp_path / "many"), losses(tmp_path / "one"), strict=True):
        assert mine == pytest.approx(its, rel=1e-5), "every optimiser step"
    assert many["best_score"] == pytest.approx(one["best_score"])
    a, b = (load_file(tmp_path / n / "model/model.safetensors") for n in ("many", "one"))
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 1e-4


def test_another_number_of_processes_than_the_budget_s_is_refused(
    monkeypatch, study, data, tmp_path
):
    spec = training_spec(study, data, tmp_path, {"budget": {"processes": 2}})
    with pytest.raises(errors.WorkerError, match=r"has 2 device.* but 1 process"):
        worker._check_devices(spec)
    monkeypatch.setenv("WORLD_SIZE", "2")
    worker._check_devices(spec)


def together(spec, work) -> None:
    """Work and report errors as `longwatt.jobs.worker.run_worker` has joined processes do."""
    try:
        with worker._reported(spec):
            work(spec)
    except SystemExit:
        raise sigterm.Stopped from None


def _failure(spec) -> BaseException:
    """Return the error that a job of two workers raises for theirs."""
    with tempfile.TemporaryFile() as nothing:
        return launch._failure(Path(spec.error), 1, 2, nothing.fileno())


@pytest.mark.parametrize("attempt", range(3))  # who comes first is chance
def test_the_process_that_knows_why_is_believed(study, data, tmp_path, attempt):
    def work(spec) -> None:
        if distributed.rank() == 1:
            raise errors.WorkerError("the reason")
        distributed.gather(None)

    spec = training_spec(study, data, tmp_path, {"budget": {"processes": 2}})
    forked.run(lambda one: together(one, work), [spec] * 2)
    found = _failure(spec)
    assert isinstance(found, log.JobError) and str(found) == "WorkerError: the reason"


def test_asked_to_end_while_one_still_loads_a_job_has_not_failed(
    study, data, tmp_path, monkeypatch
):
    def work(spec) -> None:
        if distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        with sigterm.deferred():
            distributed.gather(None)

    spec = training_spec(study, data, tmp_path, {"budget": {"processes": 2}})
    forked.run(lambda one: together(one, work), [spec] * 2)
    assert isinstance(_failure(spec), log.JobError), "nobody asked this job: one of them died"
    monkeypatch.setattr(sigterm._State, "asked", True)
    assert isinstance(_failure(spec), sigterm.Stopped)
