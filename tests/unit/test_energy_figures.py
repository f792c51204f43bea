"""Figures of energy say what they show."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from longwatt.energy.artefacts import write_energy
from longwatt.energy_figures import WASTED, energy_by_phase, plot_power, power_over_time
from longwatt.provenance import sha256
from tests.energy_logs import end, header, mark, samples, write
from tests.unit.test_figures import row, table, words

MEASURED = {
    "train_energy_kwh": 0.003, "train_steps_energy_kwh": 0.002, "validation_energy_kwh": 0.001,
    "checkpoint_energy_kwh": 0.0, "wasted_energy_kwh": 0.0005, "train_energy_source": "nvml_counter",
}  # fmt: skip


@pytest.fixture
def part(tmp_path):
    """A folder with the energy of one metered part of a cell."""

    def make(name: str, *lines) -> Path:
        folder = tmp_path / "results" / "cell" / name
        log = write(folder / "energy.jsonl", *lines)
        write_energy(log, {"watts_per_core": None}, folder / "energy.json", folder / "power.csv", {})
        return folder

    return make


def killed_and_resumed():
    first = [header(gpus=2), *samples(0, 40, 100, gpus=2), mark(0, "load", attempt=1, step=0)]
    first += [mark(5, "train", attempt=1, step=0)]
    second = [header(60, gpus=2), *samples(60, 100, 150, gpus=2), mark(60, "load", attempt=2, step=0)]
    second += [mark(70, "train", attempt=2, step=0), mark(95, "validation", attempt=2, step=9)]
    return [*first, *second, mark(99, "finish", attempt=2, step=9), end(100)]


def test_every_gpu_has_a_line_and_every_phase_its_shade(part):
    figure = power_over_time({"finetune": part("finetune", killed_and_resumed())}, "Needle, LED")
    said = words(figure)
    for name in ("training steps", "validation", "loading", WASTED, "GPU 00000000", "Power (W)"):
        assert name in said
    assert "Time of the job, all its runs (s)" in said
    assert figure.get_suptitle() == "Needle, LED"


def test_a_curve_is_drawn_in_watts_over_the_job_s_time(part):
    figure = power_over_time({"finetune": part("finetune", header(), samples(0, 100, 250), end(100))}, "x")
    line = figure.axes[0].get_lines()[0]
    assert set(line.get_ydata().round(6)) == {250}
    assert 99 < line.get_xdata().max() <= 100
    assert "Training: 6.94 Wh, mean 250 W, integral against counter +0.0 %" in figure.axes[0].get_title(loc="left")
    plt.close(figure)


def test_without_a_sensor_the_phases_are_shown_and_the_panel_says_why(part):
    folder = part("finetune", header(gpus=0), [{"t": header()["t"] + 10**9}], mark(0, "train"), end(9))
    figure = power_over_time({"finetune": folder}, "x")
    title = figure.axes[0].get_title(loc="left")
    said = words(figure)
    assert "Power was not measured" in said and "training steps" in said and "energy not known" in title


def test_every_cell_has_its_figure_and_power_json_says_from_what(part, tmp_path):
    part("finetune", killed_and_resumed())
    folder = part("predict/greedy", header(), samples(0, 10, 100), mark(0, "generate"), end(10))
    results = tmp_path / "results"
    parts = {"cell": ["finetune", "predict/greedy"]}
    plot_power(results, tmp_path / "power", {"cell": "A cell"}, parts, {"rule": "plot_power"})
    assert (tmp_path / "power/cell.svg").read_text().startswith("<?xml")
    facts = json.loads((tmp_path / "power/power.json").read_text())
    assert facts["made_from"][str(folder / "energy.json")] == sha256(folder / "energy.json")


def test_phases_are_stacked_to_the_whole_and_what_was_wasted_stands_beyond():
    figure = energy_by_phase(table(row(cell="a", **MEASURED)), {"led": "LED tiny"})
    bars = [(patch.get_x(), patch.get_width()) for patch in figure.axes[0].patches]
    assert [width for _, width in bars] == pytest.approx([2.0, 1.0, 0.5])
    assert [left for left, _ in bars] == pytest.approx([0.0, 2.0, 3.0])
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["LED tiny, 64"]
    assert WASTED in words(figure)


def test_seeds_are_means_and_inference_points_count_once():
    rows = [row(cell=f"s{n}", seed=n, inference=point, **{**MEASURED, "train_steps_energy_kwh": 0.001 * n})
            for n in (1, 3) for point in ("greedy", "beams")]  # fmt: skip
    figure = energy_by_phase(table(*rows), {})
    assert len(figure.axes[0].get_yticklabels()) == 1
    assert figure.axes[0].patches[0].get_width() == pytest.approx(2.0)
    plt.close(figure)


def test_estimates_and_unknown_energies_say_so():
    estimated = words(energy_by_phase(table(row(cell="a", **{**MEASURED, "train_energy_source": "estimate"})), {}))
    assert "Training energy, by phase, estimated (Wh)" in estimated
    assert "Energy was not measured" in words(energy_by_phase(table(row(cell="a")), {}))
    mixed = energy_by_phase(table(row(cell="a", **MEASURED), row(cell="b", seq_len=128)), {})
    assert " NA" in [text.get_text() for text in mixed.axes[0].texts]
    plt.close(mixed)
