"""Figures of early exit say what they show."""

import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Text

from longwatt.exits.diagnostics import (
    ExitStudy,
    by_difficulty,
    confidence_by_label,
    pooled,
    reliability_figure,
)
from longwatt.exits.figures import (
    ACROSS_ENERGY,
    TIME,
    accuracy_by_kind_against,
    against_largest,
    by_threshold,
    exit_drawings,
    plot_exits,
)
from longwatt.exits.series import exit_points, over_all_seeds
from longwatt.files import sha256
from longwatt.layout.figure_texts import make_texts_fit
from longwatt.report.exits_table import early_exits
from longwatt.report.tables import readable, scores_by_length
from longwatt.study.reported import report_items
from tests.unit.report.test_figures import row, words

LAYERS = (0, 4, 12, 23)


def measured(layers: float, best: float, **given) -> dict:
    """A point that ran so many of 24 layers."""
    accuracy = best - 14 * math.exp(-layers / 5)
    relative = (layers + 0.6) / 24.6
    numbers = {"accuracy": accuracy, "relative_time": relative}
    numbers["joules_per_example"] = 1.5 * relative
    ends = {
        f"{name}_ci_{end}": value * (1 + sign * wide)
        for (name, value), wide in zip(numbers.items(), (0.006, 0.03, 0.03), strict=True)
        for end, sign in (("low", -1), ("high", 1))
    }
    facts = {"seconds_per_example": 0.02 * relative, "mean_layers": layers}
    facts["energy_source"] = "nvml_counter"
    return {**numbers, **ends, **facts, **given}


def comparison(dataset="ag_news", model="exits", thresholds=(0.5, 0.7, 0.9), **given) -> dict:
    """Return measurements of a model with exits and its baselines, at one batch size and seed."""
    best = 92.0 + len(dataset) / 4
    ours = [
        measured(3 + 21 * t**3, best, rule="threshold", value=t, point=f"t{t}") for t in thresholds
    ]
    ours += [
        measured(layers, best - 0.4, rule="patience", value=k)
        for k, layers in ((2, 12.0), (3, 19.0))
    ]
    ours += [measured(24, best, rule="last", value=None)]
    place = {"dataset": dataset, "encoder": "bert-large", "encoder_layers": 24, "seq_len": 512}
    place |= {"seed": 1, "majority": 25.0}
    return {
        **place, "budget": "gpu", "split": "test", "batch_size": 1, "model": model,
        "standard": measured(24, best + 0.2, relative_time=1.0, model="standard", exit_layers=[23]),
        "points": ours,
        "efficient": [measured(n + 1, best - 0.8, exit_layers=[n], model=f"efficient{n}")
                      for n in LAYERS[:-1]],
        "oracle": [measured(5, best + 3, rule="oracle")],
        **given,
    }  # fmt: skip


def cell_name(dataset: str, model: str, seed: int = 1) -> str:
    return f"{dataset}/{model}/512/gpu/classified/seed{seed}"


def cells(*names: tuple[str, str], seed: int = 1) -> list[dict]:
    axes = {"seq_len": 512, "budget": "gpu", "protocol": "classified", "seed": seed}
    return [{"cell": cell_name(d, m, seed), "dataset": d, "model": m, **axes} for d, m in names]


def curve_rows(cell: str, dataset: str, model: str) -> list[dict]:
    base = {"cell": cell, "dataset": dataset, "model": model, "macro_f1": 80.0, "exits_taken": "[]"}
    return [
        {**base, "split": split, "rule": "threshold", "value": t / 100,
         "mean_layers": 3 + 21 * (t / 100) ** 3,
         "accuracy": measured(3 + 21 * (t / 100) ** 3, 92.0 + len(dataset) / 4)["accuracy"]}
        for split in ("validation", "test") for t in range(101)
    ]  # fmt: skip


def difficulty_rows(
    cell: str, dataset: str, model: str, labels=("World", "Sports", "Business", "Sci/Tech")
) -> list:
    groups = {"label": list(labels), "length": ["8-21", "22-35", "36-48", "49-77", "78-512"]}
    groups["gold_confidence"] = ["0.02-0.55", "0.55-0.90", "0.90-0.97", "0.97-0.99", "0.99-1.00"]
    rows = []
    for kind, names in groups.items():
        for number, group in enumerate(names):
            for exit_, layer in enumerate(LAYERS):
                sure = 0.5 + 0.1 * exit_ + 0.03 * number
                rows.append(
                    {"cell": cell, "dataset": dataset, "model": model, "split": "test",
                     "exit": exit_, "layer": layer,
                     "kind": kind, "group": group, "count": 100, "accuracy": 100 * sure,
                     "mean_confidence": sure, "confidence_q25": sure - 0.1,
                     "confidence_median": sure + 0.02, "confidence_q75": sure + 0.1,
                     "mean_exit": 2.0, "mean_layers": 12.0 + number}
                )  # fmt: skip
    return rows


def bins(shift: float) -> list[dict]:
    found = []
    for number in range(15):
        count = 0 if number < 4 else 10 * number
        middle = (number + 0.5) / 15
        known = (
            {"confidence": middle, "accuracy": min(1.0, max(0.0, middle - shift))} if count else {}
        )
        empty = {"confidence": None, "accuracy": None}
        found.append(
            {"low": number / 15, "high": (number + 1) / 15, "count": count, **empty, **known}
        )
    return found


def calibration(layers=LAYERS) -> dict:
    def facts(shift: float) -> dict:
        found = {"nll": 0.3, "ece": shift, "accuracy": 0.9, "mean_confidence": 0.95}
        return {**found, "bins": bins(shift)}

    measured_ = {"examples": 100, "before": facts(0.15), "after": facts(0.02), "ece_drop": 0.13}
    splits = {"validation": measured_, "test": measured_}
    exits = [
        {"layer": layer, "temperature": 1.2 + 0.1 * n, "splits": splits}
        for n, layer in enumerate(layers)
    ]
    return {"split": "validation", "layers": list(layers), "exits": exits}


class Made:
    """A made-up study's files and settings for `plot_exits`."""

    def __init__(self, folder: Path, comparisons: list[dict], titles: dict | None = None) -> None:
        pairs = list(dict.fromkeys((c["dataset"], c["model"]) for c in comparisons))
        self.cells, self.folder, self.titles = cells(*pairs), folder, titles or {}
        self.report = {"rows": {}, "comparisons": comparisons}
        self.curve = pd.DataFrame(
            [r for c in self.cells for r in curve_rows(c["cell"], c["dataset"], c["model"])]
        )
        rows = [r for c in self.cells for r in difficulty_rows(c["cell"], c["dataset"], c["model"])]
        self.difficulty = pd.DataFrame(rows)
        self.calibrations = {c["cell"]: calibration() for c in self.cells}
        self.study = ExitStudy(self.titles, self.cells, self.calibrations)

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "exits.json").write_text(json.dumps(self.report))
        self.curve.to_csv(self.folder / "curve.csv", index=False, na_rep="NA")
        self.difficulty.to_csv(self.folder / "difficulty.csv", index=False, na_rep="NA")
        for cell, facts in self.calibrations.items():
            (self.folder / cell).mkdir(parents=True)
            (self.folder / cell / "calibration.json").write_text(json.dumps(facts))

    def plot(self, target: Path, names=tuple(report_items.EXIT_FIGURES)) -> None:
        plot_exits(
            self.folder / "exits.json",
            self.folder / "curve.csv",
            self.folder / "difficulty.csv",
            {cell: self.folder / cell / "calibration.json" for cell in self.calibrations},
            target,
            {"titles": self.titles, "cells": self.cells, "names": list(names)},
            {"rule": "plot_exits"},
        )


def table(*comparisons: dict) -> pd.DataFrame:
    return over_all_seeds(exit_points(comparisons))


def study(*comparisons: dict, **titles: str) -> ExitStudy:
    random = frozenset(c["model"] for c in comparisons if c["encoder"].startswith("random"))
    return ExitStudy(titles, [], {}, random)


def time_figure(*comparisons: dict, **titles: str):
    return accuracy_by_kind_against(table(*comparisons), TIME, study(*comparisons, **titles))


def shown(figure) -> list:
    found = [axis for axis in figure.axes if axis.get_visible()]
    plt.close(figure)
    return found


def test_the_figures_of_a_study_are_those_that_can_be_drawn(root, tmp_path):
    made = Made(tmp_path, [comparison()])
    assert set(exit_drawings(made.report, made.curve, made.difficulty, made.study)) == set(
        report_items.EXIT_FIGURES
    )
    for name in (*report_items.EXIT_FIGURES, "exits_table"):
        assert (root / f"workflow/report/{name}.rst").exists(), name


def declared(*models: dict) -> dict:
    names = [f"m{number}" for number in range(len(models))]
    block = {"datasets": ["d"], "models": names, "seq_lens": [64], "budgets": ["cpu"]}
    return {"datasets": {"d": {}}, "budgets": {"cpu": {}},
            "models": dict(zip(names, models, strict=True)),
            "grid": [block]}  # fmt: skip


BERT = {"family": "early_exit", "initialisation": "checkpoint", "path": "bert"}
BERT["exits"] = {"layers": [0, 3, 5]}


def test_a_study_without_exits_has_no_figures_of_them():
    text = {"family": "led", "initialisation": "random"}
    standard = {**BERT, "exits": {"layers": [5]}}
    assert report_items.exit_figures({}) == report_items.exit_figures(declared(text)) == {}
    assert report_items.exit_figures(declared(standard)) == {}, "nothing leaves early"
    assert "exits" in report_items.tables(
        declared(standard)
    ) and "exits" not in report_items.tables(declared(text))
    unused = declared(text, BERT)
    unused["grid"][0]["models"] = ["m0"]
    assert report_items.exit_figures(unused) == {} and "exits" not in report_items.tables(unused)


def test_several_encoders_have_a_figure_of_their_own():
    standard = {**BERT, "title": "Standard", "training": {"max_epochs": 1}}
    standard["exits"] = {"layers": [5]}
    assert set(report_items.exit_figures(declared(BERT, standard))) == set(
        report_items.EXIT_FIGURES
    ) - {"exits_distilled"}
    assert set(report_items.exit_figures(declared(BERT, {**standard, "path": "mini"}))) == set(
        report_items.EXIT_FIGURES
    )


def test_every_kind_of_point_is_drawn_and_named():
    figure = time_figure(comparison(), ag_news="AG News", exits="BERT with exits")
    said = words(figure).split("\n")
    for text in (
        "0.5",
        "0.7",
        "0.9",
        "2",
        "3",
        "0",
        "4",
        "12",
        "AG News",
        "test split",
        "BERT with exits",
    ):
        assert text in said, text
    for text in (
        "by threshold",
        "by patience",
        "standard:",
        "efficient:",
        "oracle:",
        "last classifier answers",
    ):
        assert any(text in line for line in said), text
    assert "Time per example, standard baseline = 1" in said


def test_a_line_goes_through_the_thresholds_in_their_order():
    (axis,) = shown(time_figure(comparison(thresholds=(0.9, 0.5, 0.7))))
    (line,) = [
        one for one in axis.lines if one.get_linestyle() == "-" and len(one.get_xdata()) == 3
    ]
    expected = [measured(3 + 21 * t**3, 92 + 7 / 4) for t in (0.5, 0.7, 0.9)]
    assert list(line.get_xdata()) == [point["relative_time"] for point in expected]
    assert list(line.get_ydata()) == [point["accuracy"] for point in expected]


def test_there_is_a_panel_per_dataset_and_batch_size():
    pairs = [(name, size) for name in ("ag_news", "imdb") for size in (1, 32)]
    axes = shown(time_figure(*(comparison(name, batch_size=size) for name, size in pairs)))
    assert [axis.get_title() for axis in axes] == [
        f"{name}\ntest split, batch {size}" for name, size in pairs
    ]


def test_lengths_and_encoders_are_never_in_one_panel():
    small = comparison(encoder="tiny", model="small")
    axes = shown(time_figure(comparison(), comparison(seq_len=128), small))
    assert [axis.get_title().split("\n")[1] for axis in axes] == [
        "bert-large, 512 tokens, test split", "bert-large, 128 tokens, test split",
        "tiny, 512 tokens, test split",
    ]  # fmt: skip


def test_a_baseline_of_two_models_is_one_point():
    both = exit_points([comparison(), comparison(model="others")])
    wanted = {"early_exit": 12, "efficient": 3, "oracle": 2, "standard": 1}
    assert both["kind"].value_counts().to_dict() == wanted


def test_seeds_are_means_with_an_interval_over_seeds():
    seeds = [comparison(seed=n) for n in (1, 2, 3)]
    for number, seed in enumerate(seeds):
        seed["points"] = [measured(12, 90 + number, rule="threshold", value=0.5)]
    (point,) = table(*seeds).query("rule == 'threshold'").to_dict("records")
    accuracies = [one["points"][0]["accuracy"] for one in seeds]
    mean = sum(accuracies) / 3
    assert point["accuracy"] == pytest.approx(mean)
    assert point["accuracy_ci_high"] - mean == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    seeds[1]["points"][0]["joules_per_example"] = None
    (point,) = table(*seeds).query("rule == 'threshold'").to_dict("records")
    assert math.isnan(point["joules_per_example"]), "unknown of one is unknown"


def test_what_is_unknown_leaves_an_empty_panel_that_says_why():
    lonely = comparison(standard=None)
    for point in (*lonely["points"], *lonely["efficient"], *lonely["oracle"]):
        ends = ("", "_ci_low", "_ci_high")
        point |= {f"relative_time{end}": None for end in ends}
        point |= {"joules_per_example": None, "energy_source": None}
    assert "no standard baseline" in words(time_figure(lonely))
    said = words(accuracy_by_kind_against(table(lonely), ACROSS_ENERGY, study(lonely)))
    assert "Energy was not measured" in said and "estimated" not in said


@pytest.mark.parametrize(
    ("source", "label"),
    [("estimate", "Energy per example, estimated (J)"), ("nvml_counter", "Energy per example (J)")],
)
def test_an_estimate_is_called_one_on_the_axis(source, label):
    given = comparison()
    for point in (*given["points"], given["standard"], *given["efficient"], *given["oracle"]):
        point["energy_source"] = source
    assert label in words(
        accuracy_by_kind_against(table(given), ACROSS_ENERGY, study(given))
    ).split("\n")


@pytest.mark.parametrize(("majority", "there"), [(25.0, False), (78.0, True)])
def test_the_majority_class_is_drawn_where_it_is_within_reach(majority, there):
    figure = time_figure(comparison(majority=majority))
    drawn = [
        line for axis in figure.axes for line in axis.lines if set(line.get_ydata()) == {majority}
    ]
    assert bool(drawn) == there == ("majority class" in words(figure))


def said(axis) -> str:
    """Read what stands below an axis, on however many lines."""
    return " ".join(axis.get_xlabel().split())


def test_encoders_stand_on_the_time_of_the_largest():
    small = comparison(encoder="tiny", encoder_layers=6, model="small")
    for point in (*small["points"], small["standard"]):
        point["seconds_per_example"] *= 0.3
    found = exit_points([comparison(), small])
    standards = found[found["kind"] == "standard"].set_index("encoder")["relative_to_largest"]
    assert standards.to_dict() == pytest.approx({"bert-large": 1.0, "tiny": 0.3})
    (axis,) = shown(against_largest(over_all_seeds(found), study(small)))
    assert axis.get_title() == "ag_news\ntest split" and "largest encoder's standard" in said(axis)


def test_random_weights_are_named():
    assert "exits, from random weights" in words(time_figure(comparison(encoder="random 1234")))
    assert "from random weights" not in words(time_figure(comparison()))


def test_the_curve_says_that_it_was_not_timed_and_holds_the_measured_points(tmp_path):
    made = Made(tmp_path, [comparison(), comparison(batch_size=32), comparison(split="validation")])
    figure = by_threshold(made.curve, table(*made.report["comparisons"]), made.study)
    above, below = figure.axes
    assert [len(line.get_xdata()) for line in above.lines] == [101, 6], (
        "of the test split; three at each batch size"
    )
    assert sorted(set(below.lines[1].get_xdata())) == [0.5, 0.7, 0.9]
    assert "from recorded logits, not timed" in words(figure)


def test_confidence_has_a_box_for_each_label_and_exit(tmp_path):
    made = Made(tmp_path, [comparison()])
    figure = confidence_by_label(made.difficulty, made.study)
    (axis,) = figure.axes
    assert len(axis.patches) == 4 * len(LAYERS)
    assert [text.get_text() for text in axis.get_xticklabels()] == [str(layer) for layer in LAYERS]
    wanted = ["World", "Sports", "Business", "Sci/Tech"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == wanted
    plt.close(figure)


@pytest.mark.parametrize(
    "labels",
    [
        (
            "Computer science and its applications",
            "Sports",
            "Business",
            "Science and technology of today",
        ),
        ("a label of very many words " * 6, "no"),
        tuple(f"label number {number}" for number in range(9)),
        ("unbroken" * 20, "no"),
    ],
)
def test_long_labels_lie_within_the_picture(labels, tmp_path):
    made = Made(tmp_path, [comparison()])
    cell, dataset, model = made.difficulty.iloc[0][["cell", "dataset", "model"]]
    figure = confidence_by_label(
        pd.DataFrame(difficulty_rows(cell, dataset, model, labels)), made.study
    )
    make_texts_fit(figure)
    figure.canvas.draw()
    for text in figure.axes[0].get_legend().get_texts():
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, text.get_text()
    plt.close(figure)


def test_difficulty_shows_layers_run_and_each_classifier(tmp_path):
    made = Made(tmp_path, [comparison()])
    layers, accuracy, *_ = shown(by_difficulty(made.difficulty, made.study))
    assert list(layers.lines[0].get_ydata()) == [12, 13, 14, 15, 16]
    wanted = ["8-21", "22-35", "36-48", "49-77", "78-512"]
    assert [text.get_text() for text in layers.get_xticklabels()] == wanted
    assert [line.get_label() for line in accuracy.lines] == [str(layer) for layer in LAYERS]


def test_reliability_says_the_error_before_and_after(tmp_path):
    made = Made(tmp_path, [comparison()])
    axes = shown(reliability_figure(made.study))
    assert len(axes) == len(LAYERS)
    assert axes[0].texts[0].get_text() == "ECE before 15.0 %\nECE after 2.0 %"
    assert axes[0].get_title(loc="left") == "ag_news\ntest split\nafter layer 0, T = 1.20"
    assert axes[3].get_title(loc="left") == "after layer 23, T = 1.50"


def test_seeds_are_pooled_in_a_reliability_diagram():
    one = [{"low": 0.5, "count": 1, "confidence": 0.6, "accuracy": 0.0}]
    other = [{"low": 0.5, "count": 3, "confidence": 0.5, "accuracy": 1.0}]
    empty = {"low": 0.9, "count": 0, "confidence": None, "accuracy": None}
    (found,) = pooled([[*one, empty], other]).to_dict("records")
    shares = {"confidence": pytest.approx(0.525), "accuracy": pytest.approx(0.75)}
    assert found == {"low": 0.5, "count": 4, **shares}


def test_a_split_that_temperatures_were_not_fitted_on_is_shown(tmp_path):
    made = Made(tmp_path, [comparison()])
    assert "test split" in words(confidence_by_label(made.difficulty, made.study))
    only = made.difficulty.assign(split="validation")
    assert "validation split" in words(confidence_by_label(only, made.study))


def test_every_named_figure_is_written_with_its_digest(tmp_path):
    made = Made(tmp_path / "made", [comparison()])
    made.write()
    names = ["exits_accuracy_vs_time", "exits_reliability"]
    made.plot(tmp_path / "exits" / "figures", names)
    written = json.loads((tmp_path / "exits" / "exits_figures.json").read_text())
    assert set(written["sha256"]) == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    for name, digest in written["sha256"].items():
        assert sha256(tmp_path / "exits" / "figures" / name) == digest
    assert written["exits_sha256"] == sha256(tmp_path / "made" / "exits.json")
    assert written["provenance"]["rule"] == "plot_exits"
    made.plot(tmp_path / "again" / "figures", names[:1])
    for kind in ("svg", "png"):
        name = f"{names[0]}.{kind}"
        assert sha256(tmp_path / "again" / "figures" / name) == written["sha256"][name], (
            "equal data, equal files"
        )


def test_a_study_without_finished_comparisons_still_has_figures(tmp_path):
    nothing = ExitStudy({}, [])
    figures = [
        reliability_figure(nothing),
        confidence_by_label(pd.DataFrame(difficulty_rows("c", "d", "m")).head(0), nothing),
    ]
    for figure in figures:
        assert "two exits or more" in words(figure)


def labels_of(axis) -> list:
    """Rooms of the words alone, without the lines that lead to their points."""
    return [Text.get_window_extent(text) for text in axis.texts if text.get_text()]


def test_words_of_many_thresholds_never_cover_each_other():
    thresholds = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
    figure = time_figure(comparison(thresholds=thresholds))
    figure.canvas.draw()
    boxes = labels_of(figure.axes[0])
    assert len(boxes) == len(thresholds) + 3 + 2, (
        "with a line to those that stand farther off, all have room"
    )
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[number + 1 :])
    plt.close(figure)


@pytest.mark.parametrize("sizes", [(1,), (1, 32)])
def test_nothing_is_cut_off(sizes):
    """Long names of datasets and models lie within the picture."""
    title = "BERT-large-uncased with exits after layers 0, 4, 12, 23"
    figure = time_figure(
        *(comparison(batch_size=size) for size in sizes), exits=title, ag_news="AG News, all topics"
    )
    figure.canvas.draw()
    texts = [
        text
        for axis in figure.axes
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts)
    ]
    for text in (*texts, *figure.legends[0].get_texts()):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0, text.get_text()
    plt.close(figure)


EXIT_ROW = {
    "dataset": "ag_news", "model": "exits", "score_name": "accuracy", "score": 92.0,
    "score_ci_low": 91.0, "score_ci_high": 93.0, "accuracy": 92.0, "macro_f1": 90.0,
    "macro_f1_ci_low": 88.0, "macro_f1_ci_high": 92.0, "majority": 25.0, "exit_kind": "early_exit",
    "exit_layers": "0 4 12 23", "exit_rule": "threshold", "exit_value": 0.9,
    "inference_batch_size": 32, "mean_layers": 6.25, "relative_time": 0.25,
    "relative_time_ci_low": 0.2, "relative_time_ci_high": 0.3, "joules_per_example": 0.5,
    "inference_energy_source": "estimate", "initialisation": "checkpoint", "score_ceiling": None,
    "score_lead": None, "train_samples_per_second": 5.0, "peak_memory_gib": 1.0,
    "validation_s": 1.0, "steps": 8,
}  # fmt: skip


def summary(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame([{**row(), **given} for given in rows])


def test_the_table_of_exits_has_every_point_and_only_models_with_exits():
    text = {"exit_kind": None, "exit_rule": None}
    last = {**EXIT_ROW, "exit_rule": "last", "exit_value": None, "relative_time": None}
    last["joules_per_example"] = None
    timed = {**EXIT_ROW, "threads": 2, "inference_threads": 2}
    found = early_exits(summary(timed, last, text), {"ag_news": "AG News"}).to_dict("records")
    wanted = [("AG News", "threshold", "0.9"), ("AG News", "last", "")]
    assert [(r["dataset"], r["rule"], r["value"]) for r in found] == wanted
    assert found[0] == {
        "dataset": "AG News", "model": "exits", "kind": "early exit",
        "classifiers after layers": "0 4 12 23", "rule": "threshold", "value": "0.9",
        "batch size": "32", "accuracy (%)": "92.0 (91.0 to 93.0)",
        "macro F1 (%)": "90.0 (88.0 to 92.0)", "mean layers": "6.25",
        "relative time": "0.25 (0.20 to 0.30)", "speed-up": "4.00",
        "speed-up at equal accuracy": "NA", "J/example": "0.500 (estimated)", "ms/example": "10.00",
        "threads": "2",
    }  # fmt: skip
    assert found[1]["relative time"] == found[1]["speed-up"] == found[1]["J/example"] == "NA"


def test_general_tables_name_the_exit_and_the_majority_class():
    (found,) = readable(summary(EXIT_ROW), {}).to_dict("records")
    wanted = ("threshold 0.9", "90.0", "6.2")
    assert (found["exit"], found["macro F1"], found["mean layers"]) == wanted
    assert found["majority class"] == "25.0" and "lead baseline" not in found
    assert scores_by_length(summary(EXIT_ROW), {})["majority class"].tolist() == ["25.0"]
    kept = {name: EXIT_ROW[name] for name in ("validation_s", "steps")}
    text = readable(summary({**kept, "score_lead": 3.0}), {})
    assert {"exit", "macro F1", "mean layers", "majority class"}.isdisjoint(text.columns)
    assert text["lead baseline"].tolist() == ["3.0"]


def test_points_of_several_machines_in_a_panel_are_named_on_its_axis():
    plain, elsewhere = comparison(), comparison(dataset="yelp")
    for point in (*plain["points"], *elsewhere["points"], plain["standard"], elsewhere["standard"]):
        point["machine"] = {"device": "H200", "threads": 4}
    elsewhere["standard"]["machine"] = {"device": "H200", "threads": 1}
    labels = [said(axis) for axis in shown(time_figure(plain, elsewhere))]
    wanted = [False, True]
    assert ["other devices, processors or thread counts" in label for label in labels] == wanted


def test_the_table_says_behind_a_relative_time_that_its_baseline_was_measured_elsewhere():
    row = {**EXIT_ROW, "relative_time_across": "other devices"}
    row["speedup_across"] = "other thread counts"
    row["speedup_at_equal_accuracy"] = 1.5
    (found,) = early_exits(summary(row), {}).to_dict("records")
    assert found["relative time"].endswith(" (baseline: other devices)")
    assert found["speed-up at equal accuracy"].endswith(" (baseline: other thread counts)")
    (found,) = early_exits(summary(EXIT_ROW), {}).to_dict("records")
    assert "baseline" not in found["relative time"] + found["speed-up"]
