"""A tiny study of early exit from nothing to figures and a threshold to use."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from longwatt.exits import load_classifier
from longwatt.exits.logits import read_logits
from longwatt.exits.replay import leave
from longwatt.study.reported import report_items
from tests.tiny_exits import study_text, write_data
from tests.workflow.conftest import Project

pytestmark = pytest.mark.long
CELL = "words/exits/24/cpu/classified/seed42"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("exits")
    write_data(folder / "data")
    project = Project.create(folder / "p", study_text(folder / "data"))
    project.run()
    return project


@pytest.fixture(scope="module")
def rows(finished) -> dict[tuple[str, str], dict[str, str]]:
    with (finished.results / "summary.csv").open() as stream:
        return {(row["model"], row["inference"]): row for row in csv.DictReader(stream)}


def predictions(project: Project, point: str) -> list[dict]:
    path = project.results / CELL / "predict" / point / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_point_has_its_row_with_its_rule_and_what_it_is_beside_the_standard(rows):
    assert len(rows) == 6 + 2 + 2
    early, standard = rows["exits", "early-t0.7-b8"], rows["standard", "last-b8"]
    wanted = ("threshold", "0.7", "8")
    assert (early["exit_rule"], early["exit_value"], early["inference_batch_size"]) == wanted
    wanted = ("early_exit", "0 1 3", "4")
    assert (early["exit_kind"], early["exit_layers"], early["encoder_layers"]) == wanted
    wanted = ("standard", "last", "1.0")
    assert (standard["exit_kind"], standard["exit_rule"], standard["relative_time"]) == wanted
    assert rows["shallow", "last-b1"]["exit_kind"] == "efficient"
    ours, theirs = (float(row["inference_samples_per_second"]) for row in (early, standard))
    assert float(early["relative_time"]) == pytest.approx(theirs / ours)
    assert 1 <= float(early["mean_layers"]) <= 4 and early["macro_f1"] != "NA"
    assert early["rouge1"] == "NA"


def test_batches_answer_as_one_example_at_a_time_does_and_both_as_the_recorded_logits_say(finished):
    recorded = read_logits(finished.results / CELL / "exits/logits.jsonl")["test"]
    calibrated = json.loads((finished.results / CELL / "calibrate/calibration.json").read_text())
    exits, answers, _ = leave(
        recorded.logits, calibrated["temperatures"], {"threshold": 0.7}, recorded.gold
    )
    names = np.array(calibrated["labels"])
    expected = [
        (number, name) for number, name in zip(exits.tolist(), names[answers].tolist(), strict=True)
    ]
    for point in ("early-t0.7-b1", "early-t0.7-b8"):
        assert [
            (row["exit"], row["prediction"]) for row in predictions(finished, point)
        ] == expected


def test_the_oracle_is_wrong_only_where_every_exit_is(finished, rows):
    recorded = read_logits(finished.results / CELL / "exits/logits.jsonl")["test"]
    right = (recorded.logits.argmax(-1) == recorded.gold).any(axis=0).mean()
    assert float(rows["exits", "oracle"]["accuracy"]) == pytest.approx(100 * right, abs=1e-3)
    assert float(rows["exits", "oracle"]["accuracy"]) >= float(rows["exits", "last-b1"]["accuracy"])


def test_every_figure_table_and_claim_is_there(finished):
    figures = finished.results / "exits/figures"
    assert {path.stem for path in figures.glob("*.png")} == set(report_items.EXIT_FIGURES) - {
        "exits_distilled"
    }
    assert "early-t0.7-b1" in (finished.results / "claims.md").read_text()
    assert (finished.results / "tables/exits.md").exists()


def test_another_threshold_trains_records_and_calibrates_nothing(finished, tmp_path):
    project = finished.copy(tmp_path / "p")
    project.study.write_text(
        project.study.read_text().replace("thresholds: [0.7]", "thresholds: [0.7, 0.8]")
    )
    jobs = project.would_run()
    assert (jobs["predict"], jobs["score"], jobs["compare_exits"]) == (2, 2, 1)
    assert jobs.keys().isdisjoint(
        {"tokenize_dataset", "finetune", "record_exits", "calibrate", "judge_calibration"}
    )


def test_other_intervals_predict_and_fit_nothing(finished, tmp_path):
    project = finished.copy(tmp_path / "p")
    project.study.write_text(project.study.read_text() + "scoring: {bootstrap_resamples: 200}\n")
    jobs = project.would_run()
    assert (jobs["judge_calibration"], jobs["score"], jobs["compare_exits"]) == (1, 10, 1)
    assert jobs.keys().isdisjoint({"finetune", "record_exits", "calibrate", "predict"})


def test_a_threshold_is_chosen_and_used_in_plain_python(finished):
    lib = str(finished.path / "workflow/lib")
    command = [
        sys.executable, "-m", "longwatt.exits", "choose", "--study", "tiny", "--max-drop", "100",
    ]  # fmt: skip
    where = {"cwd": finished.path, "env": finished.environment(PYTHONPATH=lib)}
    done = subprocess.run(command, capture_output=True, text=True, **where)
    assert done.returncode == 0 and "load_classifier" in done.stdout, done.stdout + done.stderr
    classifier = load_classifier(finished.results / CELL / "calibrate/model")
    rows = [
        json.loads(line)
        for line in (finished.path.parent / "data/test.jsonl").read_text().splitlines()
    ]
    answers = classifier.predict([row["text"] for row in rows], threshold=0.7, max_length=24)
    ours = predictions(finished, "early-t0.7-b1")
    assert [(one.label, one.exit) for one in answers] == [
        (row["prediction"], row["exit"]) for row in ours
    ]
    with pytest.raises(ValueError, match=r"1\.5"):
        classifier.predict(["fine"], threshold=1.5)
