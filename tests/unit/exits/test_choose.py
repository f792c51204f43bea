"""`python -m longwatt.exits choose`, and the classifier in plain Python."""

import copy
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from longwatt import exits
from longwatt.exits import choose
from longwatt.exits.comparison import compare_exits
from longwatt.freshness import in_force
from longwatt.provenance.stamps import origin
from tests.exit_results import SCORING, write_study
from tests.made_results import write_artefact
from tests.tiny_exits import study_text, write_data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder results/, with one study in it."""
    results = tmp_path_factory.mktemp("project") / "results"
    folder = results / "study"
    cells = write_study(folder)
    out = folder / "exits"
    paths = (out / "exits.json", out / "curve.csv", out / "difficulty.csv")
    compare_exits(folder, cells, {"equal_accuracy_points": 0, **SCORING}, *paths, {})
    return results


@pytest.fixture
def comparison(made):
    """The one at batch size 1, to change."""
    return copy.deepcopy(choose.held_out(choose.read_comparisons(made, "study"), 1)[0])


def call(made, *arguments: str) -> int:
    return choose.main(["choose", "--results", str(made), "--study", "study", *arguments])


def rule(comparison, **wanted) -> str:
    return choose.point_words(choose.choose_point(comparison, choose.Wanted(**wanted)))


def points(comparison) -> dict:
    return {point["point"]: point for point in comparison["points"]}


def test_the_fastest_within_the_drop_is_chosen_on_the_calibration_split(comparison):
    assert rule(comparison, max_drop=0) == "threshold 0.8", (
        "91.25 there, the standard baseline 89.4"
    )
    found = points(comparison)
    found["t0.8-b1"]["calibration_accuracy"] = 80
    assert rule(comparison, max_drop=0) == "threshold 0.95"
    assert rule(comparison, max_drop=50) == "threshold 0.6"
    found["t0.8-b1"]["accuracy"] = 99
    assert rule(comparison, max_drop=0) == "threshold 0.95", "the held-out split has no part in it"


def test_without_a_standard_the_drop_is_from_its_own_last_classifier(comparison):
    comparison["standard"] = None
    value, whose = choose.reference(comparison)
    assert value == comparison["last_calibration_accuracy"] and "its own last classifier's" in whose
    points(comparison)["p2-b1"].update(calibration_accuracy=value - 0.5, seconds_per_example=1e-6)
    assert rule(comparison, max_drop=0.5) == "patience 2"
    assert rule(comparison, max_drop=0.49) == "threshold 0.8"


def test_the_most_accurate_of_those_fast_or_frugal_enough_is_chosen(comparison):
    found = points(comparison)
    assert rule(comparison, min_speedup=1) == "threshold 0.95"
    assert rule(comparison, min_speedup=1.5) == "threshold 0.8"
    assert rule(comparison, min_speedup=3) == "threshold 0.6"
    assert rule(comparison, max_joules=found["t0.8-b1"]["joules_per_example"]) == "threshold 0.8"
    assert rule(comparison, max_joules=1) == "threshold 0.95"


def test_without_a_standard_the_speedup_is_over_its_own_last_classifier(comparison):
    comparison["standard"] = None
    for point in comparison["points"]:
        point["relative_time"] = None
    last, chosen = points(comparison)["last-b1"], points(comparison)["t0.8-b1"]
    expected = last["seconds_per_example"] / chosen["seconds_per_example"]
    assert choose.speedup(comparison, chosen) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        (
            {"max_drop": -9},
            "no exit rule stays within -9 points of the standard baseline's accuracy; nearest is",
        ),
        ({"min_speedup": 9}, "no exit rule is 9 times as fast; nearest is threshold 0.6 with 3.1"),
        (
            {"max_joules": 1e-4},
            "no exit rule takes at most 0.0001 joules per example; nearest is threshold 0.6",
        ),
    ],
)
def test_where_nothing_fits_the_nearest_is_named(comparison, wanted, nearest):
    with pytest.raises(choose.NothingFits, match=nearest):
        choose.choose_point(comparison, choose.Wanted(**wanted))


def test_unknown_joules_fit_nothing(comparison):
    for point in comparison["points"]:
        point["joules_per_example"] = None
    with pytest.raises(choose.NothingFits, match="not measured"):
        choose.choose_point(comparison, choose.Wanted(max_joules=5))
    chosen = choose.choose_point(comparison, choose.Wanted(max_drop=0))
    assert "NA: nothing metered it" in choose.choice_page(
        comparison, chosen, choose.Path("results/study")
    )


def test_a_standard_baseline_that_diverged_is_named_wherever_it_is_a_measure(comparison):
    chosen = choose.choose_point(comparison, choose.Wanted(max_drop=0.5))
    said = [
        choose.choice_page(
            {**comparison, "diverged_baselines": lost}, chosen, choose.Path("results/study")
        )
        for lost in (None, "efficient", "standard efficient")
    ]
    assert [page.count("(training diverged)") for page in said] == [0, 0, 2]
    assert "the standard baseline has 90.4 % (training diverged)" in said[2]


def test_the_page_says_what_to_use_and_what_to_expect(made, capsys):
    assert call(made, "--max-drop", "0.5") == 0
    said = capsys.readouterr().out
    model = made / "study/reviews/exits/64/cpu/classified/seed1/calibrate/model"
    for part in (
        "use          threshold 0.8",
        "accuracy     89.6 % (",
        "of 240 examples; the standard baseline has 90.4 %",
        "speed-up     1.92 times the standard baseline's (1.8",
        "ms per example at batch size 1",
        "J per example (estimated)",
        "layers       3.05 of 6 on average",
        "the split validation: 91.2 % there, the standard baseline's is 89.4 %",
        "the split test, whose accuracy had no part in the choice",
        "from longwatt.exits import load_classifier",
        f"load_classifier({str(model)!r})",
        'predict(["a text"], threshold=0.8)',
    ):
        assert part in said
    assert model.is_dir()


def test_measured_energy_is_not_called_estimated(comparison):
    chosen = points(comparison)["t0.8-b1"]
    chosen["energy_measured"] = True
    assert "estimated" not in choose.choice_page(comparison, chosen, choose.Path("results/study"))


def test_a_patience_is_chosen_as_a_whole_number(comparison):
    for name, point in points(comparison).items():
        point["calibration_accuracy"] = 99 if name == "p2-b1" else 1
    chosen = choose.choose_point(comparison, choose.Wanted(max_drop=0))
    assert 'predict(["a text"], patience=2)' in choose.choice_page(
        comparison, chosen, choose.Path("r")
    )


def test_what_was_chosen_and_measured_on_one_split_says_so(comparison):
    comparison["split"] = "validation"
    chosen = choose.choose_point(comparison, choose.Wanted(max_drop=0))
    assert "which it was also chosen on" in choose.choice_page(comparison, chosen, choose.Path("r"))


def test_another_split_goes_before_that_of_calibration(comparison):
    fitted = {**comparison, "split": "validation"}
    assert choose.held_out([fitted, comparison], 1) == [comparison]
    assert choose.held_out([fitted], 1) == [fitted]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", "8"), "nothing was measured at batch size 8; there is 1, 32"),
        (("--model", "exit"), "of the model 'exit' (did you mean 'exits'?); it has exits"),
        (("--dataset", "xyz"), "of the dataset 'xyz'; it has reviews"),
        (("--min-speedup", "50"), "no exit rule is 50 times as fast"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(made, capsys, arguments, message):
    aim = () if "--min-speedup" in arguments else ("--max-drop", "1")
    assert call(made, *aim, *arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_a_study_that_is_missing_unfinished_or_without_exits_is_named(made, tmp_path, capsys):
    assert (
        choose.main(["choose", "--results", str(made), "--study", "studi", "--max-drop", "1"]) == 1
    )
    assert "did you mean 'study'" in capsys.readouterr().err
    cell = tmp_path / "text" / "needle/led/64/cpu/generated/seed1/finetune"
    cell.mkdir(parents=True)
    (cell / "training.json").write_text("{}")
    assert (
        choose.main(["choose", "--results", str(tmp_path), "--study", "text", "--max-drop", "1"])
        == 1
    )
    assert "run the study to its end first" in capsys.readouterr().err
    (tmp_path / "text/summary.csv").touch()
    assert (
        choose.main(["choose", "--results", str(tmp_path), "--study", "text", "--max-drop", "1"])
        == 1
    )
    assert "has no model with exits" in capsys.readouterr().err
    (cell / "training.json").write_text(json.dumps({"exit_kind": "early_exit"}))
    assert (
        choose.main(["choose", "--results", str(tmp_path), "--study", "text", "--max-drop", "1"])
        == 1
    )
    assert "run the study to its end first" in capsys.readouterr().err


def test_exactly_one_aim_is_wanted(made, capsys):
    for aims in ((), ("--max-drop", "1", "--min-speedup", "2")):
        with pytest.raises(SystemExit):
            call(made, *aims)


def test_the_classifier_is_loaded_only_when_asked_for(monkeypatch):
    asked = []
    module = types.ModuleType("longwatt.models.exits.classifier")
    module.ExitClassifier = types.SimpleNamespace(
        load=lambda *given: asked.append(given) or "classifier"
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert exits.load_classifier("folder", temperatures=[1, 2]) == "classifier"
    assert asked == [("folder", "cpu", [1, 2])]


def test_choosing_loads_nothing_heavy():
    code = "import sys, longwatt.exits.choose; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"torch", "transformers", "numpy", "pandas"}.isdisjoint(loaded)


def test_a_speed_up_across_machines_says_so(comparison):
    folder, chosen = choose.Path("results/study"), points(comparison)["t0.8-b1"]
    assert "alone" not in choose.choice_page(comparison, chosen, folder)
    chosen["relative_time_across"] = "other devices"
    assert (
        "not the model's alone: the baseline was measured with other devices"
        in choose.choice_page(comparison, chosen, folder)
    )
    chosen.update(relative_time=None, machine={"threads": 1})
    points(comparison)["last-b1"]["machine"] = {"threads": 2}
    said = choose.choice_page(comparison, chosen, folder)
    assert "the last classifier was measured with other thread counts" in said


def test_nothing_is_chosen_from_results_that_were_made_from_others(made, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(made, results)
    compared = results / "study/exits/exits.json"
    (scores,) = results.glob("study/*/exits/*/*/*/*/predict/t0.8-b1/scores.json")
    recorded = f"results/study/{scores.relative_to(results / 'study')}"
    found = json.loads(compared.read_text())
    compared.write_text(
        json.dumps({**found, "provenance": {"made_from": {recorded: origin(scores)}}})
    )
    assert call(results, "--max-drop", "0.5") == 0
    assert "studies/study.yaml is not here" in capsys.readouterr().err
    scores.write_text(scores.read_text().replace("240", "241"))
    assert call(results, "--max-drop", "0.5") == 1
    assert f"was made from another {scores} than is there" in capsys.readouterr().err


def test_nothing_is_chosen_from_results_of_other_settings(tmp_path, monkeypatch, capsys):
    """The study says another learning rate than its models were trained with."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    study = study_text(tmp_path / "data")
    Path("studies").mkdir()
    Path("studies/tiny.yaml").write_text(study)
    current = in_force.find(Path("results/tiny"))
    for stage in [*current.stages.before_summary(), current.stages.compare_exits()]:
        write_artefact(current, stage)
    compared = Path(current.stages.compare_exits().artefact)
    compared.write_text(
        json.dumps({**json.loads(compared.read_text()), "comparisons": [{"batch_size": 1}]})
    )
    choose.check_results(Path("results/tiny"), {})
    Path("studies/tiny.yaml").write_text(study.replace("5e-3", "6e-3"))
    assert choose.main(["choose", "--study", "tiny", "--max-drop", "1"]) == 1
    said = capsys.readouterr().err
    assert (
        said.count("training.learning_rate 0.005, now 0.006") == 3 and "Run the study again" in said
    )
