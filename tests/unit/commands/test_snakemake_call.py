"""How commands call Snakemake: its arguments, its status, and signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longwatt import shipped
from longwatt.__main__ import run
from longwatt.commands.snakemake_call import arguments_for, call, split_config
from longwatt.processes import identified


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHIPPED = ["--snakefile", str(shipped.ROOT / "Snakefile")]


def test_a_folder_without_a_workflow_uses_the_shipped_one(folder):
    assert arguments_for([], None, [], "all") == [*SHIPPED, "--cores", "all"]


@pytest.mark.parametrize("own", ["Snakefile", "workflow/Snakefile"])
def test_a_folder_with_a_workflow_uses_its_own(folder, own):
    (folder / own).parent.mkdir(exist_ok=True)
    (folder / own).touch()
    assert arguments_for(["plan"], "mine", [], "1") == [
        "plan", "--cores", "1", "--config", "study=mine"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [["--cores", "2"], ["-c2"], ["-c", "2"], ["--cores=2"], ["-j", "4"], ["--profile", "x"]],
)
def test_cores_that_were_given_stand(folder, given):
    assert arguments_for([], None, given, "all") == [*SHIPPED, *given]


def test_a_snakefile_that_was_given_stands(folder):
    assert "--snakefile" not in arguments_for([], None, ["-s", "other.smk"], "all")
    assert arguments_for([], None, ["--snakefile=o.smk"], "1")[0] == "--cores"


def test_settings_come_last_behind_the_study(folder):
    """Snakemake would read words behind `--config` as settings."""
    given = ["--config", "watts_per_core=5", "pue=1.2", "-n", "--resources", "gpu=8"]
    assert arguments_for([], "demo", given, "all") == [
        *SHIPPED, "--cores", "all", "-n", "--resources", "gpu=8",
        "--config", "study=demo", "watts_per_core=5", "pue=1.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "rest", "settings"),
    [
        (["--config=a=1"], [], ["a=1"]),
        (["-C", "a=1", "--config", "b=2"], [], ["a=1", "b=2"]),
        (["--config", "a=-1", "-n", "results/x"], ["-n", "results/x"], ["a=-1"]),
        (["--configfile", "c.yaml"], ["--configfile", "c.yaml"], []),
        ([], [], []),
    ],
)
def test_settings_are_told_from_other_options(given, rest, settings):
    assert split_config(given) == (rest, settings)


def stand_in(folder: Path, monkeypatch, body: str) -> None:
    """Put a Snakemake of a few lines first on the path."""
    package = folder / "lib" / "snakemake"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(folder / "lib"))


def test_snakemakes_status_is_the_commands_and_its_line_is_printed(folder, monkeypatch, capfd):
    stand_in(folder, monkeypatch, "import sys; print(sys.argv[1:]); sys.exit(3)")
    assert call(["plan"], "my study", ["--quiet"], cores="1") == 3
    out, err = capfd.readouterr()
    assert "'--config', 'study=my study'" in out
    assert err.startswith("$ snakemake plan ") and err.endswith("--config 'study=my study'\n")


def test_a_killed_snakemake_ends_as_a_shell_says_it(folder, monkeypatch):
    stand_in(folder, monkeypatch, "import os; os.kill(os.getpid(), 9)")
    assert call() == 137


def test_a_run_that_another_keeps_out_names_it(folder, monkeypatch, capfd):
    stand_in(folder, monkeypatch, "import sys; sys.exit(1)")
    assert run(["run", "--study", "demo"]) == 1
    assert "already" not in capfd.readouterr().err
    noted = folder / "logs/demo/run.json"
    noted.parent.mkdir(parents=True)
    noted.write_text(json.dumps({"run": identified(os.getpid()), "pid": os.getpid()}))
    assert run(["run", "--study", "demo"]) == 1
    assert f"process {os.getpid()} runs demo in this folder already" in capfd.readouterr().err


WAITING = """
import signal, sys, time
def end(number, frame):
    print(f"ended by {number}", flush=True)
    time.sleep(0.2)
    sys.exit(1)
signal.signal(signal.NAME, end)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_snakemake_may_finish_what_it_does_on_a_signal(folder, monkeypatch, name):
    """A terminal sends Ctrl-C to both processes. Other signals reach ours alone."""
    stand_in(folder, monkeypatch, WAITING.replace("NAME", name))
    number = getattr(signal, name)
    with subprocess.Popen(
        [sys.executable, "-m", "longwatt", "plan", "--study", "demo"],
        stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        if name == "SIGINT":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.stdout.read() == f"ended by {int(number)}\n"
        assert process.wait() == 1
