"""A tiny cascade from nothing to its audit: run for real, it answers as it was computed to."""

import csv
import json

import pytest

from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

pytestmark = pytest.mark.long
POINTS = """inference:
  greedy: {split: validation, batch_size: 5}
  tested: {split: test, batch_size: 5}
  both: {split: test, batch_size: 5, cascade: {first: {seq_len: 32}, calibrate_on: greedy}}
grid:
  - {datasets: [needle], models: [led], seq_lens: [32, 64], budgets: [cpu], seeds: [1],
     inference: [greedy, tested]}
  - {datasets: [needle], models: [led], seq_lens: [64], budgets: [cpu], seeds: [1],
     inference: [both]}
"""


def test_a_cascade_is_fitted_run_and_set_beside_what_its_cells_say_alone(tmp_path):
    study = TINY_STUDY.split("inference:")[0].replace("test: 4", "test: 14") + POINTS
    project = Project.create(tmp_path / "p", study)
    assert project.would_run()["fit_cascade"] == 1
    project.run()
    point = project.cell(64) / "predict/both"
    fitted = json.loads((project.cell(64) / "cascade/both/threshold.json").read_text())
    run = json.loads((point / "inference.json").read_text())["cascade"]
    assert run["threshold"] == fitted["threshold"] and fitted["split"] == "validation"
    with (project.results / "summary.csv").open() as stream:
        rows = {(row["seq_len"], row["inference"]): row for row in csv.DictReader(stream)}
    assert ("64", "both") in rows and float(rows["64", "both"]["examples"]) == 14

    said = project.run("cascade")
    assert "All 14 answers agree" in said and "cascades.html" in said
    report = json.loads((project.results / "cascades/cascades.json").read_text())
    (group,) = report["groups"].values()
    assert (group["fitted_on"], group["stated_on"], group["halved"]) == (
        "validation",
        "test",
        False,
    )
    assert group["unit"] == "ms" and [len(group[name]) for name in ("singles", "pairs")] == [2, 1]
    (real,) = group["run"]
    assert real["differing_answers"] == real["differing_escalations"] == 0
    assert real["computed_score"] == pytest.approx(real["score"])
    for name in ("curve.csv", "cascades.md", "cascades.html"):
        assert (project.results / "cascades" / name).stat().st_size
    assert project.would_run() == {}, "asking for cascades makes nothing anew"

    # Another share to keep fits the threshold anew and runs the cascade, and trains nothing.
    project.edit("studies/tiny.yaml", "calibrate_on: greedy", "calibrate_on: greedy, keep_score: 1")
    again = project.would_run()
    assert again["fit_cascade"] == again["predict"] == 1 and "finetune" not in again


def test_a_cascade_that_cannot_be_fitted_is_refused_at_once(tmp_path):
    study = TINY_STUDY.split("inference:")[0] + POINTS
    project = Project.create(tmp_path / "p", study.replace("on: greedy", "on: tested"))
    assert "would be judged by the examples that it was fitted to" in project.run("-n", ok=False)
    project.study.write_text(study.replace("{seq_len: 32}", "{seq_len: 64}"))
    assert "names needle/led/64/cpu/generated/seed1 itself" in project.run("-n", ok=False)
