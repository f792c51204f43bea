"""One run's threads, priorities, codes and first steps, without Snakemake."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.cli import parse_args

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.freshness.in_force import InForce
from longwatt.plan import urgency
from longwatt.provenance.stamps import ANEW, STALE, Stage
from longwatt.startup import invocation, patterns
from longwatt.startup.run import Given, Run
from longwatt.study.checks import checked_stages
from tests.conftest import ROOT, TINY_STUDY
from tests.made_results import write_study_results

SCHEMA, SCRIPTS = ROOT / "workflow/schemas/study.schema.json", ROOT / "workflow/scripts"
HERE = ["check_against", "check_sources", "check_metrics"]
JOBS = ["check_container", "check_against", "check_sources", "check_metrics", "check_hub"]


@pytest.fixture
def run_of(tmp_path, monkeypatch) -> Callable[..., Run]:
    """Make a run of the tests' study from a command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("longwatt.processes.CGROUPS", tmp_path)
    Path("studies").mkdir()

    def make(
        line: str = "--cores 8", budget: int | str = 0, limit: int | None = 0, each="all", **given
    ) -> Run:
        options = vars(parse_args(line.replace("profiles/", f"{ROOT}/profiles/").split())[1])
        known = Given(options=options, main=True, cores=options["cores"] and int(options["cores"]))
        Path("studies/tiny.yaml").write_text(
            TINY_STUDY.replace("cpu: {gpus: 0,", f"cpu: {{gpus: {budget},")
        )
        machine = {"cores_per_cell": each}
        stages = checked_stages("tiny", read_study(Path("studies/tiny.yaml"), SCHEMA), machine)
        current = InForce(stages, SCRIPTS)
        return Run(current, replace(known, **given), limit, [Path("studies")])

    return make


def first(run: Run) -> str:
    return next(iter(run.stages.cells))


def names(run: Run) -> list[str]:
    return [getattr(step, "func", step).__name__ for step in run.steps()]


@pytest.mark.parametrize(
    ("gpus", "limit", "cores", "expected"),
    [
        (0, 0, 8, 8),  # on the CPU all, as config.yaml has it here
        (0, 4, 8, 8),  # whatever devices there are
        (1, 1, 8, 7),  # one stays free for scoring
        (1, 4, 9, 2),  # an equal share with each
        (2, 4, 9, 4),
        (2, 4, 2, 2),  # never none
        (0, 0, 1, 1),
    ],
)
def test_threads_are_an_equal_share_with_each_device(run_of, gpus, limit, cores, expected):
    run = run_of(budget=gpus, limit=limit, cores=cores)
    assert run.threads(first(run)) == expected
    assert run.stages.gpus(first(run)) == gpus


@pytest.mark.parametrize(
    ("each", "cores", "threads", "at_once"),
    [
        ("auto", 1, 1, 1),
        ("auto", 2, 1, 2),
        ("auto", 4, 1, 4),  # a score takes the place of a cell for its seconds
        ("auto", 8, 1, 7),  # one stays free for it
        ("all", 8, 8, 1),
        (3, 8, 3, 2),
        (16, 8, 8, 1),
    ],
)
def test_cells_on_the_cpu_share_its_cores(run_of, monkeypatch, each, cores, threads, at_once):
    monkeypatch.setattr("longwatt.energy.meters.rapl.can_be_read", lambda: False)
    run = run_of(each=each, cores=cores)
    assert {run.threads(name) for name in run.stages.cells} == {threads}
    assert run.threads_for(0) == threads and run.most_on_cpu == at_once
    assert (run.on_cpu(0), run.on_cpu(2)) == (1, 0)


def test_each_process_of_a_cell_has_a_core(run_of, monkeypatch):
    monkeypatch.setattr("longwatt.energy.meters.rapl.can_be_read", lambda: False)
    run = run_of(each="auto", cores=8, budget="0, processes: 2")
    assert run.threads(first(run)) == 2 and run.most_on_cpu == 3
    assert run.limits(["gpu"]) == {"on_cpu": 3} and run.limits(["on_cpu"]) == {}
    assert run._cell_threads() == dict.fromkeys(run.stages.cells, 1)


def test_where_processors_are_metered_cells_run_one_at_a_time(run_of, monkeypatch):
    monkeypatch.setattr("longwatt.energy.meters.rapl.can_be_read", lambda: True)
    run = run_of(each="auto")
    assert run.threads(first(run)) == 8 and run.most_on_cpu == 1


@pytest.mark.parametrize(("line", "budget"), [("--executor slurm --jobs 8", 0), ("--cores 8", 1)])
def test_a_cluster_or_gpus_decide_themselves_how_many_jobs_there_are(run_of, line, budget):
    run = run_of(line, budget=budget, limit=budget or None, each="auto")
    assert run.most_on_cpu is None and run._cell_threads() == run.limits([]) == {}


def test_jobs_of_a_cluster_are_left_to_its_own_binding():
    assert invocation.binding_environment(on_cluster=True) == {"LONGWATT_PIN": "cluster"}
    assert invocation.binding_environment(on_cluster=False) == {}, "a user's own word stands"


def test_cells_that_have_more_cores_than_they_ask_for_are_named(run_of, monkeypatch, capsys):
    monkeypatch.setattr("longwatt.energy.meters.rapl.can_be_read", lambda: False)
    run_of(each="auto").tell_cores()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("longwatt.plan.cell_cores.SMALL_WORK", 4 * 32 * 16**2)
    run = run_of(each="auto")
    run.tell_cores()
    said = capsys.readouterr().err
    short, long = run.stages.cells
    assert f"8 cores each, one at a time: {long} is large" in said
    assert f"{short} would do with one" in said


@pytest.mark.parametrize(
    ("each", "quota", "said"),
    [
        (16, "max", "8 cores each, one at a time: cores_per_cell is 16, but no more than 8 may be"),
        ("all", "250000", "2 cores each, one at a time: cores_per_cell is all; a quota gives 2.5"),
        ("all", "max", ""),
        (8, "max", ""),
    ],
)
def test_cells_that_get_less_than_was_asked_say_so(run_of, capsys, each, quota, said):
    Path("cpu.max").write_text(f"{quota} 100000\n")
    run_of(each=each).tell_cores()
    err = capsys.readouterr().err
    assert said in err and bool(said) == bool(err)


@pytest.mark.parametrize(("each", "workers", "said"), [(1, 2, True), (1, 0, False), (2, 2, False)])
def test_workers_that_have_only_their_training_s_core_are_named(
    run_of, capsys, monkeypatch, each, workers, said
):
    monkeypatch.setattr(f"{__name__}.TINY_STUDY", TINY_STUDY.replace(
        "training:\n", f"training:\n  dataloader_workers: {workers}\n", 1
    ))  # fmt: skip
    run = run_of(each=each)
    assert run.stages.execution(first(run))["dataloader_workers"] == workers
    run.tell_cores()
    err = capsys.readouterr().err
    assert (
        f"dataloader_workers: each process of {first(run)} and 1 more has one core" in err
    ) is said
    assert said or not err


def test_a_job_on_the_cpu_leaves_the_shares_of_devices_that_the_study_uses(run_of):
    run = run_of(budget=1, limit=2, cores=9)
    assert run.threads_for(1) == 4 and run.threads_for(0) == 1


@pytest.mark.parametrize(
    ("line", "changes", "expected"),
    [
        ("--executor slurm --jobs 8", {}, (4, 8)),
        ("--executor slurm --jobs 8", {"cpus_per_gpu": 6}, (6, 12)),
        ("--executor slurm --jobs 8", {"cpus_per_gpu": "3"}, (3, 6)),
        ("--cores 8", {"main": False, "options": {}}, (4, 8)),  # one of a cluster's jobs
    ],
)
def test_threads_on_a_cluster_go_with_the_devices(run_of, line, changes, expected):
    for gpus, threads in ((0, expected[0]), (1, expected[0]), (2, expected[1])):
        run = run_of(line, budget=gpus, limit=None, **changes)
        assert run.threads(first(run)) == threads


def test_a_profile_whose_cores_are_no_number_is_refused(run_of):
    with pytest.raises(StudyError, match="cpus_per_gpu must be a number"):
        run_of("--executor slurm --jobs 8", limit=None, cpus_per_gpu="many")


def test_a_probe_takes_one_device_of_its_budget(run_of, monkeypatch):
    run = run_of(budget=2, limit=4, cores=9)
    monkeypatch.setattr(type(run.stages), "probes", {"some": first(run)})
    assert run.gpus_of_probe("some") == 1 and run.threads_of_probe("some") == 2
    run = run_of(budget=0, cores=9)
    assert run.gpus_of_probe("some") == 0 and run.threads_of_probe("some") == 9


def test_scores_wait_for_no_device_on_a_cluster_and_come_behind_all_devices_elsewhere(run_of):
    here, cluster = run_of(budget=1, limit=1), run_of("--executor slurm -j 8", budget=1, limit=None)
    name = first(here)
    assert here.reduction_priority < here.priority(name) < here.priority(name, "greedy")
    assert cluster.priority(name, "greedy") < cluster.reduction_priority < urgency.DATA
    on_cpu = run_of()
    assert on_cpu.priority(name, "greedy") < on_cpu.reduction_priority


def test_the_code_of_a_job_follows_its_modules(run_of):
    run = run_of()
    training = run.stages.finetune(first(run))
    other = Stage("finetune", training.artefact, training.settings, ("longwatt.models.seq2seq",))
    assert len(run.code(training)) == 64
    assert run.code(training) == run.current.code(training) != run.code(other)


def test_parts_of_a_cell_share_no_record_of_a_failure(run_of):
    run = run_of()
    name = first(run)
    found = [run.failure_of_energy(name, part) for part in run.stages.parts(name)]
    work = f"results/tiny/{name}/work"
    assert found == [
        f"{work}/failure-energy-finetune.json",
        f"{work}/failure-energy-predict-greedy.json",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--cores 2", ["check_budgets", *JOBS, "check_writable", "lower_future_times",
                       "set_unrecorded_aside", "find_changed", "tell_jobs", "tell_cores",
                       "tell_triggers", "tell_watchers"]),
        ("--cores 2 -n", ["check_budgets", *JOBS, "set_unrecorded_aside", "find_changed",
                          "tell_jobs", "tell_cores", "tell_triggers"]),
        ("--cores 2 --touch", ["check_budgets", *JOBS, "check_writable", "lower_future_times",
                               "set_unrecorded_aside", "find_changed", "tell_jobs", "tell_cores",
                               "tell_triggers", "tell_watchers"]),
        ("--report r.html", [*HERE, "set_unrecorded_aside", "tell_jobs", "check_report"]),
        ("--lint", [*HERE, "set_unrecorded_aside", "tell_jobs"]),
        ("plan --cores 1", ["check_against", "check_writable", "lower_future_times",
                            "set_unrecorded_aside", "tell_jobs"]),
    ],
)  # fmt: skip
def test_what_comes_before_any_job_follows_from_what_was_asked(run_of, line, expected):
    assert names(run_of(line)) == expected


def test_a_cluster_allots_devices_itself(run_of):
    said = names(run_of("--executor slurm --jobs 8", budget=2, limit=None))
    assert "check_budgets" not in said and set(JOBS) < set(said)


def test_a_job_of_a_cluster_checks_nothing(run_of):
    run = run_of(main=False, options={}, limit=None)
    assert run.steps() == [] and run.given.on_cluster


def test_a_budget_above_the_limit_stops_the_run_before_anything_else(run_of, monkeypatch):
    monkeypatch.delenv("LONGWATT_RUN", raising=False)
    with pytest.raises(StudyError, match=r"needs 2 GPU\(s\) but the limit is 1"):
        run_of(budget=2, limit=1).start()
    assert "LONGWATT_RUN" not in os.environ


def stale(run: Run) -> Path:
    """An artefact of a finished study, made otherwise."""
    write_study_results(run.current)
    path = Path(run.stages.score(first(run), "greedy").artefact)
    path.write_text(path.read_text().replace('"code_digest": "', '"code_digest": "0'))
    return path


def test_artefacts_that_snakemake_does_not_know_are_checked_by_their_stamps(run_of, capsys):
    run = run_of()
    path = stale(run)
    run.set_unrecorded_aside()
    assert not path.exists() and path.with_name(path.name + STALE).exists()
    said = capsys.readouterr().err
    assert said.startswith("Made by other settings or code than now, to be made again:\n  ")
    assert str(path) in said


def test_files_that_changed_are_a_parameter_of_a_dry_run_alone(run_of, monkeypatch):
    seen = []

    def found(name: str):
        return lambda stages, known: seen.append(name) or {"resources/x.json": ["x.csv"]}

    for name in ("changed", "set_aside"):
        monkeypatch.setattr(f"longwatt.freshness.source_checks.{name}", found(name))
    job = Stage("download_dataset", "resources/x.json", {})
    shown = {}
    for line in ("--cores 2 -n", "--cores 2 --touch", "--cores 2"):
        run = run_of(line)
        run.find_changed()
        shown[line] = run.changed(job)
    assert seen == ["changed", "changed", "set_aside"]
    assert shown == {"--cores 2 -n": ["x.csv"], "--cores 2 --touch": [], "--cores 2": []}


def test_data_that_were_set_aside_are_awaited(run_of):
    run = run_of()
    write_study_results(run.current)
    path = Path(next(run.stages.before_summary()).artefact)
    path.rename(path.with_name(path.name + STALE))
    run.find_changed()
    assert run.awaited == [str(path)]


def test_files_from_the_future_get_the_present_time(run_of, capsys):
    run = run_of()
    logs = Path(".snakemake/log")
    logs.mkdir(parents=True)
    for path in (logs / "run.log", Path("resources/x.json")):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        os.utime(path, (4e9, 4e9))
    run.lower_future_times()
    assert Path("resources/x.json").stat().st_mtime < 4e9
    assert "2 files from the future" in capsys.readouterr().err


def test_a_plan_knows_what_was_given_and_the_embedded_study(run_of, monkeypatch):
    monkeypatch.setattr("longwatt.gpus.listing.list_devices", lambda: ["one", "two"])
    found = run_of(budget=1, limit=8, gpus=8).plan_settings()
    assert found["study_id"] == "tiny" and found["demo"] is None
    assert (found["gpus_given"], found["gpus_found"]) == (8, 2)
    Path("studies/demo.yaml").write_text(TINY_STUDY)
    assert run_of().plan_settings()["demo"]["title"] == "Tiny"


def test_two_studies_are_compared_by_what_is_in_force_of_each(run_of):
    run = run_of()
    run.stages.machine = {"against": "other"}
    assert run.compare_settings()["against"] == "other" and run.compared_stamps()["other"] is None
    Path("studies/other.yaml").write_text(TINY_STUDY)
    both = run.compared_stamps()
    assert set(both) == {"tiny", "other"} and both["tiny"] == run.current.stamps()
    assert {path.replace("results/other", "results/tiny") for path in both["other"]} == set(
        both["tiny"]
    )


@pytest.mark.parametrize(
    ("constraint", "fits", "not_that"),
    [
        (patterns.one_of(["a.b", "c"]), ["a.b", "c"], ["aXb", "d", ""]),
        (patterns.one_of([]), [], ["", "a"]),
        (patterns.part_of(["greedy"]), ["finetune", "predict/greedy"], ["predict/beam", "greedy"]),
    ],
)
def test_wildcards_are_names_that_the_study_declares(constraint, fits, not_that):
    assert all(re.fullmatch(constraint, name) for name in fits)
    assert not any(re.fullmatch(constraint, name) for name in not_that)


def test_ids_of_cells_are_matched_by_their_parts(run_of):
    stages = run_of().stages
    constraint = patterns.cell_of(stages.cells.values())
    assert all(re.fullmatch(constraint, name) for name in stages.cells)
    assert not re.fullmatch(constraint, first(run_of()).replace("seed1", "seed2"))


def test_rules_under_other_names_are_known_and_another_workflow_s_are_not_taken_for_them():
    asked = {"targets": ["lw_plan"], "forcerun": ["finetune", "a/file"], "until": None, "n": 1}
    found = invocation.in_our_names(
        asked, {"lw_plan": "plan", "lw_finetune": "finetune"}, ["plan", "finetune"]
    )
    assert found["targets"] == ["plan"] and invocation.only_tells(found)
    assert "finetune" not in found["forcerun"] and found["forcerun"][1] == "a/file"
    assert ANEW not in invocation.job_environment(found)
    assert found["until"] is None and found["n"] == 1
    same = invocation.in_our_names({"targets": ["plan"]}, {"plan": "plan"}, ["plan", "finetune"])
    assert same == {"targets": ["plan"]}


@pytest.mark.parametrize(("triggers", "told"), [("params code", True), ("params mtime", False)])
def test_code_among_the_triggers_is_told_with_the_cure(run_of, capsys, triggers, told):
    run_of(f"--cores 1 --rerun-triggers {triggers}").tell_triggers()
    assert ("--rerun-triggers params input mtime software-env" in capsys.readouterr().err) == told
