"""Figures say what they show."""

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from longwatt.report.energy_figures import energy_by_phase
from longwatt.report.figures import (
    COST_AXES,
    accuracy_against,
    drawings,
    drawn_points,
    plot_all,
    styles_of,
)
from longwatt.results.series import comparable, with_series
from longwatt.study.reported import report_items
from longwatt.study.summary_columns import COLUMNS


def row(**given) -> dict:
    base = dict.fromkeys(COLUMNS)
    fixed = {
        "dataset": "needle", "model": "led", "seq_len": 64, "budget": "cpu",
        "protocol": "generated", "seed": 1, "inference": "greedy", "initialisation": "random",
        "score": 20.0, "score_name": "f1", "score_ci_low": 15.0, "score_ci_high": 26.0,
        "score_ceiling": 25.0, "train_runtime_s": 10.0, "train_energy_source": "none",
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
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_xlabel(), axis.get_ylabel()]
    found += [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    plt.close(figure)
    return "\n".join(found)


TIME, ENERGY = COST_AXES["training_time"], COST_AXES["training_energy"]
NOTHING = {"titles": {}, "published": {}, "figures": []}


def test_the_workflow_declares_the_figures_that_are_drawn(root):
    assert list(drawings(table(), NOTHING)) == list(report_items.figures({}))
    assert set(COST_AXES) == set(report_items.COST_FIGURES)
    given = {"published": {"scores": [{}], "source": "x"}, "figures": [{"name": "own"}]}
    for shown in (report_items.figures(given), report_items.tables(given)):
        for figure in shown.values():
            assert (root / f"workflow/report/{figure.caption}.rst").exists(), figure


def test_lengths_stand_at_the_points_and_random_weights_are_named():
    rows = table(row(), row(seq_len=128, train_runtime_s=20.0))
    said = words(accuracy_against(rows, TIME, {"led": "LED tiny"}))
    assert "64" in said and "128" in said
    assert "LED tiny, from random weights" in said and "ceiling" in said
    assert "Training time, validations included (s)" in said


@pytest.mark.parametrize(
    ("cost", "counts", "device", "said"),
    [
        ("training_time", (1, 1), "cpu", "(s)\nin CPU processes of 1 thread"),
        ("training_speed", (16, 16), "cpu", "(samples/s)\nin CPU processes of 16 threads"),
        ("training_speed", (2, 16), "cpu", "(samples/s)\nmeasured with other thread counts: 2, 16"),
        ("inference_speed", (9, 9), "cpu", "(samples/s)\nin CPU processes of 4 threads"),
        ("training_time", (8, 8), "H200", "included (s)"),
        ("training_time", (None, None), "cpu", "included (s)"),
        ("peak_memory", (8, 8), "cpu", "process (GiB)"),
    ],
)
def test_a_time_on_the_cpu_says_its_threads(cost, counts, device, said):
    known = {"train_samples_per_second": 5.0, "peak_memory_gib": 1.0, "device": device}
    known |= {"inference_device": device, "inference_threads": 4}
    rows = [row(**known, threads=n, seq_len=64 * k) for k, n in enumerate(counts, 1)]
    figure = accuracy_against(table(*rows), COST_AXES[cost], {})
    assert figure.axes[0].get_xlabel().endswith(said)
    plt.close(figure)


def test_there_is_a_panel_per_dataset_with_its_own_score():
    rouge = {"score_name": "rouge_geometric_mean", "score_ceiling": None}
    other = row(dataset="aclsum", initialisation="checkpoint", **rouge)
    figure = accuracy_against(table(row(model="bart"), other), TIME, {"aclsum": "ACLSum"})
    assert len(figure.axes) == 2
    said = words(figure)
    assert "ACLSum" in said and "ROUGE (geometric mean)" in said
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
    rows = [
        row(seq_len=n, train_energy_kwh=0.1, train_energy_source=source)
        for n, source in enumerate(sources)
    ]
    assert label in words(accuracy_against(table(*rows), ENERGY, {})).split("\n")


def test_one_seed_has_the_bootstrap_interval_and_several_have_students():
    (one,) = drawn_points(table(row()), TIME).to_dict("records")
    assert (one["low"], one["high"], one["seeds"]) == (15.0, 26.0, 1)
    (three,) = drawn_points(
        table(*(row(seed=n, score=s) for n, s in enumerate((10, 12, 14)))), TIME
    ).to_dict("records")
    assert three["y"] == 12 and three["seeds"] == 3
    assert three["high"] - three["y"] == pytest.approx(4.303 * 2 / 3**0.5, rel=1e-3)


def test_over_seeds_too_an_interval_has_the_study_s_confidence():
    seeds = [row(seed=n, score=s, score_confidence=0.9) for n, s in enumerate((10, 12, 14))]
    (three,) = drawn_points(table(*seeds), TIME).to_dict("records")
    assert three["high"] - three["y"] == pytest.approx(2.920 * 2 / 3**0.5, rel=1e-3)


def test_a_seed_without_a_cost_leaves_the_mean_unknown():
    known, unknown = row(train_energy_kwh=1.0), row(seed=2)
    (point,) = drawn_points(table(known, unknown), ENERGY).to_dict("records")
    assert pd.isna(point["x"])


def test_equal_tables_give_equal_files(tmp_path):
    summary = as_file(tmp_path, row(), row(seq_len=128))
    for name in ("a", "b"):
        plot_all(summary, tmp_path / name, NOTHING, {})
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def lines(figure) -> list:
    """Drawn lines of at least two points that are no reference lines."""
    found = [line for axis in figure.axes for line in axis.lines if len(line.get_xdata()) > 1]
    plt.close(figure)
    return [line for line in found if line.get_linestyle() == "-"]


def test_two_regimes_of_a_model_are_never_on_one_line():
    regimes = {64: "full attention", 128: "full attention", 256: "block-sparse attention"}
    regimes[512] = "block-sparse attention"
    rows = [
        row(seq_len=n, train_runtime_s=float(n), attention_regime=regime)
        for n, regime in regimes.items()
    ]
    drawn = lines(accuracy_against(table(*rows), TIME, {}))
    assert sorted(tuple(line.get_xdata()) for line in drawn) == [(64, 128), (256, 512)]
    said = words(accuracy_against(table(*rows), TIME, {"led": "BigBird"}))
    assert "BigBird, full attention" in said and "BigBird, block-sparse attention" in said


def test_a_model_of_one_regime_is_not_called_by_it():
    rows = [row(attention_regime="block-sparse attention"), row(model="bart")]
    assert "block-sparse" not in words(accuracy_against(table(*rows), TIME, {}))


def test_two_paths_of_attention_of_a_model_are_never_on_one_line():
    paths = {64: "fast", 128: "fast", 256: "stock", 512: "stock"}
    rows = [row(seq_len=n, train_runtime_s=float(n), attention=path) for n, path in paths.items()]
    drawn = lines(accuracy_against(table(*rows), TIME, {}))
    assert sorted(tuple(line.get_xdata()) for line in drawn) == [(64, 128), (256, 512)]
    said = words(accuracy_against(table(*rows), TIME, {"led": "LED"}))
    assert "LED, fast attention" in said and "LED, stock attention" in said


def test_a_model_of_one_path_is_not_called_by_it_and_an_unknown_path_has_no_name():
    rows = [row(attention="fast"), row(model="bart", attention="stock"), row(model="t5")]
    assert "fast" not in words(accuracy_against(table(*rows), TIME, {}))
    mixed = [row(), row(seq_len=128, attention="fast")]
    said = words(accuracy_against(table(*mixed), TIME, {}))
    assert "led, from random weights" in said and "led, fast attention" in said


def test_another_path_in_inference_is_another_series():
    rows = [
        row(seq_len=n, attention="fast", inference_attention=path)
        for n, path in ((64, "fast"), (128, "stock"))
    ]
    assert list(with_series(table(*rows))["attention_path"]) == [
        "fast attention",
        "fast attention, stock in inference",
    ]
    assert "led, fast attention, stock in inference" in words(
        accuracy_against(table(*rows), TIME, {})
    )


def test_the_lead_baseline_is_a_line_of_its_own_with_a_name():
    figure = accuracy_against(
        table(row(score_lead=7.0), row(seq_len=128, score_lead=7.0)), TIME, {}
    )
    dotted = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == ":"]
    assert [set(line.get_ydata()) for line in dotted] == [{7.0}]
    assert "lead baseline" in words(figure)
    assert "lead baseline" not in words(accuracy_against(table(row()), TIME, {}))


def test_one_legend_serves_all_panels():
    figure = accuracy_against(table(row(), row(dataset="aclsum"), row(dataset="third")), TIME, {})
    assert len(figure.legends) == 1 and all(axis.get_legend() is None for axis in figure.axes)
    plt.close(figure)


def linear(colour) -> list[float]:
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]


def lightness(colour) -> float:
    """CIE L* of an sRGB colour: what is left of it in greyscale."""
    y = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_series_differ_in_lightness_and_marker(count):
    """Return a difference in lightness, seen in greyscale and with every colour-blindness."""
    styles = list(
        styles_of(with_series(table(*(row(model=f"m{n}") for n in range(count))))).values()
    )
    found = [lightness(style["color"]) for style in styles]
    gaps = [b - a for a, b in pairwise(found)]
    assert min(gaps) > 7 and found[-1] < 80, "and the lightest is still seen on white"
    assert len({style["marker"] for style in styles}) == count


@pytest.mark.parametrize("falling", [False, True])
def test_a_length_stands_off_its_line(falling):
    scores = (40.0, 20.0) if falling else (20.0, 40.0)
    rows = [
        row(seq_len=n, train_runtime_s=float(n), score=s, score_ci_low=s - 1, score_ci_high=s + 1)
        for n, s in zip((64, 128), scores, strict=True)
    ]
    figure = accuracy_against(table(*rows), TIME, {})
    (axis,) = figure.axes
    line = next(line for line in axis.lines if line.get_marker() == "o")
    path = axis.transData.transform_path(line.get_path())
    boxes = [text.get_window_extent() for text in axis.texts]
    plt.close(figure)
    assert len(boxes) == 2 and not any(path.intersects_bbox(box) for box in boxes)
    for (x, y), box in zip(path.vertices, boxes, strict=True):
        assert max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1) < 12, (
            "it stands beside its point"
        )


@pytest.mark.parametrize(
    "datasets", [("needle",), ("needle", "aclsum"), ("needle", "aclsum", "c", "d")]
)
def test_nothing_is_cut_off(datasets):
    """Long names of models, and every text, lie within the picture."""
    regimes = ("full attention", "block-sparse attention")
    rows = [
        row(dataset=d, seq_len=n, attention_regime=r)
        for d in datasets
        for n, r in zip((64, 128), regimes, strict=True)
    ]
    figure = accuracy_against(table(*rows), TIME, {"led": "BigBird-Pegasus large"})
    figure.canvas.draw()
    shown = [axis for axis in figure.axes if axis.get_visible()]
    texts = [
        text
        for axis in shown
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts)
    ]
    texts += figure.legends[0].get_texts()
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0, text.get_text()
    plt.close(figure)


def test_labels_of_points_that_coincide_do_not():
    rows = [
        row(model=f"m{n}", seq_len=length, train_runtime_s=float(length))
        for n in range(3)
        for length in (64, 128)
    ]
    figure = accuracy_against(table(*rows), TIME, {})
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    plt.close(figure)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize(("kwh", "unit"), [(0.4, "Wh"), (1.2, "kWh")])
def test_energy_is_in_the_unit_that_fits_its_size(kwh, unit):
    counted = {"train_energy_source": "nvml_counter"}
    rows = table(*(row(seq_len=n, train_energy_kwh=kwh / n, **counted) for n in (1, 2)))
    figure = accuracy_against(rows, ENERGY, {})
    (axis,) = figure.axes
    drawn = max(max(line.get_xdata()) for line in axis.lines if len(line.get_xdata()))
    assert axis.get_xlabel() == f"Training energy ({unit})" and drawn == pytest.approx(
        1.2 if unit == "kWh" else 400
    )
    plt.close(figure)
    bars = energy_by_phase(rows, {})
    assert bars.axes[0].get_xlabel() == f"Training energy, by phase ({unit})"
    plt.close(bars)


def test_the_bars_of_a_series_stand_together():
    rows = [
        row(seq_len=n, budget=budget, train_energy_kwh=0.1)
        for n in (64, 128)
        for budget in ("one", "two")
    ]
    figure = energy_by_phase(
        table(*({**r, "cell": str(n)} for n, r in enumerate(rows))), {"one": "1 GPU"}
    )
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    plt.close(figure)
    assert names == ["led, 1 GPU, 64", "led, 1 GPU, 128", "led, two, 64", "led, two, 128"]


def test_a_logarithmic_axis_has_plain_numbers():
    rows = table(row(train_runtime_s=3.0), row(seq_len=128, train_runtime_s=400.0))
    figure = accuracy_against(rows, TIME, {})
    figure.canvas.draw()
    (axis,) = figure.axes
    ticks = [text.get_text() for text in axis.get_xticklabels()]
    assert axis.get_xscale() == "log" and {"5", "10", "20", "200"} <= set(ticks)
    plt.close(figure)


def test_all_panels_of_a_cost_have_one_scale():
    """Side by side, one line must not look straight and the other bent by its axis alone."""
    near = [row(dataset="near", seq_len=n, train_runtime_s=10.0 * n) for n in (1, 2)]
    far = [row(dataset="far", seq_len=n, train_runtime_s=float(n)) for n in (1, 90)]
    figure = accuracy_against(table(*near, *far), TIME, {})
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "log"]
    plt.close(figure)


def test_an_empty_panel_names_the_column_that_is_not_known():
    said = words(accuracy_against(table(row(train_runtime_s=None)), TIME, {}))
    assert "train_runtime_s is NA" in said


def test_a_crowded_panel_labels_the_ends_of_its_lines():
    rows = [
        row(model=f"m{n}", seq_len=length, train_runtime_s=float(length + 40 * n), score=20.0 + n)
        for n in range(5)
        for length in (64, 128, 256)
    ]
    figure = accuracy_against(table(*rows), TIME, {})
    said = [text.get_text() for text in figure.axes[0].texts]
    plt.close(figure)
    assert sorted(set(said)) == ["256", "64"] and len(said) == 10


def of_exits(rule: str | None, **given) -> dict:
    """A row of a summary that knows of exits."""
    base = {"score_name": "accuracy", "exit_rule": rule, "majority": 12.0, "cell": "c"}
    base["score_ceiling"] = None
    return {**row(), **base, **given}


def test_points_of_early_exit_stay_out_of_the_general_figures():
    given = pd.DataFrame(
        [of_exits("threshold", inference="t0.9"), of_exits("last", inference="plain"), row()]
    )
    assert len(comparable(given)) == 2 and len(comparable(table(row()))) == 1
    said = words(accuracy_against(given, COST_AXES["inference_speed"], {}))
    assert "plain" in said and "t0.9" not in said
    only = words(accuracy_against(given.iloc[:1], COST_AXES["inference_speed"], {}))
    assert "only run with early exit" in only


def test_a_training_has_one_point_at_whatever_batch_size_it_answers():
    given = pd.DataFrame([of_exits("last", inference=f"b{size}") for size in (1, 32)])
    drawn = [
        line
        for axis in accuracy_against(given, TIME, {}).axes
        for line in axis.lines
        if line.get_marker() == "o"
    ]
    assert len(drawn) == 1, "its accuracy and what training cost are the same"
    drawn = accuracy_against(given, COST_AXES["inference_speed"], {})
    assert {"led, b1, from random weights", "led, b32, from random weights"} <= set(
        words(drawn).split("\n")
    )


@pytest.mark.parametrize(("metric", "there"), [("accuracy", True), ("macro_f1", False)])
def test_the_majority_class_is_the_baseline_of_a_classification(metric, there):
    """It has an accuracy; of another metric it says nothing."""
    figure = accuracy_against(pd.DataFrame([of_exits("last", score_name=metric)]), TIME, {})
    drawn = [
        set(line.get_ydata())
        for axis in figure.axes
        for line in axis.lines
        if line.get_linestyle() == ":"
    ]
    said = words(figure)
    assert drawn == ([{12.0}] if there else []) and ("majority class" in said) == there
    assert "lead baseline" not in said and ("Accuracy (%)" if there else "Macro F1 (%)") in said


def test_bars_of_cells_with_points_of_their_own_are_called_by_their_model():
    rows = [
        of_exits("last", cell=m, model=m, inference=f"{m}-b1", train_energy_kwh=0.1)
        for m in ("one", "two")
    ]
    figure = energy_by_phase(pd.DataFrame(rows), {})
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    plt.close(figure)
    assert names == ["one, 64", "two, 64"]


def zero_shot(**given) -> dict:
    """A row of the model before training: none of its costs are known."""
    return row(inference="before", weights="initial", train_runtime_s=None, score=3.0, **given)


def test_a_model_before_training_is_no_point_of_its_training_s_cost():
    rows = table(row(weights="trained"), zero_shot())
    said = words(accuracy_against(rows, TIME, {}))
    assert "before" not in said and "greedy" not in said
    faster = words(accuracy_against(rows, COST_AXES["inference_speed"], {}))
    assert "before" in faster and "greedy" in faster
    figure = {"name": "own", "datasets": ["needle"], "costs": ["training_time"]}
    own = drawings(rows, {**NOTHING, "figures": [figure]})["own"]
    assert "before" not in words(own())
