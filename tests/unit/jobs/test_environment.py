"""A job records the machine that it ran on."""

import json
from importlib.metadata import version

import pytest
import torch

from longwatt.inference import predict
from longwatt.jobs import distributed, environment
from longwatt.jobs.environment import note, noted, processor
from longwatt.jobs.waiting import DECIDED_BY
from longwatt.training import finetune
from tests.tiny_cell import inference_spec, training_spec

CPU = {"gpus": 0}
FACTS = ("device", "processor", "threads", "wait_policy", "pinned", "processes", "versions")


def test_training_and_inference_record_what_they_ran_on(study, data, tmp_path, monkeypatch):
    for name in DECIDED_BY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    short = {"training": {"max_steps": 4}}
    finetune.train(training_spec(study, data, tmp_path, short))
    predict.infer(inference_spec(study, data, tmp_path / "model", tmp_path / "predict"))
    for name in ("training.json", "predict/inference.json"):
        facts = json.loads((tmp_path / name).read_text())
        assert facts["device"] == "cpu" and facts["processes"] == 1
        assert facts["wait_policy"] == "OMP_WAIT_POLICY=passive" and facts["pinned"] == "no"
        assert facts["threads"] == torch.get_num_threads() and facts["processor"] == processor()
        # torch names its build for CUDA in `__version__` alone.
        assert facts["versions"]["torch"] == version("torch")
        assert facts["versions"]["python"].startswith("3.")
        assert facts["identity"]["data"] == "d"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t: fpu: x\n", "AMD EPYC 9B14"),
        ("Hardware\t: BCM2835\n", "BCM2835"),
        ("processor : 0\nBogoMIPS : 50.00\n", "aarch64"),
        ("", "aarch64"),
    ],
)
def test_the_processor_is_named_as_the_kernel_does_or_by_its_architecture(
    tmp_path, monkeypatch, text, name
):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setenv("LONGWATT_CPUINFO", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor() == name
    (tmp_path / "cpuinfo").unlink()
    assert processor() == "aarch64"


def test_gpus_of_several_kinds_are_all_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", ["H200", "A100", "H200"].__getitem__)
    assert environment.machine_facts({"gpus": 3})["device"] == "A100 + H200"


def test_attempts_on_different_machines_stand_side_by_side(tmp_path, monkeypatch):
    note(tmp_path, CPU, fresh=True)
    alone = noted(tmp_path)
    assert set(alone) == set(FACTS)
    note(tmp_path, CPU, fresh=False)
    assert noted(tmp_path) == alone, "the same machine again"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(environment, "version", lambda name: "9.9")
    note(tmp_path, CPU, fresh=False)
    found = noted(tmp_path)
    assert found["threads"] == f"{alone['threads']} / 7"
    assert found["processor"] == alone["processor"]
    assert found["versions"]["torch"] == f"{version('torch')} / 9.9"
    assert found["versions"]["python"] == alone["versions"]["python"]
    note(tmp_path, CPU, fresh=True)
    assert noted(tmp_path)["threads"] == 7, "nothing of the earlier attempts is kept"


def test_only_the_main_process_notes_and_nothing_noted_is_nothing_known(tmp_path, monkeypatch):
    assert noted(tmp_path) == {}
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    note(tmp_path, CPU, fresh=True)
    assert noted(tmp_path) == {}


def test_a_training_that_goes_on_elsewhere_names_both_machines(study, data, tmp_path, monkeypatch):
    spec = training_spec(study, data, tmp_path, {"training": {"max_steps": 8}})
    step, done = finetune.CellTrainer.training_step, []

    def stop_after_five(self, *args, **kwargs):
        done.append(1)
        if len(done) == 6:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(finetune.CellTrainer, "training_step", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        finetune.train(spec)
    monkeypatch.setattr(environment, "processor", lambda: "another processor")
    finetune.train(training_spec(study, data, tmp_path, {"training": {"max_steps": 8}}))
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["processor"] == f"{processor()} / another processor"
    assert len(facts["attempts"]) == 2
