"""A partial summary of a study with exits: finished cells beside finished baselines."""

import json

import pytest

from longwatt.report import partial
from longwatt.results.summary import artefacts, read_summary
from tests.exit_results import SCORING, STAMP, write_study

DRAWN = ("write_tables", "plot_all")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Made-up results, and what plot_power was asked for; nothing is drawn."""
    asked = {}
    for name in DRAWN:
        monkeypatch.setattr(partial, name, lambda *args: None)
    monkeypatch.setattr(
        partial, "write_power", lambda results, folder, headings, parts, stamp: asked.update(parts)
    )
    results = tmp_path / "results"
    cells = write_study(results)
    for cell in cells:  # what the reduction of energy and the engine add
        folder = results / cell["cell"] / "finetune"
        training = json.loads((folder / "training.json").read_text())
        (folder / "energy.json").write_text(json.dumps({"provenance": STAMP}))
        (folder / "training.json").write_text(json.dumps({**training, "attempts": [{}]}))
    monkeypatch.setattr(
        partial,
        "write_answer",
        lambda results, settings, *more: asked.update(answer=(settings, *more)),
    )
    return results, cells, asked


def rows_of(cells) -> list[dict]:
    known = ("cell", "dataset", "model", "seq_len", "budget", "protocol", "seed")
    return [
        {**{key: cell[key] for key in known}, "inference": point}
        for cell in cells
        for point in cell["points"]
    ]


def settings_of(cells) -> dict:
    compared = {"cells": cells, "equal_accuracy_points": 0, **SCORING}
    headings = {cell["cell"]: cell["cell"] for cell in cells}
    prices = {
        "price_per_kwh": None,
        "price_per_gpu_hour": None,
        "grid_gco2e_per_kwh": None,
        "pue": 1,
    }
    return {
        "rows": rows_of(cells),
        "prices": prices,
        "scoring": {"bootstrap_resamples": 50, "confidence": 0.95, "seed": 0},
        "requests": 1000,
        "headings": headings,
        "compare_exits": compared,
        "judge_claims": {"claims": {}},
        "answer": {"title": "Study"},
    }


def test_a_cell_without_some_points_shows_the_others(study):
    results, cells, asked = study
    settings, name = settings_of(cells), cells[0]["cell"]
    paths = {path for row in settings["rows"] for path in artefacts(results, row).values()}
    (results / name / "predict/t0.8-b1/scores.json").unlink()
    partial.write_partial(results, settings, {str(path): ["0", "0"] for path in paths}, {})
    table = read_summary(results / "partial/summary.csv")
    own = table[table["cell"] == name].set_index("inference")
    assert set(own.index) == set(cells[0]["points"]) - {"t0.8-b1"}
    assert "predict/t0.8-b1" not in asked[name] and asked[name][0] == "finetune"
    assert 0 < own.loc["t0.6-b1", "relative_time"] < 1
    assert asked["answer"][0] == {"title": "Study (finished cells only)"}
    assert asked["answer"][-1] == results / "partial/summary.csv"
    assert not (results / "exits").exists(), "that of the whole study is another rule's"
    compared = json.loads((results / "partial/exits/exits.json").read_text())
    assert set(compared["rows"][name]) == set(own.index)


def test_a_cell_whose_calibration_is_not_judged_yet_waits(study):
    results, cells, asked = study
    settings, name = settings_of(cells), cells[0]["cell"]
    judged = results / name / "calibrate/calibration.json"
    paths = {path for row in settings["rows"] for path in artefacts(results, row).values()} | {
        judged
    }
    judged.unlink()
    partial.write_partial(results, settings, {str(path): ["0", "0"] for path in paths}, {})
    asked.pop("answer")
    assert name not in asked and set(asked) == {cell["cell"] for cell in cells} - {name}
    assert name not in json.loads((results / "partial/exits/exits.json").read_text())["rows"]
    states = (results / "partial/status.csv").read_text()
    assert f"{name},outdated" not in states and f"{name},finished" not in states
