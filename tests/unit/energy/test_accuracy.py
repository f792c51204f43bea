"""The recorder, with the real pynvml and a simulated clock, against loads of known energy."""

import json

import pytest

from longwatt.energy.log import compress, log_parts
from longwatt.energy.reduction.reduce import summarize_log
from tests.nvml import A100, AVERAGE, NEVER, TURING, WAVES, FakeGpu, uuid
from tests.nvml.simulate import simulate

ON, OFF, END = 3.0, 127.0, 130.0
PHASES = [(0.0, "idle_before", {}), (ON, "train", {}), (OFF, "idle_after", {})]
SENSORS = {"A100-like": A100, "Turing-like": TURING, "mean of a second": AVERAGE}


def record(machine, tmp_path, *gpus, marks=PHASES, duration=END, **more) -> dict:
    log = simulate(machine, gpus, tmp_path / "energy.jsonl", duration, marks=marks, **more)
    return summarize_log([log])


def step_j(gpu: FakeGpu) -> float:
    """What can flow between two moves of a counter."""
    return gpu.high * gpu.counter_update


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("sensor", SENSORS)
def test_the_counter_is_right_whatever_the_power_sensor_sees(machine, tmp_path, wave, sensor):
    gpu = FakeGpu(on=ON + 0.037, off=OFF - 0.013, **WAVES[wave], **SENSORS[sensor])
    found = record(machine, tmp_path, gpu)
    true = gpu.joules(ON, OFF)
    assert found["energy_source"] == "nvml_counter"
    assert abs(found["energy_j"] - true) <= 0.001 * true + 2 * step_j(gpu)
    assert found["idle_power_w"] == pytest.approx(gpu.idle, rel=0.01)


@pytest.mark.parametrize("wave", WAVES)
def test_the_integral_of_the_averaging_sensor_is_within_a_thousandth_over_idle_to_idle(
    machine, tmp_path, wave
):
    gpu = FakeGpu(on=ON, off=OFF, **WAVES[wave], **AVERAGE)
    found = record(machine, tmp_path, gpu, marks=[(0.0, "run", {})])
    true = gpu.joules(0, END)
    assert found["energy_j_integral"] == pytest.approx(true, rel=0.001)
    assert abs(found["crosscheck_pct"]) < 0.15


@pytest.mark.parametrize("wave", WAVES)
def test_phases_add_up_to_the_whole(machine, tmp_path, wave):
    gpu = FakeGpu(**WAVES[wave], **A100)
    marks = [(7.3 * n, ("train", "validation", "checkpoint")[n % 3], {}) for n in range(17)]
    found = record(machine, tmp_path, gpu, marks=marks, duration=124.0)
    phases = sum(phase["energy_j"] for phase in found["phases"].values())
    assert abs(phases - found["energy_j"]) <= 2 * step_j(gpu) * len(marks)
    assert phases == pytest.approx(gpu.joules(0, 124), rel=0.002)


def test_a_fixed_rate_would_lock_to_a_load_where_the_jittered_one_does_not(machine, tmp_path):
    """Samples at one phase of a load of their own period see only its top or only its bottom."""
    sensor = {"window": 0.001, "update": 0.001, "average": 0}
    gpu = FakeGpu(wave="square", period=0.1, high=400, low=100, **sensor)
    marks = [(0.0, "train", {})]
    assert abs(record(machine, tmp_path, gpu, marks=marks)["crosscheck_pct"]) < 4
    (tmp_path / "energy.jsonl").unlink()
    locked = record(machine, tmp_path, gpu, marks=marks, jittered=False)["crosscheck_pct"]
    assert abs(locked) == pytest.approx(60, abs=1)


def test_noise_of_the_sensor_averages_out(machine, tmp_path):
    gpu = FakeGpu(on=ON, off=OFF, high=300, noise=0.1, **TURING)
    found = record(machine, tmp_path, gpu)
    assert abs(found["crosscheck_pct"]) < 1 and found["phases"]["train"]["peak_power_w"] > 320


def test_a_counter_that_is_missing_leaves_the_integral(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(on=ON, off=OFF, counter=0, **AVERAGE))
    assert found["energy_source"] == "nvml_power_integral" and found["crosscheck_pct"] is None
    assert found["energy_j"] == pytest.approx(400 * 124, rel=0.01)


def test_a_counter_that_is_reset_costs_at_most_what_a_sensor_misses(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(on=ON, off=OFF, reset_at=60.05, **AVERAGE))
    assert found["counter_resets"] == 1 and "counter_reset" in found["flags"]
    assert found["energy_source"] == "nvml_counter"
    assert found["energy_j"] == pytest.approx(400 * 124, rel=0.002)


def test_a_counter_that_stands_still_is_not_believed(machine, tmp_path):
    gpu = FakeGpu(on=ON, off=OFF, stale_from=40, stale_to=80, **AVERAGE)
    found = record(machine, tmp_path, gpu)
    assert "counter_stale" in found["flags"] and found["energy_source"] == "nvml_power_integral"
    assert found["energy_j"] == pytest.approx(400 * 124, rel=0.01)


def test_a_gpu_that_is_lost_for_a_while_is_met_again_and_nothing_of_it_is_lost(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(on=ON, off=OFF, lost_from=50, lost_to=58, **AVERAGE))
    assert found["energy_source"] == "nvml_counter"
    assert found["energy_j"] == pytest.approx(400 * 124, rel=0.002)
    assert 8 <= found["largest_gap_s"] < 15 and "gap" in found["flags"]


def test_a_gpu_that_is_lost_for_good_leaves_its_last_phase_unknown_and_the_others_known(
    machine, tmp_path
):
    lost = FakeGpu(on=ON, off=OFF, lost_from=100, **AVERAGE)
    other = FakeGpu(uuid=uuid(1), on=ON, off=OFF, **AVERAGE)
    marks = sorted([*PHASES, (80.0, "validation", {})])
    found = record(machine, tmp_path, lost, other, marks=marks)
    lost = found["gpus"][uuid(0)]
    assert found["energy_j"] is None
    assert lost["energy_j"] is None
    assert lost["phases"]["validation"]["energy_j"] is None
    assert any(f"{uuid(0)} after 100 s" in p and "GPU is lost" in p for p in found["problems"])
    assert lost["phases"]["train"]["energy_j"] == pytest.approx(400 * 77, rel=0.002)
    assert found["gpus"][uuid(1)]["energy_j"] == pytest.approx(400 * 124, rel=0.002)


def test_a_recorder_frozen_for_two_seconds_misses_nothing_by_the_counter(machine, tmp_path):
    gpu = FakeGpu(on=ON, off=OFF, **AVERAGE)
    found = record(machine, tmp_path, gpu, frozen=[(60.0, 62.0)])
    assert found["energy_j"] == pytest.approx(400 * 124, rel=0.002)
    assert 2 <= found["largest_gap_s"] < 2.3 and found["flags"] == ["gap"]
    assert 97.5 < found["coverage_pct"] < 99


def test_a_recorder_alone_knows_the_phases_of_a_job_that_cannot_read_its_gpus(machine, tmp_path):
    gpu = FakeGpu(wave="square", period=2.0, **AVERAGE)
    marks = [(0.0, "train", {}), (60.5, "validation", {})]
    found = record(machine, tmp_path, gpu, marked=False, marks=marks)
    for phase, start, stop in (("train", 0, 60.5), ("validation", 60.5, END)):
        # Between two readings of the counter, a second apart, its course is not known.
        assert abs(found["phases"][phase]["energy_j"] - gpu.joules(start, stop)) < 400


def test_eight_gpus_in_one_log_and_packed_jobs_add_up_to_the_node(machine, tmp_path):
    gpus = [FakeGpu(uuid=uuid(n), high=200 + 50 * n, on=ON, off=OFF, **AVERAGE) for n in range(8)]
    whole = record(machine, tmp_path, *gpus)
    joules = [round(gpu["energy_j"]) for gpu in whole["gpus"].values()]
    assert joules == [124 * (200 + 50 * n) for n in range(8)]
    packed = []
    for job, chosen in enumerate((gpus[:3], gpus[3:7], gpus[7:])):
        out, uuids = tmp_path / f"job{job}.jsonl", [gpu.uuid for gpu in chosen]
        log = simulate(machine, gpus, out, END, marks=PHASES, recorded=uuids)
        packed.append(summarize_log([log]))
        assert list(packed[-1]["gpus"]) == uuids
    together = sum(job["energy_j"] for job in packed)
    assert together == pytest.approx(whole["energy_j"], abs=2 * 550 * 0.1 * 8)


def test_a_long_log_is_cut_into_parts_that_read_as_one(machine, tmp_path):
    gpu = FakeGpu(**AVERAGE)
    out = simulate(machine, [gpu], tmp_path / "energy.jsonl", 600, part_bytes=100_000)
    assert len(log_parts(out)) > 3
    found = summarize_log([out])
    compress(out)
    assert (
        all(part.suffix == ".gz" for part in log_parts(out)[:-1]) and summarize_log([out]) == found
    )
    assert found["energy_j"] == pytest.approx(400 * 600, rel=0.001) and found["problems"] == []


# Drivers that say less.


def test_an_old_driver_without_power_fields_and_event_reasons(machine, tmp_path):
    machine.build("-DOLD_DRIVER")
    found = record(machine, tmp_path, FakeGpu(on=ON, off=OFF, throttle=0x20, **TURING))
    assert found["energy_source"] == "nvml_counter" and abs(found["crosscheck_pct"]) < 1
    assert found["throttle_reasons_pct"] == {"heat": 100}
    assert "instant" not in found["gpus"][uuid(0)]["sensors"]
    assert "usage" in found["gpus"][uuid(0)]["sensors"]


def test_a_sensor_that_fails_takes_no_other_with_it(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(on=ON, off=OFF, flaky=1, **AVERAGE))
    assert found["energy_j"] == pytest.approx(400 * 124, rel=0.002) and found["flags"] == []
    assert found["mean_gpu_utilization_pct"] is None and found["peak_gpu_memory_gib"] == 20


def test_permission_denied_is_na_and_never_zero(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(permission=0))
    assert found["energy_j"] is None
    assert found["energy_source"] == "none"
    assert found["energy_kwh_paper"] is None
    assert any("Insufficient Permissions" in problem for problem in found["problems"])
    assert found["mean_gpu_utilization_pct"] == 90, "what can be read is"


def test_a_mig_gpu_is_refused_with_the_reason(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(mig=1))
    assert (found["energy_j"], found["energy_source"]) == (None, "none")
    assert "which no slice can be billed for" in found["problems"][0]
    assert uuid(0) in found["problems"][0]


def test_a_mig_slice_is_refused_with_the_reason(machine, tmp_path):
    found = record(machine, tmp_path, FakeGpu(uuid="MIG-1", mig=-1))
    assert "which no slice can be billed for" in found["problems"][0]


def test_the_header_says_what_was_metered(machine, tmp_path):
    simulate(machine, [FakeGpu()], tmp_path / "energy.jsonl", 5)
    header = json.loads((tmp_path / "energy.jsonl").read_text().splitlines()[0])
    gpu = header["gpus"][0]
    assert gpu["bus_id"] == "00000000:01:00.0"
    assert gpu["driver"] == "550.0-fake"
    assert gpu["power_limit_w"] == 400
    known = ("name", "uuid", "nvml", "ecc", "mig", "persistence", "default_power_limit_w")
    known += ("max_sm_mhz", "max_memory_mhz")
    assert all(gpu[name] is not None for name in known)
    assert gpu["sensors"] == ["counter", "instant", "average", "usage", "utilization", "memory"]
    assert header["boot_id"] and header["longwatt"] and header["interval_s"] == 0.1


def test_joules_of_the_stand_in_are_those_of_its_closed_form(machine, tmp_path):
    """The stand-in's counter (C) and the loads' integrals (Python) agree; neither is trusted."""
    for number, wave in enumerate(WAVES.values()):
        gpu = FakeGpu(on=2.5, off=90.25, counter_update=1e-6, **wave)
        marks = [(1.0, "train", {}), (99.0, "rest", {})]
        out = simulate(machine, [gpu], tmp_path / f"{number}.jsonl", 100, marks=marks)
        marks = [json.loads(line) for line in out.read_text().splitlines() if '"mark"' in line]
        mj = [mark["counter_mj"][gpu.uuid] for mark in marks]
        assert (mj[1] - mj[0]) / 1000 == pytest.approx(gpu.joules(1, 99), abs=0.1)
    assert gpu.lost_from == NEVER
