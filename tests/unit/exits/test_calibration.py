"""Expected calibration error, reliability, and what temperatures did to them."""

import json
import shutil

import numpy as np
import pytest

from longwatt.exits.calibration import expected_calibration_error, judge_calibration, reliability
from longwatt.exits.logits import read_logits
from longwatt.exits.temperatures import calibrate, fit_temperature
from tests.exit_results import LAYERS, SCORING, STAMP, write_study


def test_the_calibration_error_counted_by_hand():
    confidence = np.array([0.62, 0.65, 0.9, 0.95])
    correct = np.array([1, 0, 1, 1])
    # Bins of a tenth: (0.6, 0.7] holds two of 0.635 with half right, (0.8, 0.9] and (0.9, 1.0] one
    # right each.
    assert expected_calibration_error(confidence, correct) == pytest.approx(
        (2 * 0.135 + 0.1 + 0.05) / 4
    )
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([1, 1])) == 0


def test_reliability_bins_hold_every_example_once():
    source = np.random.default_rng(0)
    confidence, correct = source.uniform(0.25, 1, 300), source.random(300) < 0.5
    bins = list(reliability(confidence, correct))
    assert len(bins) == 15 and sum(one["count"] for one in bins) == 300
    assert (bins[0]["low"], bins[-1]["high"]) == (0, 1)
    assert bins[0]["confidence"] is None and bins[0]["accuracy"] is None, "nothing is that unsure"
    filled = [one for one in bins if one["count"]]
    assert all(one["low"] < one["confidence"] <= one["high"] for one in filled)
    error = sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in filled) / 300
    assert expected_calibration_error(confidence, correct) == pytest.approx(error)


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
    judge_calibration(
        {**SCORING, **settings},
        logits=cell / "exits/logits.jsonl",
        temperatures=cell / "calibrate/temperatures.json",
        calibration=cell / "calibrate/calibration.json",
        provenance={"rule": "judge_calibration"},
    )
    return json.loads((cell / "calibrate/calibration.json").read_text())


def test_what_calibration_did_is_told_of_every_exit_and_split(cell):
    found = run(cell)
    assert (found["split"], found["fitted"], found["layers"], found["notes"]) == (
        "validation",
        True,
        list(LAYERS),
        [],
    )
    recorded = read_logits(cell / "exits/logits.jsonl")
    for number, exit_ in enumerate(found["exits"]):
        split = recorded["validation"]
        assert exit_["temperature"] == fit_temperature(split.logits[number], split.gold)[0]
        for name, split in recorded.items():
            told = exit_["splits"][name]
            assert (
                told["examples"]
                == len(split.gold)
                == sum(one["count"] for one in told["after"]["bins"])
            )
            assert told["before"]["accuracy"] == told["after"]["accuracy"], (
                "a temperature changes no answer"
            )
            assert told["ece_drop"] == told["before"]["ece"] - told["after"]["ece"]
            assert told["ece_drop_ci_low"] < told["ece_drop_ci_high"]
        fitted = exit_["splits"]["validation"]
        assert fitted["after"]["nll"] < fitted["before"]["nll"]
    mean = np.mean([exit_["splits"]["test"]["after"]["ece"] for exit_ in found["exits"]])
    assert found["mean"]["test"]["ece_after"] == pytest.approx(mean)
    assert found["mean"]["test"]["ece_drop_ci_low"] > 0, "the made-up logits are far too sure"


def test_the_interval_of_the_drop_is_that_of_a_slow_paired_bootstrap(cell):
    found = run(cell, bootstrap_resamples=40, confidence=0.8, seed=3)
    split = read_logits(cell / "exits/logits.jsonl")["test"]
    source, drops = np.random.default_rng(3), []
    for drawn in source.integers(0, len(split.gold), (40, len(split.gold))):
        errors = []
        for value in (1.0, found["temperatures"][0]):
            scaled = split.logits[0][drawn].astype(float) / value
            shares = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
            right = shares.argmax(axis=1) == split.gold[drawn]
            errors.append(expected_calibration_error(shares.max(axis=1), right))
        drops.append(errors[0] - errors[1])
    told = found["exits"][0]["splits"]["test"]
    assert (told["ece_drop_ci_low"], told["ece_drop_ci_high"]) == pytest.approx(
        tuple(np.percentile(drops, [10, 90]))
    )


def test_given_temperatures_that_change_nothing_have_no_effect(cell):
    calibrate(
        {"split": "validation", "temperatures": [1, 1.5, 2, 3]},
        logits=cell / "exits/logits.jsonl",
        exits=cell / "exits/exits.json",
        trained_model=cell / "finetune/model",
        model=cell / "calibrate/model",
        temperatures=cell / "calibrate/temperatures.json",
        provenance=STAMP,
    )
    found = run(cell)
    assert (found["fitted"], found["temperatures"]) == (False, [1, 1.5, 2, 3])
    first = found["exits"][0]["splits"]["test"]
    assert (first["ece_drop"], first["ece_drop_ci_low"], first["ece_drop_ci_high"]) == (0, 0, 0)


def test_judging_changes_neither_the_temperatures_nor_the_model(cell):
    kept = [cell / "calibrate/temperatures.json", cell / "calibrate/model/config.json"]
    before = [path.read_bytes() for path in kept]
    found = run(cell, bootstrap_resamples=20, confidence=0.5)
    assert [path.read_bytes() for path in kept] == before
    assert found["provenance"]["rule"] == "judge_calibration", "not that of the temperatures"
    fitted = json.loads(before[0])
    assert {key: found[key] for key in fitted if key not in ("provenance", "sha256")} == {
        key: value for key, value in fitted.items() if key not in ("provenance", "sha256")
    }
