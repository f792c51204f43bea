"""Energy in the logs of Hugging Face's Trainer, by real trainings of a tiny model."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from longwatt.energy import trainer as energy_trainer
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.energy.workflows.options import MeterError
from tests.conftest import ROOT

GUIDE = ROOT / "docs/how-to/meter_trainer.md"
GROUP = "energy_estimated"


@pytest.fixture
def no_counters(monkeypatch, tmp_path):
    """A machine without readable counters, so that the energy is an estimate of 10 W a core."""
    monkeypatch.setenv("LONGWATT_POWERCAP", str(tmp_path / "none"))
    for name in ("LOCAL_WORLD_SIZE", "GROUP_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def training(no_counters, tmp_path):
    """A function that trains a tiny model with an EnergyCallback and what a tracker would see."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from longwatt.energy import EnergyCallback

    class Tracker(TrainerCallback):
        def __init__(self):
            self.logged = []

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.logged.append(dict(logs))

    rows = [{"input_ids": [n % 7, 3, 5, 8], "labels": n % 2} for n in range(16)]
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=10, intermediate_size=16, **small)

    def make(steps=4, callback=None, **more):
        tracker = Tracker()
        arguments = TrainingArguments(
            str(tmp_path / "out"), max_steps=steps, logging_steps=2, eval_strategy="steps",
            eval_steps=2, save_steps=2, report_to="none", disable_tqdm=True, use_cpu=True, **more,
        )  # fmt: skip
        metered = callback or EnergyCallback(watts_per_core=10)
        # The tracker stands before, as integrations do.
        made = Trainer(
            BertForSequenceClassification(config), arguments, train_dataset=rows,
            eval_dataset=rows, callbacks=[tracker, metered],
        )  # fmt: skip
        return made, tracker

    return make


def kwh(log, name):
    return log[f"{GROUP}/{name}_kwh"]


@pytest.mark.long
def test_energy_is_in_every_log_of_a_training_and_goes_on_after_a_resume(training, tmp_path, capfd):
    first, tracker = training()
    result = first.train()
    logged = [log for log in tracker.logged if any(key.startswith(GROUP) for key in log)]
    assert logged and all(not key.startswith("energy/") for log in logged for key in log)
    totals = [kwh(log, "total") for log in logged if f"{GROUP}/total_kwh" in log]
    assert totals == sorted(totals) and totals[-1] > 0
    assert kwh(first.state.log_history[-1], "total") == totals[-1]
    assert kwh(result.metrics, "total") == totals[-1]
    log = tmp_path / "out/energy.jsonl"
    found = summarize_log([log], 10.0)
    assert {"train", "validation", "checkpoint"} <= set(found["phases"])
    whole = sum(found["phases"][name]["energy_j"] for name in ("train", "validation", "checkpoint"))
    assert totals[-1] * 3.6e6 == pytest.approx(whole, abs=3.0), "the same, but for 0.3 s at edges"
    said = capfd.readouterr().err
    assert "kWh" in said and "estimated: declared" in said and str(log) in said

    again, tracker = training(steps=6)
    again.train(resume_from_checkpoint=True)
    last = tracker.logged[-1]
    assert kwh(last, "earlier_attempts") * 3.6e6 == pytest.approx(found["energy_j"], abs=1.0)
    both = summarize_log([log], 10.0)
    assert both["attempts"] == 2 and both["energy_j"] > found["energy_j"]
    assert "lost" not in capfd.readouterr().err
    again.predict(again.eval_dataset)
    apart = summarize_log([tmp_path / "out/energy_apart.jsonl"], 10.0)
    assert "generate" in apart["phases"] and "total" not in tracker.logged[-1]


@pytest.mark.parametrize("watts", [-5, 0, float("nan"), float("inf"), True, "6", "lots"])
def test_watts_that_make_no_sense_are_refused_before_a_training(watts):
    with pytest.raises(MeterError, match="give auto, none or watts above 0"):
        energy_trainer.EnergyEvents(watts_per_core=watts)


def event(name, **state):
    facts = {"is_local_process_zero": True, "is_world_process_zero": True, "global_step": 0}
    control = types.SimpleNamespace(should_evaluate=False, should_save=False)
    device = types.SimpleNamespace(type="cpu", index=None)
    args = types.SimpleNamespace(device=device, n_gpu=0, world_size=1, output_dir="out")
    return name, args, types.SimpleNamespace(**{**facts, "log_history": [], **state}), control


def call(callback, name, args, state, control, **given):
    getattr(callback, name)(args, state, control, **given)


def test_no_failure_of_the_meter_stops_a_training(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(energy_trainer, "_MeteredJob", lambda *_: 1 / 0)
    callback, logs = energy_trainer.EnergyEvents(tmp_path), {}
    for name in ("on_train_begin", "on_step_end", "on_evaluate", "on_save", "on_train_end"):
        call(callback, *event(name))
    name, args, state, control = event("on_log")
    callback.on_log(args, state, control, logs=logs)
    assert logs == {} and capfd.readouterr().err.count("ZeroDivisionError") == 1


def test_other_processes_of_a_node_meter_nothing(no_counters, tmp_path):
    callback = energy_trainer.EnergyEvents(tmp_path)
    call(callback, *event("on_train_begin", is_local_process_zero=False))
    assert list(tmp_path.glob("*")) == []


def test_each_node_has_its_log_and_the_first_says_that_it_is_its_own(
    no_counters, tmp_path, monkeypatch
):
    for node in ("0", "1"):
        monkeypatch.setenv("GROUP_RANK", node)
        callback = energy_trainer.EnergyEvents(tmp_path, watts_per_core=10)
        name, args, state, control = event("on_train_begin", is_world_process_zero=node == "0")
        args.world_size = 2
        call(callback, name, args, state, control)
        sum(range(2_000_000))
        logs = {}
        callback.on_log(args, state, control, logs=logs)
        assert all(key.startswith("energy_estimated_of_first_node/") for key in logs)
        assert bool(logs) == (node == "0")
        call(callback, "on_train_end", args, state, control)
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {
        "energy.jsonl",
        "energy_node1.jsonl",
    }


def test_gpus_are_those_of_the_trainers_processes(monkeypatch):
    def properties(number):
        return types.SimpleNamespace(uuid=f"000{number}")

    cuda = types.SimpleNamespace(get_device_properties=properties)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))

    def found(n_gpu, index, processes):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        device = types.SimpleNamespace(type="cuda", index=index)
        args = types.SimpleNamespace(device=device, n_gpu=n_gpu)
        return energy_trainer.gpus_of_trainer(args)

    assert found(1, 2, 1) == ["GPU-0002"], "the one that it was given"
    assert found(2, 0, 1) == ["GPU-0000", "GPU-0001"], "those of DataParallel"
    assert found(1, 0, 3) == ["GPU-0000", "GPU-0001", "GPU-0002"], "one a process"


@pytest.mark.parametrize("device", ["mps", "xpu", "xla"])
def test_a_device_without_a_meter_is_never_told_as_cpu_time(no_counters, tmp_path, device, capfd):
    callback = energy_trainer.EnergyEvents(tmp_path, watts_per_core=10)
    name, args, state, control = event("on_train_begin")
    args.device = types.SimpleNamespace(type=device, index=0)
    call(callback, name, args, state, control)
    logs = {}
    callback.on_log(args, state, control, logs=logs)
    call(callback, "on_train_end", args, state, control)
    assert logs == {} and list(tmp_path.glob("*.jsonl")) == []
    assert capfd.readouterr().err.count(f"computes on {device}") == 1


def test_transformers_is_loaded_only_by_who_asks_for_the_callback():
    code = (
        "import sys, longwatt.energy as e, longwatt.energy.trainer\n"
        "assert not {'transformers', 'torch', 'numpy'} & set(sys.modules)\n"
        "try: e.Nothing\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "has no attribute 'Nothing'" in done.stdout


@pytest.mark.long
def test_the_training_of_the_guide_runs(no_counters, tmp_path, monkeypatch, capfd):
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LONGWATT_CPUINFO", str(Path(__file__).parent / "none"))
    exec(compile(block, str(GUIDE), "exec"), {})
    assert (tmp_path / "trained/energy.jsonl").is_file()
    assert "longwatt: " in capfd.readouterr().err
