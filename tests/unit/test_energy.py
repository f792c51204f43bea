"""Phase marks and their reduction to energy."""

import itertools
import json
import sys
import time
from types import SimpleNamespace

import pytest

from longwatt.energy.marks import intervals, kept, kept_seconds, read_marks
from longwatt.energy.phases import PhaseLog
from longwatt.energy.reduction import summarize


def mark(phase, second, attempt=1, step=0, cpu=0.0, energy=None, gpus=0, samples=None):
    line = {
        "phase": phase,
        "attempt": attempt,
        "step": step,
        "monotonic_ns": int(second * 1e9),
        "cpu_s": cpu,
        "gpus": gpus,
        "gpu_energy_mj": energy,
    }
    return {**line, **({"gpu_samples_before": samples} if samples else {})}


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "phases.jsonl"

    def write(*marks, tail=""):
        path.write_text("".join(json.dumps(m) + "\n" for m in marks) + tail)
        return path

    return write


def test_without_a_meter_and_without_a_declared_figure_energy_is_unknown(log):
    path = log(mark("load", 0), mark("train", 1), mark("end", 11, cpu=20.0))
    found = summarize(path, None)
    assert (found["energy_j"], found["energy_kwh"], found["energy_source"]) == (None, None, "none")
    assert (found["duration_s"], found["measured"], found["mean_power_w"]) == (10, False, None)


def test_a_declared_figure_gives_an_estimate_that_says_so(log):
    path = log(mark("load", 0), mark("train", 1, cpu=5.0), mark("end", 11, cpu=25.0))
    found = summarize(path, 10.0)
    assert (found["energy_j"], found["energy_source"], found["measured"]) == (200.0, "estimate", False)
    assert found["mean_power_w"] == 20.0


def test_counters_of_all_gpus_are_summed_and_split_by_phase(log):
    path = log(
        mark("load", 0, energy={"a": 0, "b": 0}, gpus=2),
        mark("train", 1, energy={"a": 1000, "b": 2000}, gpus=2),
        mark("validation", 5, step=10, energy={"a": 401_000, "b": 802_000}, gpus=2),
        mark("end", 7, step=10, energy={"a": 501_000, "b": 902_000}, gpus=2),
    )
    found = summarize(path, 10.0)
    assert (found["energy_j"], found["energy_source"], found["measured"]) == (1400.0, "nvml_counter", True)
    assert found["energy_kwh"] == pytest.approx(1400 / 3.6e6)
    assert found["phases"]["train"]["energy_j"] == 1200.0
    assert found["phases"]["validation"]["energy_j"] == 200.0


@pytest.mark.parametrize("last", [{"a": 500}, None, {"b": 9000}])
def test_a_counter_that_was_reset_or_lost_gives_no_number(log, last):
    path = log(
        mark("load", 0, energy={"a": 900}, gpus=1),
        mark("train", 1, energy={"a": 1000}, gpus=1),
        mark("end", 2, energy=last, gpus=1),
    )
    # Declared watts per core say nothing of a GPU, so there is no estimate either.
    assert summarize(path, 10.0)["energy_j"] is None


def test_utilisation_and_memory_are_weighted_by_time(log):
    path = log(
        mark("load", 0, gpus=1),
        mark("train", 0, gpus=1),
        mark("validation", 9, gpus=1, samples={"utilization_pct": 100, "memory_gib": 4}),
        mark("end", 10, gpus=1, samples={"utilization_pct": 0, "memory_gib": 2}),
    )
    found = summarize(path, None)
    assert (found["mean_gpu_utilization_pct"], found["mean_gpu_memory_gib"]) == (90, 3.8)


def test_work_that_a_crash_threw_away_does_not_count(log):
    path = log(
        mark("load", 0),
        mark("train", 1, step=0),
        mark("checkpoint", 11, step=10),
        mark("train", 12, step=10),
        mark("validation", 30, step=15),  # lost: the next attempt resumes at 10
        mark("load", 100, attempt=2, step=10),
        mark("train", 103, attempt=2, step=10),
        mark("end", 113, attempt=2, step=20),
        tail='{"phase": "tr',
    )
    found = summarize(path, None)
    assert found["duration_s"] == 10 + 1 + 10
    assert found["attempts"] == 2


def test_an_attempt_that_fell_back_further_throws_away_more():
    marks = [
        mark("train", 0, attempt=1, step=0),
        mark("checkpoint", 10, attempt=1, step=10),
        mark("train", 11, attempt=1, step=10),
        mark("checkpoint", 20, attempt=1, step=20),
        mark("train", 21, attempt=1, step=20),
    ]
    left = kept(intervals(marks), {1: 0, 2: 20, 3: 10})
    assert [(i.phase, i.end_step) for i in left] == [("train", 10), ("checkpoint", 10)]


def test_marks_are_written_as_they_happen(tmp_path):
    log = PhaseLog(tmp_path / "p.jsonl", 2)
    log.mark("load", 0)
    log.mark("train", 0)
    log.mark("validation", 3)
    time.sleep(0.02)
    assert [m["phase"] for m in read_marks(tmp_path / "p.jsonl")] == ["load", "train", "validation"]
    log.close(4)
    marks = read_marks(tmp_path / "p.jsonl")
    assert {m["attempt"] for m in marks} == {2}
    assert all(a["monotonic_ns"] <= b["monotonic_ns"] for a, b in itertools.pairwise(marks))
    assert next(i.duration_s for i in intervals(marks) if i.phase == "validation") >= 0.02
    assert marks[0]["gpu_energy_mj"] is None


def test_the_seconds_of_kept_work_include_the_checkpoint_that_was_resumed(tmp_path):
    path = tmp_path / "p.jsonl"
    marks = [
        mark("load", 0), mark("train", 1), mark("checkpoint", 5, step=10), mark("train", 7, step=10),
        mark("validation", 9, step=12), mark("train", 10, step=12),  # past the checkpoint: lost
        mark("load", 20, attempt=2, step=10), mark("train", 23, attempt=2, step=10),
        mark("end", 25, attempt=2, step=11),
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in marks))
    assert kept_seconds(path) == {"train": 4 + 2, "validation": 0, "checkpoint": 2}
    found = summarize(path, None)
    assert (found["duration_s"], found["attempts"]) == (8, 2)


class StandInNvml(SimpleNamespace):
    """As much of pynvml as the meter uses: 250 W on every GPU."""

    class NVMLError(Exception):
        pass

    broken = False

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError("driver not loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return int(time.monotonic() * 250_000)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=80)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=3 * 2**30)


def test_leased_gpus_are_read_at_every_mark(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", StandInNvml())
    monkeypatch.setattr("longwatt.energy.phases.SAMPLE_EVERY_S", 0.02)
    log = PhaseLog(tmp_path / "p.jsonl", 1, ["GPU-a", "GPU-b"])
    log.mark("load", 0)
    log.mark("train", 0)
    time.sleep(0.3)
    log.close(1)
    found = summarize(tmp_path / "p.jsonl", None)
    assert found["mean_power_w"] == pytest.approx(500, rel=0.05)
    assert (found["mean_gpu_utilization_pct"], found["mean_gpu_memory_gib"]) == (80, 3)


def test_a_driver_that_cannot_be_read_leaves_energy_unknown(tmp_path, monkeypatch, capsys):
    nvml = StandInNvml()
    nvml.broken = True
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    log = PhaseLog(tmp_path / "p.jsonl", 1, ["GPU-a"])
    log.mark("load", 0)
    log.mark("train", 0)
    log.close(1)
    assert "not measured: driver not loaded" in capsys.readouterr().out
    assert summarize(tmp_path / "p.jsonl", 10.0)["energy_source"] == "none"
