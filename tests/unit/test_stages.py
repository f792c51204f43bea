"""What a Snakemake command line asks of the jobs; the jobs themselves are seen in the workflow's tests."""

import pytest

from longwatt.stages import job_environment, only_looks, reports_only


@pytest.mark.parametrize(
    ("line", "anew"),
    [
        ("--cores 2", ""),
        ("--cores 2 -R plot", ""),
        ("--cores 2 -R finetune plot", "finetune"),
        ("--forcerun finetune", "finetune"),
        ("-R predict", "predict"),
        ("-F", "finetune predict"),
        ("--forceall --cores 2", "finetune predict"),
        ("-f results/s/c/finetune/training.json", "finetune predict"),
        ("results/s/c/finetune/training.json", ""),
    ],
)
def test_only_what_is_forced_is_made_anew(line, anew):
    assert job_environment(line.split()) == ({"LONGWATT_ANEW": anew} if anew else {})


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
