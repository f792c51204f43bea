"""Figures of energy say what they show."""

import matplotlib.pyplot as plt
import pytest

from longwatt.energy_figures import WASTED, energy_by_phase
from tests.unit.test_figures import row, table, words

MEASURED = {
    "train_energy_kwh": 0.003, "train_steps_energy_kwh": 0.002, "validation_energy_kwh": 0.001,
    "checkpoint_energy_kwh": 0.0, "wasted_energy_kwh": 0.0005, "train_energy_source": "nvml_counter",
}  # fmt: skip


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
