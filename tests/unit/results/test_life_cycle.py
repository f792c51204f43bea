"""What a training and its requests cost, and what is unknown of it."""

import math

import pytest

from longwatt.results.life_cycle import (
    cost_parts,
    life_cycle_columns,
    priced_parts,
    trained_together,
)

ROW = {
    "train_energy_kwh": 2.0, "joules_per_example": 7.2, "inference_samples_per_second": 5.0,
    "inference_runtime_s": 4.0, "peak_memory_gib": 3.0, "train_energy_source": "nvml_counter",
    "inference_energy_source": "nvml_counter", "train_energy_flags": "short",
}  # fmt: skip
PRICED = {
    "train_energy_cost": 0.4, "inference_energy_cost": 0.02, "train_gpu_hours": 1.5,
    "inference_gpu_hours": 0.1, "train_gpu_cost": 3.0, "inference_gpu_cost": 0.18,
}  # fmt: skip


def test_energy_time_memory_and_money_of_a_life():
    row = ROW | PRICED
    costs = cost_parts(row, priced_parts([row])).costs(1_000_000)
    assert costs["lifecycle_energy"] == pytest.approx(2 + 2)
    assert (costs["inference_time"], costs["memory"]) == (200, 3)
    assert costs["money"] == pytest.approx(3.4 + 1_000_000 * 0.2 / 20)  # 20 samples cost 0.2


@pytest.mark.parametrize("lacking", ["train_energy_kwh", "joules_per_example"])
def test_an_unknown_part_makes_the_whole_unknown(lacking):
    found = life_cycle_columns(ROW | {lacking: None}, [], 1000)
    assert found["lifecycle_energy_kwh"] is None and found["lifecycle_energy_source"] is None
    assert found["lifecycle_money"] is None and found["requests"] == 1000


def test_without_requests_a_request_may_be_unknown():
    assert (
        life_cycle_columns(ROW | {"joules_per_example": None}, [], 0)["lifecycle_energy_kwh"] == 2
    )


def test_a_job_on_processors_pays_for_no_gpu_and_one_on_a_gpu_may_be_unknown():
    gpu = ROW | PRICED
    cpu = ROW | {"train_energy_cost": 0.4, "inference_energy_cost": 0.02}
    priced = priced_parts([gpu, cpu])
    assert priced == ["energy", "gpu"]
    assert cost_parts(cpu, priced).costs(0)["money"] == pytest.approx(0.4)
    unknown = cost_parts(gpu | {"train_gpu_cost": None}, priced)
    assert unknown.costs(0)["money"] is None
    assert cost_parts(ROW, priced_parts([ROW])).costs(0)["money"] is None


def test_sources_and_flags_are_of_both_parts():
    found = life_cycle_columns(
        ROW | {"inference_energy_source": "estimate", "inference_energy_flags": "window"}, [], 1
    )
    assert found["lifecycle_energy_source"] == "estimate"
    assert found["lifecycle_energy_flags"] == "short window"
    assert life_cycle_columns(ROW, [], 1)["lifecycle_energy_source"] == "measured"


def test_a_model_that_was_not_trained_cost_nothing_to_train():
    row = {
        **ROW,
        **PRICED,
        "weights": "initial",
        "train_energy_kwh": None,
        "train_energy_cost": None,
    }
    costs = cost_parts(row, ["energy"]).costs(0)
    assert (costs["train_energy"], costs["money"]) == (0, 0)
    assert life_cycle_columns(row, [], 1)["lifecycle_energy_flags"] is None


FIRST = ROW | {"cell": "short", "train_energy_kwh": 0.5, "peak_memory_gib": 4.0}
CASCADE_ROW = ROW | {"cell": "long", "cascade_first": "short"}


def test_a_cascade_has_two_trainings():
    both = trained_together([FIRST | PRICED, CASCADE_ROW, ROW | {"cell": "long"}])
    costs = cost_parts(both(CASCADE_ROW | PRICED), ["energy", "gpu"]).costs(0)
    assert (costs["train_energy"], costs["memory"]) == (2.5, 4)
    assert costs["money"] == pytest.approx(2 * 3.4)
    alone = ROW | {"cell": "long", "cascade_first": math.nan}
    assert both(alone) is alone, "the long cell alone needs the short one's training not"


@pytest.mark.parametrize(
    ("first", "source", "energy"),
    [
        ({"train_energy_source": "estimate", "train_energy_flags": "window"}, "estimate", 4.5),
        ({"train_energy_kwh": None, "train_energy_source": "none"}, None, None),
        ({"cell": "another"}, None, None),
    ],
)
def test_what_is_unknown_or_estimated_of_the_first_training_is_so_of_both(first, source, energy):
    row = trained_together([FIRST | first])(CASCADE_ROW)
    found = life_cycle_columns(row, [], 1_000_000)
    assert found["lifecycle_energy_source"] == source
    assert found["lifecycle_energy_kwh"] == (energy and pytest.approx(energy))
    if source:
        assert found["lifecycle_energy_flags"] == "short window"


def test_a_first_cell_on_processors_adds_no_gpu():
    first = FIRST | {"train_energy_cost": 0.1}
    row = trained_together([first])(CASCADE_ROW | PRICED)
    assert cost_parts(row, ["energy", "gpu"]).costs(0)["money"] == pytest.approx(3.5)


def test_what_the_first_training_lacks_is_said_of_both():
    first = FIRST | {"ended_by": "divergence", "train_energy_basis": "a table"}
    row = trained_together([first | {"initialisation": "random"}])(CASCADE_ROW)
    assert row["ended_by"] == "divergence" and row["initialisation"] == "random"
    assert row["train_energy_basis"] == "a table"
    whole = trained_together([FIRST])(CASCADE_ROW | {"ended_by": "epochs"})
    assert whole["ended_by"] == "epochs" and whole["train_energy_basis"] is None
