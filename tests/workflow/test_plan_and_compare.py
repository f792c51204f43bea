"""`snakemake plan` and `snakemake compare`, before and after a study has run."""

import csv
import json
import re

import pytest

from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project


@pytest.fixture
def fresh(tmp_path) -> Project:
    """A tiny study that has not run."""
    return Project.create(tmp_path / "project")


def plan(project: Project) -> dict:
    return json.loads((project.results / "plan.json").read_text())


def test_a_plan_needs_no_gpu_no_data_and_no_weights(fresh):
    fresh.edit("studies/tiny.yaml", "cpu: {gpus: 0,", "cpu: {gpus: 8, watts_per_gpu: 300,")
    fresh.edit("studies/tiny.yaml", "source: needle", "source: scrolls")
    options = TINY_STUDY[TINY_STUDY.index("options:") : TINY_STUDY.index("    metric: f1")]
    fresh.edit("studies/tiny.yaml", options, "options: {task: qmsum}\n")
    study, there = "studies/tiny.yaml", "initialisation: checkpoint\n    path: nowhere"
    fresh.edit(study, "initialisation: random", there)
    made = "{kind: byte_level_bpe, vocab_size: 600}"
    fresh.edit(study, made, "{kind: checkpoint, path: nowhere}")
    said = fresh.run("plan", "--resources", "gpu=16")
    assert "2 cells, estimated" in said and "GPU-hours" in said and "Wh" in said
    found = plan(fresh)
    assert found["gpus"] == {"count": 16, "source": "as given"}
    assert found["left"]["energy_kwh"] == pytest.approx(0.3 * found["left"]["gpu_hours"])
    wanted = ["plan.csv", "plan.json", "plan.md"]
    assert sorted(path.name for path in fresh.results.iterdir()) == wanted


def test_a_plan_of_a_finished_study_has_nothing_left(project):
    said = project.run("plan")
    assert "2 cells, all of which have run: nothing is left" in said
    rows = list(csv.DictReader((project.results / "plan.csv").read_text().splitlines()))
    assert {row["finished"] for row in rows} == {"True"} and {
        row["seconds_source"] for row in rows
    } == {"measured"}
    training = json.loads((project.cell(32) / "finetune/training.json").read_text())
    by_part = {(row["seq_len"], row["part"]): row for row in rows}
    assert float(by_part["32", "finetune"]["seconds"]) == pytest.approx(training["train_runtime_s"])
    assert project.would_run() == {}  # a plan changes nothing that others are made from


def test_a_changed_setting_is_to_be_paid_for_again(project):
    project.edit("studies/tiny.yaml", "max_steps: 8", "max_steps: 16")
    project.run("plan")
    found = plan(project)
    assert (found["finished_parts"], found["parts"]) == (0, 4) and found["wall_s"] > 0


def test_two_studies_side_by_side(project):
    results = project.results
    results.rename(results.with_name("other"))  # another study's results, whose file is not here
    results.mkdir()
    rows = list(
        csv.DictReader((results.with_name("other") / "summary.csv").read_text().splitlines())
    )
    for row in rows:
        row.update(protocol="teacher_forced", score=float(row["score"]) + 1)
        row["inference_samples_per_second"] = 4 * float(row["inference_samples_per_second"])
    with (results / "summary.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = project.run_compare("other")
    assert "2 pairs of cells" in said
    assert "protocol: teacher_forced (tiny) against generated (other)" in said
    assert re.search(r"Inference speed: median ratio 0\.25", said) and "Score: median -1.00" in said
    folder = results / "compare" / "other"
    assert (folder / "comparison.html").stat().st_size and (folder / "scores.svg").stat().st_size


@pytest.mark.parametrize(
    ("other", "said"), [("tinny", "unknown study 'tinny'"), ("empty", "run the study tiny first")]
)
def test_what_cannot_be_compared_is_named(fresh, other, said):
    (fresh.path / "results" / "empty").mkdir(parents=True)
    assert said in fresh.run_compare(other, ok=False)
