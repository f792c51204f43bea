"""Temperatures, and the calibrated model's folder."""

import json
import shutil

import numpy as np
import pytest

from longwatt.exits.calibration import negative_log_likelihood
from longwatt.exits.logits import ExitsError, read_logits
from longwatt.exits.temperatures import HIGHEST, calibrate, fit_temperature
from tests.exit_results import LABELS, LAYERS, write_study


def made_up(examples: int = 500, classes: int = 4, sharpness: float = 3.0, seed: int = 0):
    """Logits that are `sharpness` times too sure of labels drawn from their softmax."""
    source = np.random.default_rng(seed)
    true = source.normal(size=(examples, classes)) * 1.5
    shares = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = np.array([source.choice(classes, p=row) for row in shares])
    return true * sharpness, labels


def temperature(logits, labels) -> float:
    return fit_temperature(logits, labels)[0]


def by_gradient(logits, labels) -> float:
    """Descent on the logarithm of 1 / temperature, with numerical slopes; no bisection."""
    place, step = 0.0, 0.5
    for _ in range(600):
        ends = [
            negative_log_likelihood(logits, labels, np.exp(-(place + d))) for d in (-1e-5, 1e-5)
        ]
        place -= step * (ends[1] - ends[0]) / 2e-5
    return float(np.exp(-place))


@pytest.mark.parametrize("seed", range(2))
def test_the_temperature_is_the_minimum_of_a_fine_grid_and_of_a_descent(seed):
    logits, labels = made_up(seed=seed)
    found = temperature(logits, labels)
    grid = np.geomspace(found / 2, found * 2, 1001)
    losses = [negative_log_likelihood(logits, labels, value) for value in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(found, rel=2e-3)
    assert negative_log_likelihood(logits, labels, found) <= min(losses) + 1e-15
    assert by_gradient(logits, labels) == pytest.approx(found, rel=1e-4)
    assert 2.2 < found < 4.2, "the logits are three times too large"


@pytest.mark.parametrize("scale", [0.1, 3, 7.5])
def test_scaled_logits_have_a_scaled_temperature(scale):
    logits, labels = made_up()
    assert temperature(logits * scale, labels) == pytest.approx(
        temperature(logits, labels) * scale, rel=1e-9
    )


def test_shifted_logits_have_the_same_temperature():
    logits, labels = made_up()
    shift = np.linspace(-50, 50, len(labels))[:, None]
    assert temperature(logits + shift, labels) == pytest.approx(
        temperature(logits, labels), rel=1e-9
    )


def test_where_there_is_no_best_temperature_it_lies_at_a_bound():
    right = np.eye(3)[[0, 1, 2, 0]] * 5
    assert temperature(right, np.array([0, 1, 2, 0])) == 1, (
        "all right: the surer the better, without end"
    )
    assert temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == 1
    spread = (right - 5).std()
    wrong = np.array([1, 2, 0, 1])
    assert temperature(right, wrong) == pytest.approx(HIGHEST * spread), (
        "always wrong: the less sure the better"
    )
    assert temperature(right * 1e4, wrong) == pytest.approx(HIGHEST * spread * 1e4), "no overflow"


def test_small_logits_have_a_small_temperature_and_no_bound():
    logits, labels = made_up()
    assert temperature(logits * 1e-6, labels) == pytest.approx(
        temperature(logits, labels) * 1e-6, rel=1e-6
    )


def test_no_examples_are_refused():
    with pytest.raises(ExitsError, match="no example"):
        temperature(np.zeros((0, 3)), np.zeros(0, int))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cell with exits, calibrated."""
    folder = tmp_path_factory.mktemp("study")
    return folder / write_study(folder)[0]["cell"]


@pytest.fixture
def cell(made, tmp_path):
    """A copy to change."""
    return shutil.copytree(made, tmp_path / "cell")


def run(cell, **settings) -> dict:
    calibrate(
        {"split": "validation", "temperatures": None, **settings},
        logits=cell / "exits/logits.jsonl",
        exits=cell / "exits/exits.json",
        trained_model=cell / "finetune/model",
        model=cell / "calibrate/model",
        temperatures=cell / "calibrate/temperatures.json",
        provenance={"rule": "calibrate"},
    )
    return json.loads((cell / "calibrate/temperatures.json").read_text())


def test_the_calibrated_model_is_the_trained_one_with_temperatures(cell):
    (cell / "finetune/model/.snakemake_timestamp").touch()
    (cell / "finetune/model/nested").mkdir()
    (cell / "finetune/model/nested/vocab.txt").write_text("a")
    found = run(cell)
    trained, model = cell / "finetune/model", cell / "calibrate/model"
    assert (model / "model.safetensors").samefile(trained / "model.safetensors"), (
        "linked, not copied"
    )
    assert (model / "nested/vocab.txt").read_text() == "a"
    configs = [json.loads((folder / "config.json").read_text()) for folder in (trained, model)]
    assert configs[0]["temperatures"] is None and configs[1] == {
        **configs[0],
        "temperatures": found["temperatures"],
    }
    assert not (model / ".snakemake_timestamp").exists(), "it would be the trained model's"
    assert [path.name for path in model.parent.iterdir() if path.name.startswith(".")] == []


def test_temperatures_are_those_of_the_split_and_say_whose_they_are(cell):
    found = run(cell)
    split = read_logits(cell / "exits/logits.jsonl")["validation"]
    assert found.pop("provenance")["rule"] == "calibrate"
    assert "model/config.json" in found.pop("sha256")
    assert found == {
        "labels": list(LABELS),
        "layers": list(LAYERS),
        "split": "validation",
        "fitted": True,
        "temperatures": [temperature(logits, split.gold) for logits in split.logits],
        "notes": [],
    }


def test_given_temperatures_are_taken(cell):
    found = run(cell, temperatures=[1, 1.5, 2, 3])
    assert (found["fitted"], found["temperatures"]) == (False, [1, 1.5, 2, 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"split": "dev"},
            r"logits\.jsonl has no rows of the split 'dev' that calibration\.split names; "
            "it has valid",
        ),
        ({"temperatures": [1, 1]}, "exits.temperatures has 2 numbers, but the model has 4 exits"),
        (
            {"temperatures": [1, 1, 0, 1]},
            "exits.temperatures holds 0; a temperature is a number above 0",
        ),
        ({"temperatures": [1, 1, float("nan"), 1]}, "exits.temperatures holds nan"),
    ],
)
def test_bad_settings_are_named_and_leave_what_was_there(cell, settings, message):
    before = (cell / "calibrate/model/config.json").read_text()
    with pytest.raises(ExitsError, match=message):
        run(cell, **settings)
    assert (cell / "calibrate/model/config.json").read_text() == before


def test_logits_that_are_no_numbers_are_named(cell):
    path = cell / "exits/logits.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[3]["logits"][1][2] = float("nan")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ExitsError, match=r"logits\.jsonl: 1 examples of the split 'validation'.*'validation-3'"
    ):
        run(cell)


def test_temperatures_at_a_bound_are_noted(cell):
    path = cell / "exits/logits.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["logits"][0] = [0.0, 0.0, 0.0]
        row["logits"][3] = [9.0 * (place == row["label"]) for place in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(cell)
    assert (found["temperatures"][0], found["temperatures"][3]) == (1, 1)
    assert [note[:6] for note in found["notes"]] == ["exit 0", "exit 3"]
