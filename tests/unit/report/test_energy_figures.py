"""Figures of energy say what they show."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pytest

from longwatt.layout.figure_texts import make_texts_fit
from longwatt.report.energy_figures import WASTED, energy_by_phase
from tests.unit.report.test_figures import row, table, words

MEASURED = {
    "train_energy_kwh": 0.003, "train_steps_energy_kwh": 0.002, "validation_energy_kwh": 0.001,
    "checkpoint_energy_kwh": 0.0, "wasted_energy_kwh": 0.0005,
    "train_energy_source": "nvml_counter",
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
    rows = []
    for n in (1, 3):
        measured = {**MEASURED, "train_steps_energy_kwh": 0.001 * n}
        rows += [row(cell=f"s{n}", seed=n, inference=p, **measured) for p in ("greedy", "beams")]
    figure = energy_by_phase(table(*rows), {})
    assert len(figure.axes[0].get_yticklabels()) == 1
    assert figure.axes[0].patches[0].get_width() == pytest.approx(2.0)
    plt.close(figure)


def test_a_bar_is_called_by_the_path_of_its_training_alone():
    rows = [
        row(cell=path, seq_len=n, attention=path, inference_attention="stock", **MEASURED)
        for n, path in ((64, "fast"), (128, "stock"))
    ]
    figure = energy_by_phase(table(*rows), {})
    names = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_yticklabels()]
    assert names == ["led, fast attention, 64", "led, stock attention, 128"]
    plt.close(figure)


def test_estimates_and_unknown_energies_say_so():
    rows = table(row(cell="a", **{**MEASURED, "train_energy_source": "estimate"}))
    estimated = words(energy_by_phase(rows, {}))
    assert "Training energy, by phase, estimated (Wh)" in estimated
    assert "Energy was not measured" in words(energy_by_phase(table(row(cell="a")), {}))
    mixed = energy_by_phase(table(row(cell="a", **MEASURED), row(cell="b", seq_len=128)), {})
    assert " NA" in [text.get_text() for text in mixed.axes[0].texts]
    plt.close(mixed)


PARTS = ("train_steps", "validation", "checkpoint", "wasted")
FLAGS = {f"{part}_energy_flags": "short gap counter_reset" for part in PARTS}


def boxes(figure, texts):
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in texts if text.get_text()]


def test_a_long_name_and_every_flag_stay_on_the_page_and_off_each_other():
    titles = {"led": "a model with a title that says all of it and more " * 3}
    titles["needle"] = "A needle in a very long haystack"
    rows = table(*(row(seq_len=2**n, **MEASURED, **FLAGS, cell=str(n)) for n in range(5, 9)))
    figure = energy_by_phase(rows, titles)
    make_texts_fit(figure)  # as when it is saved
    (axis,) = figure.axes
    page = figure.bbox
    for box in boxes(figure, [axis.xaxis.label, axis.title]):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0, "cut off"
    names = sorted(boxes(figure, axis.get_yticklabels()), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(names))
    said = " ".join(axis.get_xlabel().split())
    assert "(Wh)" in said and said.count("short, gap, counter_reset") == 4


@pytest.mark.parametrize("kwh", [1.3e-5, 1.1e-6])
def test_numbers_on_the_axis_stand_apart(kwh):
    """Small energies have long numbers; two panels leave each axis little room."""
    phases = {
        name: value / MEASURED["train_energy_kwh"] * kwh
        for name, value in MEASURED.items()
        if "kwh" in name
    }
    rows = [row(**{**MEASURED, **phases}, cell=name, dataset=name) for name in ("one", "two")]
    figure = energy_by_phase(table(*rows), {"led": "BigBird tiny, block-sparse"})
    make_texts_fit(figure)  # as when it is saved
    for axis in figure.axes[:2]:
        numbers = sorted(boxes(figure, axis.get_xticklabels()), key=lambda box: box.x0)
        assert len(numbers) > 2
        assert all(left.x1 + 5 < right.x0 for left, right in pairwise(numbers))
    plt.close(figure)


def test_a_bar_says_that_its_training_diverged():
    lost = row(seq_len=32, **MEASURED, cell="a", ended_by="divergence")
    figure = energy_by_phase(table(lost, row(seq_len=64, **MEASURED, cell="b")), {})
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["led, 32, training diverged", "led, 64"]


def test_the_bar_of_a_training_is_not_that_of_the_model_before_it():
    before = row(cell="a", inference="before", weights="initial")
    figure = energy_by_phase(table(before, row(cell="a", weights="trained", **MEASURED)), {})
    assert [patch.get_width() for patch in figure.axes[0].patches] == pytest.approx([2.0, 1.0, 0.5])
    plt.close(figure)
