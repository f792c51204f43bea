"""What a Snakemake command line asks of the jobs; the jobs themselves are seen in the workflow's tests."""

import pytest

from longwatt.stages import Stages, job_environment, only_looks, reports_only
from longwatt.study import read_study


@pytest.mark.parametrize(
    ("line", "anew"),
    [
        ("--cores 2", ""),
        ("--cores 2 -R plot", ""),
        ("--cores 2 -R finetune plot", "finetune"),
        ("--forcerun finetune", "finetune"),
        ("-R predict", "predict"),
        ("--forcerun=finetune --cores 2", "finetune"),
        ("-R tokenize_dataset --cores 2 results/s/c/finetune/training.json", ""),
        ("-R results/s/c/predict/greedy/inference.json", "predict"),
        ("-F", "finetune predict"),
        ("--forceall --cores 2", "finetune predict"),
        ("-f results/s/c/finetune/training.json", "finetune predict"),
        ("results/s/c/finetune/training.json", ""),
    ],
)
def test_only_what_is_forced_is_made_anew(line, anew):
    said = job_environment(line.split()).get("LONGWATT_ANEW", ":")
    assert said.partition(":")[2] == anew and bool(said.partition(":")[0]) == bool(anew)


@pytest.mark.parametrize(
    ("line", "only"),
    [
        ("--report r.html", True),
        ("--report=r.html", True),
        ("--report r.html --report-after-run", False),
        ("-n", False),
    ],
)
def test_a_report_that_runs_nothing_is_told_from_one_that_does(line, only):
    assert reports_only(line.split()) == only


@pytest.mark.parametrize(("line", "looks"), [("-n", True), ("--report r.html", True), ("--cores 2", False)])
def test_a_dry_run_and_a_report_need_no_room_to_write(line, looks):
    assert only_looks(line.split()) == looks


def test_settings_of_a_job_are_merged_once_however_often_they_are_asked_for(tiny_study_text, study_schema, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_study_text)
    made = Stages("tiny", read_study(path, study_schema), {})
    one, other = made.cells
    assert made.finetune(one) is made.finetune(one)
    assert made.finetune(one) is not made.finetune(other)
    assert made.predict(one, "greedy") != made.score(one, "greedy")
    assert made.summarize_energy(one, "finetune").artefact != made.summarize_energy(one, "predict/greedy").artefact


def test_a_cell_that_differs_in_its_seed_alone_is_checked_once(tiny_study_text, study_schema, tmp_path, monkeypatch):
    path, checked = tmp_path / "tiny.yaml", []
    path.write_text(tiny_study_text.replace("seeds: [1]", "seeds: [1, 2, 3]"))
    monkeypatch.setattr(Stages, "_check_lengths", lambda self, name, *rest: checked.append(name))
    made = Stages("tiny", read_study(path, study_schema), {})
    assert len(made.cells) == 6
    assert checked == [name for name in made.cells if name.endswith("seed1")]
