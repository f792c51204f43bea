"""A Snakemake command line and what it asks of the jobs, which the workflow's tests run."""

import pytest
from snakemake.cli import parse_args

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.startup.invocation import (
    job_environment,
    leases_gpus,
    on_cluster,
    only_looks,
    only_tells,
    reports_only,
)
from longwatt.startup.run import partial_settings
from longwatt.study.checks import checked_stages


def asked(line: str, root) -> dict:
    """What Snakemake makes of a command line, and of the profile that it names."""
    return vars(parse_args(line.replace("profiles/", f"{root}/profiles/").split())[1])


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
        ("-F", "finetune predict record_exits"),
        ("--forceall --cores 2", "finetune predict record_exits"),
        ("-f results/s/c/finetune/training.json", "finetune predict record_exits"),
        ("results/s/c/finetune/training.json", ""),
        ("-Rfinetune", "finetune"),
        ("-nF", "finetune predict record_exits"),
        ("-R predict --config study=finetune_lr", "predict"),
    ],
)
def test_only_what_is_forced_is_made_anew(line, anew, root):
    said = job_environment(asked(line, root)).get("LONGWATT_ANEW", ":")
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
def test_a_report_that_runs_nothing_is_told_from_one_that_does(line, only, root):
    assert reports_only(asked(line, root)) == only


@pytest.mark.parametrize(
    "line", ["-n", "-np", "--dry-run", "--report r.html", "--lint", "--unlock", "--list-rules"]
)
def test_what_writes_no_results_needs_no_room_to_write(line, root):
    assert only_looks(asked(line, root)) and not only_looks(asked("--cores 2", root))


def test_only_what_may_run_jobs_with_gpus_needs_them(root):
    assert leases_gpus(asked("--cores 2 -n", root)) and leases_gpus(asked("partial all", root))
    others = ("partial", "plan", "compare", "plan partial", "--report r.html", "--lint", "--unlock")
    assert not any(leases_gpus(asked(line, root)) for line in others)


def test_only_what_tells_needs_no_data(root):
    assert only_tells(asked("plan --cores 1", root)) and only_tells(
        asked("compare --cores 1", root)
    )
    assert not any(
        only_tells(asked(line, root))
        for line in ("--cores 2", "plan all", "-n", "results/s/summary.csv")
    )


@pytest.mark.parametrize(
    ("line", "cluster"),
    [
        ("--cores 2", False),
        ("-j 8", False),
        ("-j 8 -n", False),
        ("--cores 8 --jobs 8", False),
        ("--executor local --jobs 8", False),
        ("--executor slurm --jobs 8", True),
        ("--workflow-profile profiles/slurm", True),
        ("--workflow-profile profiles/slurm -n", True),
        ("--workflow-profile profiles/node", False),
    ],
)
def test_a_cluster_is_where_jobs_are_handed_to_another_scheduler(line, cluster, root):
    assert on_cluster(asked(line, root)) == cluster


def test_settings_of_a_job_are_merged_once_however_often_they_are_asked_for(
    tiny_study_text, study_schema, tmp_path
):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_study_text)
    made = checked_stages("tiny", read_study(path, study_schema), {})
    one, other = made.cells
    assert made.finetune(one) is made.finetune(one)
    assert made.finetune(one) is not made.finetune(other)
    assert made.predict(one, "greedy") != made.score(one, "greedy")
    assert (
        made.summarize_energy(one, "finetune").artefact
        != made.summarize_energy(one, "predict/greedy").artefact
    )


def test_a_cell_that_differs_in_its_seed_alone_is_checked_once(
    tiny_study_text, study_schema, tmp_path, monkeypatch
):
    path, checked = tmp_path / "tiny.yaml", []
    path.write_text(tiny_study_text.replace("seeds: [1]", "seeds: [1, 2, 3]"))
    monkeypatch.setattr(
        "longwatt.study.checks._Checked.check_lengths",
        lambda self, config: checked.append(self.name),
    )
    made = checked_stages("tiny", read_study(path, study_schema), {})
    assert len(made.cells) == 6
    assert checked == [name for name in made.cells if name.endswith("seed1")]


def test_a_part_of_a_study_is_shown_as_the_whole(tiny_study_text, study_schema, tmp_path):
    path = tmp_path / "tiny.yaml"
    figure = "figures: [{name: own, costs: [peak_memory], datasets: [needle]}]\n"
    path.write_text(f"{tiny_study_text}{figure}published: {{source: x, protocol: generated}}\n")
    made = checked_stages("tiny", read_study(path, study_schema), {})
    partial = partial_settings(made)
    for stage in (made.summarize(), made.tabulate(), made.plot(), made.plot_power()):
        assert partial.items() >= stage.settings.items()
    assert partial["figures"][0]["name"] == "own" and partial["published"]["source"] == "x"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("published: {source: x}", "'protocol' is a required property"),
        (
            "published: {source: x, protocol: generated, score: []}",
            "unknown key 'score' (did you mean 'scores'?)",
        ),
        (
            "published: {source: x, protocol: generated, "
            "batch_sizes: [{datasets: [needle], model: led, budget: cpu, effective: {64: 8.5}}]}",
            "published.batch_sizes.0.effective.64: expected a whole number",
        ),
        (
            "figures: [{name: a/b, costs: [peak_memory], datasets: [needle]}]",
            "figures.0.name: expected a name of letters, digits, '_' and '.'",
        ),
        ("figures: [{name: a, costs: [], datasets: [needle]}]", "figures.0.costs"),
    ],
)
def test_what_a_study_may_say_of_published_values_and_figures(
    more, said, tiny_study_text, study_schema, tmp_path
):
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{tiny_study_text}{more}\n")
    with pytest.raises(StudyError) as error:
        read_study(path, study_schema)
    assert said in str(error.value)
