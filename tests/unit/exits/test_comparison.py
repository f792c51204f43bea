"""Models with exits beside their baselines, against slow references on made-up results."""

import copy
import csv
import json
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from longwatt.exits.comparison import compare_exits
from longwatt.exits.measured import read_cell
from longwatt.exits.statistics import accuracy_at
from longwatt.metrics.resampling import Resampling
from longwatt.metrics.score_intervals import small_sample_factor, wider_ends
from tests.exit_results import LAYERS, SCORING, SPLITS, answer, write_study

SETTINGS = {"equal_accuracy_points": 0, **SCORING}
INTERVALS = ("relative_time", "speedup_at_equal_accuracy", "accuracy_over_efficient", "ece_drop")
COLUMNS = {
    *(f"{name}{end}" for name in INTERVALS for end in ("", "_ci_low", "_ci_high")),
    "relative_joules", "relative_joules_flags", "ece_before", "ece_after",
    "train_time_over_standard", "relative_time_across", "speedup_across", "efficient_across",
    "train_time_across", "diverged_baselines",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of a study, and its cells."""
    folder = tmp_path_factory.mktemp("results") / "study"
    return folder, write_study(folder)


@pytest.fixture
def study(made, tmp_path):
    """A copy to change."""
    return shutil.copytree(made[0], tmp_path / "study"), copy.deepcopy(made[1])


def run(folder, cells, **settings) -> dict:
    out = folder / "exits"
    paths = (out / "exits.json", out / "curve.csv", out / "difficulty.csv")
    compare_exits(folder, cells, {**SETTINGS, **settings}, *paths, {"rule": "compare_exits"})
    return json.loads((out / "exits.json").read_text())


@pytest.fixture(scope="module")
def found(made):
    return run(*made)


def of(found, batch_size: int = 1) -> dict:
    return next(one for one in found["comparisons"] if one["batch_size"] == batch_size)


def table(folder, name: str) -> list[dict[str, str]]:
    with (folder / "exits" / name).open() as stream:
        return list(csv.DictReader(stream))


def measured(made, model: str, point: str):
    cell = next(cell for cell in made[1] if cell["model"] == model)
    return next(one for one in read_cell(made[0], cell).points if one.name == point)


def test_every_cell_and_point_has_the_summary_s_columns(made, found):
    assert {cell: set(points) for cell, points in found["rows"].items()} == {
        cell["cell"]: set(cell["points"]) for cell in made[1]
    }
    assert all(set(row) == COLUMNS for points in found["rows"].values() for row in points.values())


def test_relative_time_is_the_ratio_of_mean_seconds(made, found):
    for size in (1, 32):
        seconds = {}
        for model, point in (("exits", f"t0.8-b{size}"), ("standard", f"last-b{size}")):
            cell = next(cell for cell in made[1] if cell["model"] == model)["cell"]
            facts = json.loads((made[0] / cell / "predict" / point / "inference.json").read_text())
            seconds[model] = facts["inference_runtime_s"] / facts["samples"]
        row = found["rows"][of(found)["cell"]][f"t0.8-b{size}"]
        assert row["relative_time"] == pytest.approx(seconds["exits"] / seconds["standard"])
        assert row["relative_joules"] == pytest.approx(row["relative_time"]), (
            "made up with a fixed power"
        )
    row = found["rows"][of(found)["standard"]["cell"]]["last-b1"]
    assert (row["relative_time"], row["relative_time_ci_low"], row["relative_time_ci_high"]) == (
        1,
        1,
        1,
    )


def test_at_batch_one_the_interval_is_paired_by_example(made, found):
    ours, standard = measured(made, "exits", "t0.8-b1"), measured(made, "standard", "last-b1")
    source, ratios = np.random.default_rng(0), []
    for count in (64, 64, 64, 8):
        for drawn in source.integers(0, 240, (count, 240)):
            ratios.append(ours.seconds[drawn].sum() / standard.seconds[drawn].sum())
    row = found["rows"][ours.cell["cell"]]["t0.8-b1"]
    ends = (row["relative_time_ci_low"], row["relative_time_ci_high"])
    assert ends == pytest.approx(tuple(np.percentile(ratios, [2.5, 97.5])))


def test_too_few_batches_give_no_interval_and_say_so(found):
    comparison = of(found, 32)
    assert all(point["relative_time_ci_low"] is None for point in comparison["points"])
    assert any("t0.8-b32: fewer than 5 batches" in reason for reason in comparison["reasons"])
    assert of(found)["reasons"] == []


def test_speedup_at_equal_accuracy_is_that_of_a_slow_paired_bootstrap(made, found):
    standard = measured(made, "standard", "last-b1")
    ours = [measured(made, "exits", f"{name}-b1") for name in ("t0.6", "t0.8", "t0.95", "p2")]

    def speedup(drawn) -> float:
        least = standard.right[drawn].mean()
        times = [one.seconds[drawn].mean() for one in ours if one.right[drawn].mean() >= least]
        return standard.seconds[drawn].mean() / min(times) if times else 1.0

    source = np.random.default_rng(0)
    values = [
        speedup(np.argsort(standard.ids)[drawn])
        for count in (64, 64, 64, 8)
        for drawn in source.integers(0, 240, (count, 240))
    ]
    comparison = of(found)
    assert comparison["speedup_at_equal_accuracy"] == pytest.approx(speedup(np.arange(240)))
    ends = tuple(comparison[f"speedup_at_equal_accuracy_ci_{end}"] for end in ("low", "high"))
    assert ends == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    rows = found["rows"][comparison["cell"]]
    names = [name for name, row in rows.items() if row["speedup_at_equal_accuracy"] is not None]
    assert names == [
        f"{rule}-b{size}" for rule in ("t0.6", "t0.8", "t0.95", "p2") for size in (1, 32)
    ]


def test_equal_may_allow_for_some_points(study):
    strict, lenient = of(run(*study)), of(run(*study, equal_accuracy_points=2))
    assert lenient["speedup_at_equal_accuracy"] > strict["speedup_at_equal_accuracy"]
    points = {point["point"]: point for point in lenient["points"]}
    assert lenient["speedup_at_equal_accuracy"] == pytest.approx(
        1 / points["t0.8-b1"]["relative_time"]
    )


def test_without_an_equal_point_one_would_use_the_standard(study):
    folder, cells = study
    cells[0]["points"] = {
        name: point for name, point in cells[0]["points"].items() if name in ("last-b1", "t0.6-b1")
    }
    comparison = of(run(folder, cells))
    assert (
        comparison["speedup_at_equal_accuracy"]
        == 1
        <= comparison["speedup_at_equal_accuracy_ci_high"]
    )
    assert any(
        "no threshold or patience is as accurate" in reason for reason in comparison["reasons"]
    )


def test_without_a_standard_baseline_what_needs_it_is_unknown(study):
    folder, cells = study
    found = run(folder, [cell for cell in cells if cell["model"] != "standard"])
    comparison, row = of(found), found["rows"][of(found)["cell"]]["t0.8-b1"]
    for name in (
        "relative_time",
        "relative_joules",
        "speedup_at_equal_accuracy",
        "train_time_over_standard",
    ):
        assert row[name] is None
    assert comparison["standard"] is None and row["accuracy_over_efficient"] is not None
    assert any("no standard baseline" in reason for reason in comparison["reasons"])


def test_baselines_of_another_encoder_or_seed_are_not_compared(study):
    folder, cells = study
    path = folder / cells[1]["cell"] / "finetune/training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "encoder": "another"}))
    cells[3]["seed"] = 7
    comparison = of(run(folder, cells))
    assert comparison["standard"] is None
    assert [one["model"] for one in comparison["efficient"]] == ["efficient1"]


def test_examples_of_shared_documents_are_drawn_together(study, found):
    """Four documents of sixty examples each say less of a gain than 240 of their own."""
    folder, cells = study
    for path in folder.rglob("predict/*/examples.csv"):
        rows = pd.read_csv(path)
        answers = rows.sort_values("id")["id"].tolist()
        rows.insert(1, "document", [f"d{answers.index(id_) // 60}" for id_ in rows["id"]])
        rows.to_csv(path, index=False)
    name = "accuracy_over_efficient"
    apart, together = of(found), of(run(folder, cells))
    assert together[name] == pytest.approx(apart[name])
    widths = [one[f"{name}_ci_high"] - one[f"{name}_ci_low"] for one in (apart, together)]
    assert widths[1] > widths[0]
    points = measured((folder, cells), "exits", "last-b1")
    assert len(set(points.documents.values())) == 4


def test_a_standard_baseline_of_other_examples_gives_no_paired_speedup(study):
    folder, cells = study
    point = folder / cells[1]["cell"] / "predict/last-b1"
    for name in ("predictions.jsonl", "examples.csv"):
        (point / name).write_text((point / name).read_text().replace("test-0", "other-0"))
    comparison = of(run(folder, cells))
    assert comparison["speedup_at_equal_accuracy"] is None
    assert any("standard baseline's examples" in reason for reason in comparison["reasons"])
    assert comparison["points"][1]["relative_time_ci_low"] is not None, (
        "two sets of examples, each resampled alone"
    )


def test_the_most_accurate_of_several_standard_baselines_counts(study):
    folder, cells = study
    second = {
        **copy.deepcopy(cells[1]),
        "model": "standard2",
        "cell": cells[1]["cell"].replace("standard", "other"),
    }
    shutil.copytree(folder / cells[1]["cell"], folder / second["cell"])
    path = folder / second["cell"] / "predict/last-b1/examples.csv"
    path.write_text(path.read_text().replace(",0.0,", ",100.0,", 5))
    assert of(run(folder, [*cells, second]))["standard"]["model"] == "standard2"
    assert of(run(folder, [second, *cells]))["standard"]["model"] == "standard2"


def test_of_a_search_only_the_best_on_validation_is_compared(study):
    folder, cells = study
    searched = []
    for cell, scores in zip(cells, ([80, 90], [91, 70], [60, 60], [70, 75]), strict=True):
        for number, score in enumerate(scores):
            name = f"{cell['model']}-lr{number}"
            made = {**cell, "model": name, "cell": f"made/{name}", "variant_of": cell["model"]}
            shutil.copytree(folder / cell["cell"], folder / made["cell"])
            path = folder / made["cell"] / "finetune/training.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "best_score": score}))
            searched.append(made)
    found = run(folder, searched)
    assert {one["model"] for one in found["comparisons"]} == {"exits-lr1"}
    assert of(found)["standard"]["model"] == "standard-lr0"
    assert [one["model"] for one in of(found)["efficient"]] == ["efficient1-lr0", "efficient3-lr1"]
    assert found["rows"]["made/exits-lr0"]["t0.8-b1"]["relative_time"] is not None
    assert found["rows"]["made/exits-lr0"]["t0.8-b1"]["speedup_at_equal_accuracy"] is None
    assert {row["model"] for row in table(folder, "curve.csv")} == {"exits-lr1"}


def test_accuracy_over_efficient_is_the_least_at_their_times(made, found):
    ours = [
        measured(made, "exits", f"{name}-b1") for name in ("last", "t0.6", "t0.8", "t0.95", "p2")
    ]
    efficient = [measured(made, f"efficient{layer}", "last-b1") for layer in (1, 3)]

    def gain(drawn) -> float:
        found = []
        for baseline in efficient:
            at = baseline.seconds[drawn].mean()
            pairs = sorted((one.seconds[drawn].mean(), one.right[drawn].mean()) for one in ours)
            best = [
                (time, max(accuracy for _, accuracy in pairs[: n + 1]))
                for n, (time, _) in enumerate(pairs)
            ]
            at = min(max(at, best[0][0]), best[-1][0])
            (left, low), (right, high) = next(p for p in pairwise(best) if p[0][0] <= at <= p[1][0])
            found.append(
                low + (high - low) * (at - left) / (right - left) - baseline.right[drawn].mean()
            )
        return min(found)

    source = np.random.default_rng(0)
    values = [
        gain(np.argsort(ours[0].ids)[drawn])
        for count in (64, 64, 64, 8)
        for drawn in source.integers(0, 240, (count, 240))
    ]
    comparison = of(found)
    assert comparison["accuracy_over_efficient"] == pytest.approx(gain(np.arange(240)))
    ends = tuple(comparison[f"accuracy_over_efficient_ci_{end}"] for end in ("low", "high"))
    factor = small_sample_factor([1] * 240, Resampling(200))
    known = wider_ends(gain(np.arange(240)), np.percentile(values, [2.5, 97.5]), factor)
    assert 1 < factor < 1.05 and ends == pytest.approx(known)


def test_an_efficient_baseline_outside_our_times_is_not_compared(study):
    folder, cells = study
    cells[0]["points"].pop("t0.6-b1")
    without = of(run(folder, cells))
    alone = of(run(folder, [cells[0], cells[1], cells[3]]))
    assert without["accuracy_over_efficient"] == alone["accuracy_over_efficient"], (
        "efficient1 is faster than t0.8"
    )
    comparison = of(run(folder, cells[:3]))
    assert comparison["accuracy_over_efficient"] is None
    said = "1 of 1 efficient baselines are faster and less accurate than our fastest point"
    assert any(said in reason for reason in comparison["reasons"])


def test_our_accuracy_at_a_time_is_the_best_of_no_more_time():
    seconds, accuracy = np.array([3.0, 1.0, 2.0, 4.0]), np.array([80.0, 60.0, 90.0, 95.0])
    at = [accuracy_at(seconds, accuracy, time) for time in (1.0, 1.5, 2.0, 3.0, 3.5, 4.0)]
    assert at == pytest.approx([60, 75, 90, 90, 92.5, 95])


def test_calibration_and_training_time_are_beside(made, found):
    cell = made[0] / of(found)["cell"]
    told = json.loads((cell / "calibrate/calibration.json").read_text())["mean"]["test"]
    row = found["rows"][of(found)["cell"]]["t0.8-b1"]
    assert {name: row[name] for name in told} == told
    training = [
        json.loads((made[0] / c["cell"] / "finetune/training.json").read_text())
        for c in made[1][:2]
    ]
    assert row["train_time_over_standard"] == pytest.approx(
        training[0]["train_s"] / training[1]["train_s"]
    )
    assert found["rows"][made[1][1]["cell"]]["last-b1"]["ece_before"] is None, (
        "a baseline is not calibrated"
    )


def test_what_a_point_is_on_the_calibration_split_follows_from_recorded_logits(made, found):
    cell = made[0] / of(found)["cell"]
    temperatures = of(found)["temperatures"]
    lines = (cell / "exits/logits.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "validation"]
    assert len(rows) == SPLITS["validation"]
    rules = {"t0.8-b1": {"threshold": 0.8}, "p2-b1": {"patience": 2}, "last-b1": None}
    points = {point["point"]: point for point in of(found)["points"]}
    for name, rule in rules.items():
        right = [
            answer(np.array(r["logits"]), temperatures, rule, r["label"])[1] == r["label"]
            for r in rows
        ]
        assert points[name]["calibration_accuracy"] == pytest.approx(100 * np.mean(right))
    assert of(found)["last_calibration_accuracy"] == points["last-b1"]["calibration_accuracy"]
    scores = json.loads((made[0] / made[1][1]["cell"] / "predict/fitted/scores.json").read_text())
    assert of(found)["standard"]["calibration_accuracy"] == pytest.approx(scores["accuracy"])


def test_the_curve_at_a_measured_threshold_is_what_was_measured(made, found):
    rows = table(made[0], "curve.csv")
    assert {row["split"] for row in rows} == {"test"} and len(rows) == 107
    curve = {(row["rule"], row["value"]): row for row in rows}
    keys = {"last": "NA", "oracle": "NA", "threshold": None, "patience": None}
    for point in [*of(found)["points"], *of(found)["oracle"]]:
        row = curve[point["rule"], keys[point["rule"]] or str(point["value"])]
        for name in ("accuracy", "macro_f1", "mean_layers"):
            assert float(row[name]) == pytest.approx(point[name], abs=1e-5)
        left = [
            point["left_after_layers"].get(str(layer + 1), 0) for layer in of(found)["exit_layers"]
        ]
        assert json.loads(row["exits_taken"]) == pytest.approx(np.array(left) / 240, abs=1e-6)


def test_difficulty_counts_every_example_once_per_kind_and_exit(made, found):
    rows = table(made[0], "difficulty.csv")
    points = {point["point"]: point for point in of(found)["points"]}
    for kind, groups in (("label", 3), ("length", 5), ("gold_confidence", 5)):
        for exit_, layer in enumerate(LAYERS):
            own = [row for row in rows if (row["kind"], row["exit"]) == (kind, str(exit_))]
            assert len({row["group"] for row in own}) == len(own) == groups
            assert {row["layer"] for row in own} == {str(layer)}
            counts = [int(row["count"]) for row in own]
            assert sum(counts) == 240 and (kind == "label" or max(counts) - min(counts) < 12)
            layers = np.average([float(row["mean_layers"]) for row in own], weights=counts)
            assert layers == pytest.approx(points["t0.95-b1"]["mean_layers"], abs=1e-4), (
                "the nearest to 0.9"
            )
    last = [row for row in rows if row["kind"] == "label" and row["exit"] == "3"]
    accuracy = np.average(
        [float(row["accuracy"]) for row in last], weights=[int(row["count"]) for row in last]
    )
    assert accuracy == pytest.approx(points["last-b1"]["accuracy"], abs=1e-4)


def test_lengths_and_gold_confidences_rise_from_group_to_group(made, found):
    rows = [row for row in table(made[0], "difficulty.csv") if row["exit"] == "3"]
    lengths = [tuple(map(int, row["group"].split("-"))) for row in rows if row["kind"] == "length"]
    assert lengths == sorted(lengths) and all(low <= high for low, high in lengths)
    assert all(first[1] < second[0] for first, second in pairwise(lengths)), "ties stay together"
    accuracies = [float(row["accuracy"]) for row in rows if row["kind"] == "gold_confidence"]
    assert accuracies[0] < 100 and accuracies[-1] == 100


def test_cells_without_classifiers_are_left_out(study):
    folder, cells = study
    text = {**cells[0], "cell": "needle/led/64/cpu/generated/seed1", "points": {"greedy": {}}}
    path = folder / text["cell"] / "finetune/training.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"train_s": 1, "samples": 2}))
    assert text["cell"] not in run(folder, [text, *cells])["rows"]


def on(folder, cell: str, points, **machine) -> None:
    """Have inference points of a cell measured on a machine."""
    for path in folder.glob(f"*/{cell}/*/*/*/*/predict/{points}/inference.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **machine}))


def test_a_relative_time_across_machines_says_in_what_they_differ(study):
    folder, cells = study
    on(folder, "*", "*", device="H200", processor="EPYC", threads=4)
    on(folder, "exits", "t0.8-b1", device="A100", threads=1)
    found = run(folder, cells)
    words = "other devices, other thread counts"
    across = {point["point"]: point["relative_time_across"] for point in of(found)["points"]}
    assert across == {**dict.fromkeys(across), "t0.8-b1": words}
    assert of(found)["speedup_across"] == words and of(found, 32)["speedup_across"] is None
    (rows,) = [rows for cell, rows in found["rows"].items() if "/exits/" in cell]
    assert (
        rows["t0.8-b1"]["relative_time_across"] == words
        and rows["t0.6-b1"]["relative_time_across"] is None
    )
    assert rows["t0.6-b1"]["speedup_across"] == words, "the fastest of all points may be that one"


def test_a_gain_over_efficient_baselines_across_machines_says_so(study):
    folder, cells = study
    on(folder, "*", "*", device="H200", threads=4)
    on(folder, "efficient*", "last-b1", device="A100")
    found = run(folder, cells)
    assert (
        of(found)["efficient_across"] == "other devices"
        and of(found, 32)["efficient_across"] is None
    )
    (rows,) = [rows for cell, rows in found["rows"].items() if "/exits/" in cell]
    assert (
        rows["t0.6-b1"]["efficient_across"] == "other devices"
        and rows["last-b1"]["efficient_across"] is None
    )


@pytest.mark.parametrize(
    ("lost", "kinds"), [("standard", "standard"), ("efficient*", "efficient"), ("exits", None)]
)
def test_baselines_whose_training_diverged_are_named_beside_what_is_relative_to_them(
    study, lost, kinds
):
    folder, cells = study
    for path in folder.glob(f"*/{lost}/*/*/*/*/finetune/training.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "ended_by": "divergence"}))
    found = run(folder, cells)
    (rows,) = [rows for cell, rows in found["rows"].items() if "/exits/" in cell]
    assert {row["diverged_baselines"] for row in rows.values()} == {kinds}
    assert of(found)["diverged_baselines"] == kinds


def test_an_inference_point_is_what_it_was_predicted_with(study):
    folder, cells = study
    (path,) = folder.glob("*/exits/*/*/*/*/predict/t0.8-b1/inference.json")
    made = {"split": "test", "batch_size": 1, "exit": {"threshold": 0.85}, "regroup_batches": 2}
    stamp = {"settings": {"inference": made}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "provenance": stamp}))
    values = {point["point"]: point["value"] for point in of(run(folder, cells))["points"]}
    assert values["t0.8-b1"] == 0.85 and values["t0.6-b1"] == 0.6, "whatever the study says by now"
