"""Energy of another workflow's jobs: ledgers, states, sources, sums, and the page of them."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

from longwatt.energy.__main__ import main as energy
from longwatt.energy.workflows import hook
from longwatt.energy.workflows.job import JobMeter, gpus_of, ledger_path, recording_of
from longwatt.energy.workflows.runs import read_runs, summed
from longwatt.processes import identified
from longwatt.report.workflow_energy import draw_rules
from longwatt.report.workflow_energy import main as write_page
from tests import energy_logs
from tests.nvml import uuid

BURN = "import time\nwhile time.process_time() < 0.1: pass"
MACHINE = {"name": "Some CPU", "board": None, "virtual": False, "wsl": False}
MACHINE |= {"cpus_per_socket": 4, "cores_per_socket": 4}


def facts(rule="burn", resources=None, **wildcards):
    return {
        "rule": rule, "wildcards": wildcards, "output": [f"{rule}.txt"], "threads": 1,
        "resources": resources or {}, "watts_per_core": 10,
    }  # fmt: skip


def run_line(number=1, at=0.0, **more):
    started = {"started": number, "t": energy_logs.ns(at), "wall_time_s": 1e9 + at, **facts()}
    started |= {"boot_id": "boot-a", "host": "node", "snakemake": "node:1:1", "cpu_before_s": 0.0}
    return {**started, "processor": MACHINE, "gpus": [], "gpu_problem": None, **more}


def end_line(number=1, s=2.0, cpu_s=1.5, status=0):
    return {"ended": number, "s": s, "cpu_s": cpu_s, "status": status}


def ledger(folder, *lines, rule="burn"):
    path = ledger_path(folder, facts(rule))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def states(folder):
    return [(run.state, run.energy_j, run.source) for run in read_runs(folder)]


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def metered(tmp_path, monkeypatch):
    """The meter's hooks around a stand-in for the function by which Snakemake runs a job."""
    choices = hook.MeterSettings(tmp_path, "energy", 10, None)
    monkeypatch.setattr(hook, "settings", choices)

    def run(work, rule, **more):
        def run_wrapper(job_rule, output, wildcards, threads, resources):
            return work()

        executor = types.SimpleNamespace(run_wrapper=run_wrapper)
        hook.install(executor, types.SimpleNamespace(sp=subprocess))
        kind = types.SimpleNamespace(name=rule, is_run=False, norun=False, **more)
        return executor.run_wrapper(kind, [f"{rule}.txt"], {"n": "1"}, 1, {})

    return run


def test_cpu_time_of_a_job_is_that_of_its_commands_and_all_they_waited_for(metered, tmp_path):
    def work():
        nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
        return hook.CountedPopen([sys.executable, "-c", nested]).wait()

    assert metered(work, "burn") == 0
    (run,) = read_runs(tmp_path)
    assert (run.rule, run.wildcards, run.state) == ("burn", {"n": "1"}, "kept")
    assert 0.1 <= run.cpu_s < 1
    assert run.source == "estimate" and run.energy_j == pytest.approx(10 * run.cpu_s)
    assert run.seconds >= run.cpu_s / 2


def test_a_job_of_milliseconds_is_not_nothing(metered, tmp_path):
    metered(lambda: hook.CountedPopen("true", shell=True).wait(), "quick")
    (run,) = read_runs(tmp_path)
    assert 0 < run.energy_j < 1


def test_a_failed_command_fails_as_it_would_and_is_counted(metered, tmp_path):
    def work():
        code = hook.CountedPopen(f"{sys.executable} -c '{BURN}'; exit 3", shell=True).wait()
        raise subprocess.CalledProcessError(code, "it")

    with pytest.raises(subprocess.CalledProcessError, match="3"):
        metered(work, "fails")
    metered(lambda: hook.CountedPopen("true", shell=True).wait(), "fails")
    assert [(run.number, run.state) for run in read_runs(tmp_path)] == [(1, "failed"), (2, "kept")]


def test_a_job_without_a_command_has_no_known_energy(metered, tmp_path):
    assert metered(lambda: "made", "template") == "made"
    assert states(tmp_path) == [("kept", None, "none")]


def test_a_meter_that_fails_stops_no_job(metered, tmp_path, capsys):
    hook._warn.cache_clear()
    (tmp_path / "jobs").write_text("a file in the folder's place")
    assert metered(lambda: hook.CountedPopen("true", shell=True).wait(), "burn") == 0
    assert "not metered" in capsys.readouterr().err


def test_a_snakemake_of_another_kind_is_left_alone(capsys):
    hook._warn.cache_clear()

    def run_wrapper(job):
        return job

    executor = types.SimpleNamespace(run_wrapper=run_wrapper)
    hook.install(executor, types.SimpleNamespace(sp=subprocess))
    assert executor.run_wrapper is run_wrapper
    assert "another way" in capsys.readouterr().err


def test_python_in_snakemakes_process_counts_unless_another_job_is_in_it(tmp_path):
    for number in (1, 2):
        job = JobMeter(tmp_path, facts(n=str(number)), in_process=True)
        if number == 2:
            job.share_process()
        job.begin()
        sum(range(3_000_000))
        job.close(0)
    alone, together = read_runs(tmp_path)
    assert 0 < alone.cpu_s < 5 and alone.source == "estimate"
    assert together.energy_j is None and "in one process with another job" in together.basis


def test_states_of_runs(tmp_path):
    ends = [end_line(1), end_line(2, status=1), end_line(4)]
    ledger(tmp_path, *(run_line(n, at=10 * n) for n in (1, 2, 3, 4)), *ends)
    assert [run.state for run in read_runs(tmp_path)] == ["redone", "failed", "killed", "kept"]


def test_a_killed_run_counts_as_far_as_its_recorder_saw(tmp_path):
    path = ledger(tmp_path, run_line(cpu_before_s=2.0))
    head = energy_logs.header(1, gpus=0)
    seen = [{"t": energy_logs.ns(second), "cpu_s": 2.0 + second} for second in (1, 2, 3)]
    energy_logs.write(recording_of(path, 1), head, seen)
    (run,) = read_runs(tmp_path)
    assert (run.state, run.seconds, run.cpu_s, run.energy_j) == ("killed", None, 3.0, 30.0)
    assert run.flags == ("partial",)


def test_a_run_that_was_killed_at_once_is_unknown(tmp_path):
    path = ledger(tmp_path, run_line(cpu_before_s=0.004))
    assert states(tmp_path) == [("killed", None, "none")]
    seen = [{"t": energy_logs.ns(second), "cpu_s": 0.0} for second in (1, 2)]
    energy_logs.write(recording_of(path, 1), energy_logs.header(0, gpus=0), seen)
    assert states(tmp_path) == [("killed", None, "none")], "less than a step is not nothing"


def gpu_run(folder, rule, at, watts=200.0, ended=True):
    lines = [run_line(at=at, rule=rule, gpus=[uuid(0)]), *([end_line(s=10.0)] if ended else [])]
    path = ledger(folder, *lines, rule=rule)
    head, last = energy_logs.header(at, gpus=1), energy_logs.end(at + 10)
    samples = energy_logs.samples(at, at + 10, watts)
    energy_logs.write(recording_of(path, 1), head, samples, last)


def test_a_job_alone_on_its_gpu_is_measured(tmp_path):
    gpu_run(tmp_path, "first", 0)
    gpu_run(tmp_path, "second", 20)
    found = read_runs(tmp_path)
    assert [run.source for run in found] == ["nvml_counter", "nvml_counter"]
    assert [run.energy_j for run in found] == pytest.approx([2000, 2000], rel=0.02)
    assert [run.devices for run in found] == [[uuid(0)], [uuid(0)]]


def test_jobs_that_share_a_gpu_cannot_be_told_apart(tmp_path):
    gpu_run(tmp_path, "first", 0)
    gpu_run(tmp_path, "second", 5)
    gpu_run(tmp_path, "third", 30)
    found = read_runs(tmp_path)
    assert [run.energy_j is None for run in found] == [True, True, False]
    assert found[0].flags == ("shared",) and "same GPU" in found[0].basis


def test_a_killed_run_shares_its_gpu_up_to_the_end_of_its_recording(tmp_path):
    gpu_run(tmp_path, "died", 0, ended=False)
    gpu_run(tmp_path, "later", 20)
    died, later = read_runs(tmp_path)
    assert (died.state, later.state) == ("killed", "kept")
    assert [run.source for run in (died, later)] == ["nvml_counter", "nvml_counter"]
    gpu_run(tmp_path, "beside", 5)
    assert [run.flags[0] for run in read_runs(tmp_path)[:2]] == ["shared", "shared"]


def test_a_gpu_that_was_not_read_is_never_estimated(tmp_path):
    ledger(tmp_path, run_line(gpu_problem="NVML shows none here"), end_line())
    (run,) = read_runs(tmp_path)
    assert (run.energy_j, run.basis, run.devices) == (None, "NVML shows none here", ["GPUs"])


@pytest.mark.parametrize(
    ("resources", "asks"),
    [
        ({"gpu": 1}, True),
        ({"nvidia_gpu": 2}, True),
        ({"gres": "gpu:a100:1"}, True),
        ({"slurm_extra": "'--gpus=1'"}, True),
        ({"gpu_model": "a100"}, True),
        ({"gpu": 0}, False),
        ({"gpu": ""}, False),
        ({"mem_mb": 10, "tmpdir": "/scratch/gpu", "_cores": 1}, False),
    ],
)
def test_which_jobs_ask_for_gpus(resources, asks, monkeypatch):
    monkeypatch.setattr("longwatt.gpus.listing.list_devices", lambda: [])
    assert (gpus_of(resources)[1] is not None) == asks


def test_ledgers_of_different_jobs_differ_whatever_their_names(tmp_path):
    odd = ["a/b", "a_b", "a b", "ü" * 300, "..", ""]
    paths = {ledger_path(tmp_path, facts(n=name)) for name in odd}
    assert len(paths) == len(odd)
    assert all(len(path.name) < 120 and path.parent.name == "burn" for path in paths)


def test_a_sum_with_an_unknown_part_is_unknown_and_says_how_much_is_known(tmp_path):
    ledger(tmp_path, run_line(), end_line(cpu_s=2.0))
    ledger(tmp_path, run_line(rule="other"), end_line(cpu_s=None), rule="other")
    whole = summed(read_runs(tmp_path))
    assert (whole.runs, whole.known, whole.known_j, whole.energy_j) == (2, 1, 20.0, None)
    assert (whole.known_cpu_s, whole.cpu_s, whole.seconds) == (2.0, None, 4.0)
    assert summed([]).known_s is None


def test_no_unknown_of_a_killed_run_is_told_as_nothing(tmp_path, capsys):
    ledger(tmp_path, run_line())
    assert write_page([str(tmp_path), "--grams-per-kwh", "50"]) == 0
    (row,) = rows(tmp_path / "rules.csv")
    assert {row[name] for name in ("s", "cpu_s", "energy_j", "known_energy_j")} == {"NA"}
    page = (tmp_path / "energy.html").read_text()
    assert "An unknown energy in 1 run of 1 job, an unknown CPU time (1 unknown)" in page
    assert "The energy of 1 run that failed or died is unknown." in page
    assert not re.search(r">(NA or more|NA kWh|0\.0+|at least NA)", page)
    ledger(tmp_path, run_line(rule="other", at=3), end_line(cpu_s=36.0), rule="other")
    assert write_page([str(tmp_path)]) == 0
    assert "at least 36.0 s of CPU time" in (tmp_path / "energy.html").read_text()
    assert energy(["jobs", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["seconds"] for one in found] == [None, 2.0]


def test_energy_of_jobs_that_still_run_has_its_bar(tmp_path):
    path = ledger(tmp_path, run_line(snakemake=identified(os.getpid())))
    seen = [{"t": energy_logs.ns(second), "cpu_s": float(second)} for second in (1, 2, 3)]
    energy_logs.write(recording_of(path, 1), energy_logs.header(0, gpus=0), seen)
    runs = read_runs(tmp_path)
    assert runs[0].state == "running"
    bars = draw_rules(runs).axes[0].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(runs[0].energy_kwh)


def test_the_page_and_tables(tmp_path):
    ledger(tmp_path, run_line(1), end_line(1, status=1), run_line(2, at=5), end_line(2, cpu_s=36.0))
    odd = "<b>&"
    ledger(tmp_path, run_line(rule=odd, at=9), end_line(cpu_s=None), rule="odd")
    assert write_page([str(tmp_path), "--grams-per-kwh", "500"]) == 0
    page = (tmp_path / "energy.html").read_text()
    assert "at least 0.000104 kWh in 3 runs of 2 jobs" in page and "estimated" in page
    assert "4.17e-06 kWh of it went to 1 run that failed" in page
    assert "&lt;b&gt;&amp;" in page and odd not in page
    burn, other = rows(tmp_path / "rules.csv")
    assert (burn["kept_energy_j"], burn["failed_energy_j"]) == ("360.0", "15.0")
    assert float(burn["gco2e"]) == pytest.approx(375 / 3.6e6 * 500)
    assert other["energy_j"] == "NA" == other["gco2e"]
    jobs = rows(tmp_path / "jobs.csv")
    assert [row["state"] for row in jobs] == ["failed", "kept", "kept"]
    assert [row["energy_j"] for row in jobs] == ["15.0", "360.0", "NA"]
    assert (tmp_path / "energy.svg").exists()


def test_a_workflow_whose_results_were_there_before_gets_a_page_that_says_so(tmp_path):
    assert write_page([str(tmp_path)]) == 0
    assert "No job has run since" in (tmp_path / "energy.html").read_text()
    assert rows(tmp_path / "jobs.csv") == []


def test_the_command_lists_runs_and_says_what_is_missing(tmp_path, capsys):
    assert energy(["jobs", str(tmp_path)]) == 2
    assert "meter(workflow)" in capsys.readouterr().err
    ledger(tmp_path, run_line(), end_line())
    assert energy(["jobs", str(tmp_path)]) == 0
    assert "estimated" in capsys.readouterr().out
    assert energy(["jobs", str(tmp_path), "--json", "--watts-per-core", "none"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["energy_j"] is None and row["source"] == "none"


def workflow(default_target=None, rules=()):
    return types.SimpleNamespace(default_target=default_target, rules=list(rules))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"watts_per_core": 0}, "give auto, none or watts above 0"),
        ({"watts_per_core": "lots"}, "'lots'"),
        ({"watts_per_core": float("nan")}, "nan"),
        ({"grams_per_kwh": -1}, "grams of CO2e"),
        ({"folder": ""}, "give the name of a folder"),
        ({"folder": "{rule}"}, "without braces"),
        ({"folder": None}, "give the name of a folder"),
        ({"folder": Path("energy")}, "at the Snakefile's end"),
        ({}, "at the Snakefile's end"),
    ],
)
def test_what_meter_refuses(given, message, monkeypatch):
    monkeypatch.setattr(hook, "settings", None)
    with pytest.raises(hook.MeterError, match=message):
        hook.meter(workflow(), **given)
    assert hook.settings is None


def test_the_page_is_written_by_a_command_whatever_the_folder():
    for name in ("my energy's", "energy"):
        choices = hook.MeterSettings(Path(name).resolve(), hook._folder_name(Path(name)), 10, 5)
        assert shlex.split(choices.command)[3:] == [
            name, "--watts-per-core", "10", "--grams-per-kwh", "5",
        ]  # fmt: skip


def test_the_line_of_the_guide_is_the_one_that_the_package_offers():
    from longwatt.energy import meter

    assert meter is hook.meter
    assert Path(hook.ENERGY_RULES).is_file()
