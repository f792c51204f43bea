"""Figures say what they show."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from longwatt.figures import COSTS, accuracy_against, plot_all, points
from longwatt.stages import FIGURES
from longwatt.summary import COLUMNS


def row(**given) -> dict:
    base = dict.fromkeys(COLUMNS)
    fixed = {
        "dataset": "needle", "model": "led", "seq_len": 64, "budget": "cpu", "protocol": "generated", "seed": 1,
        "inference": "greedy", "initialisation": "random", "score": 20.0, "score_name": "f1", "score_ci_low": 15.0,
        "score_ci_high": 26.0, "score_ceiling": 25.0, "train_runtime_s": 10.0, "train_energy_source": "none",
        "inference_samples_per_second": 100.0,
    }  # fmt: skip
    return {**base, **fixed, **given}


def table(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


def as_file(folder: Path, *rows: dict) -> Path:
    path = folder / "given.csv"
    table(*rows).to_csv(path, index=False, na_rep="NA")
    return path


def words(figure) -> str:
    found = [t.get_text() for axis in figure.axes for t in axis.texts]
    found += [getattr(axis, f"get_{name}")() for axis in figure.axes for name in ("title", "xlabel", "ylabel")]
    found += [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    plt.close(figure)
    return "\n".join(found)


TIME, ENERGY = COSTS["accuracy_vs_training_time"], COSTS["accuracy_vs_training_energy"]


def test_the_workflow_declares_the_figures_that_are_drawn():
    assert tuple(COSTS) == FIGURES


def test_lengths_stand_at_the_points_and_random_weights_are_named():
    said = words(accuracy_against(table(row(), row(seq_len=128, train_runtime_s=20.0)), TIME, {"led": "LED tiny"}))
    assert "64" in said and "128" in said
    assert "LED tiny, from random weights" in said and "ceiling" in said
    assert "Training time, validations included (s)" in said


def test_there_is_a_panel_per_dataset_with_its_own_score():
    other = row(dataset="aclsum", score_name="rouge_geometric_mean", score_ceiling=None, initialisation="checkpoint")
    figure = accuracy_against(table(row(model="bart"), other), TIME, {"aclsum": "ACLSum"})
    assert len(figure.axes) == 2
    said = words(figure)
    assert "ACLSum" in said and "ROUGE (geometric mean" in said
    assert "bart, from random weights" in said and "led, from" not in said


def test_unknown_energy_leaves_an_empty_panel_that_says_why():
    said = words(accuracy_against(table(row()), ENERGY, {}))
    assert "Energy was not measured" in said and "estimated" not in said


@pytest.mark.parametrize(
    ("sources", "label"),
    [
        (("estimate", "estimate"), "Training energy, estimated (Wh)"),
        (("estimate", "nvml_counter"), "Training energy, partly estimated (Wh)"),
        (("nvml_counter", "nvml_counter"), "Training energy (Wh)"),
    ],
)
def test_an_estimate_is_called_one_on_the_axis(sources, label):
    rows = [row(seq_len=n, train_energy_kwh=0.1, train_energy_source=source) for n, source in enumerate(sources)]
    assert label in words(accuracy_against(table(*rows), ENERGY, {})).split("\n")


def test_one_seed_has_the_bootstrap_interval_and_several_have_students():
    (one,) = points(table(row()), TIME).to_dict("records")
    assert (one["low"], one["high"], one["seeds"]) == (15.0, 26.0, 1)
    (three,) = points(table(*(row(seed=n, score=s) for n, s in enumerate((10, 12, 14)))), TIME).to_dict("records")
    assert three["y"] == 12 and three["seeds"] == 3
    assert three["high"] - three["y"] == pytest.approx(4.303 * 2 / 3**0.5)


def test_a_seed_without_a_cost_leaves_the_mean_unknown():
    known, unknown = row(train_energy_kwh=1.0), row(seed=2)
    (point,) = points(table(known, unknown), ENERGY).to_dict("records")
    assert pd.isna(point["x"])


def test_equal_tables_give_equal_files(tmp_path):
    summary = as_file(tmp_path, row(), row(seq_len=128))
    for name in ("a", "b"):
        plot_all(summary, tmp_path / name, {}, {})
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
