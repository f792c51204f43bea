"""One tiny cell on a real GPU: leased by UUID, metered by its counter. Skips itself where there is none."""

import csv
import json

import pytest

from longwatt.gpus import list_devices
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
