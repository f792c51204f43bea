"""One tiny cell on a real GPU, if there is one: leased by UUID, metered by its counter."""

import csv
import json

import pytest

from longwatt.gpus.listing import list_devices
from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not list_devices(), reason="no NVIDIA GPU is visible here"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cell_trains_and_is_metered_on_a_leased_gpu(tmp_path, precision):
    study = TINY_STUDY.replace("cpu: {gpus: 0,", f"cpu: {{gpus: 1, precision: {precision},")
    project = Project.create(tmp_path / "project", study)
    project.run()
    with (project.results / "summary.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert row["train_energy_source"] == "nvml_counter" and float(row["train_energy_kwh"]) > 0
    assert float(row["train_idle_power_w"]) > 0 and float(row["joules_per_output_token"]) > 0
    energy = json.loads((project.cell(32) / "finetune/energy.json").read_text())
    (gpu,) = energy["gpus"].values()
    assert {"counter", "utilization", "memory"} <= set(gpu["sensors"]) and energy["problems"] == []
    assert {"idle_before", "load", "train", "idle_after"} <= set(energy["phases"])
    training = json.loads((project.cell(32) / "finetune/training.json").read_text())
    assert training["device"] != "cpu" and training["peak_memory_kind"] == "gpu_reserved"


def test_the_largest_batch_is_found_under_a_cap_and_trained_with(tmp_path):
    cap = "gpus: 1, memory_gib_per_gpu: 1.0, per_device_batch_size: largest"
    project = Project.create(
        tmp_path / "project", TINY_STUDY.replace("gpus: 0, per_device_batch_size: 4", cap)
    )
    project.run()
    (probe,) = (project.path / "resources/batch_sizes").glob("led-32-*/probe.json")
    found = json.loads(probe.read_text())
    assert 0 < found["peak_memory_gib"] <= found["limit_gib"] == 1.0
    assert found["margin_gib"] >= found["held_back_gib"]
    training = json.loads((project.cell(32) / "finetune/training.json").read_text())
    assert training["per_device_batch_size"] == found["per_device_batch_size"]


@pytest.mark.skipif(len(list_devices()) < 2, reason="fewer than two GPUs are visible here")
def test_a_cell_of_two_gpus_is_trained_and_metered_on_both(tmp_path):
    two = TINY_STUDY.replace(
        "gpus: 0, per_device_batch_size: 4", "gpus: 2, per_device_batch_size: 2"
    )
    project = Project.create(tmp_path / "project", two)
    project.run()
    training = json.loads((project.cell(32) / "finetune/training.json").read_text())
    assert (training["processes"], training["effective_batch_size"]) == (2, 4)
    energy = json.loads((project.cell(32) / "finetune/energy.json").read_text())
    assert len(energy["gpus"]) == 2 and energy["problems"] == []
