"""A worker's start and end: no collector while it imports, nothing taken apart at its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longwatt.jobs.start import put_off

WORKER = """
import atexit, gc, json, sys, tempfile
from longwatt.jobs.worker import run_worker

collected_while_imported = gc.isenabled()
atexit.register(print, "let go")
held = tempfile.TemporaryDirectory()


class Told:
    def __del__(self):
        print("taken apart")


told = Told()


def work(spec):
    print(f"{collected_while_imported} {gc.isenabled()} {gc.get_freeze_count() > 10_000}")
    print(sys.argv[1:], held.name)
    if spec.settings["fail"]:
        raise ValueError("no luck")


if __name__ == "__main__":
    run_worker(work)
"""
SPEC = """{"settings": {"fail": %s, "budget": {"gpus": 0}}, "paths": {}, "identity": {},
           "provenance": {}, "error": "%s/error.json"}"""


@pytest.fixture
def run(tmp_path):
    """Run a worker that fails or not."""
    (tmp_path / "stand_in.py").write_text(WORKER)

    def start(fail: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "it.spec").write_text(SPEC % (fail, tmp_path))
        paths = os.pathsep.join([str(tmp_path), *sys.path])
        return subprocess.run(
            [sys.executable, "-m", "longwatt.jobs.start", "stand_in", str(tmp_path / "it.spec")],
            env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
        )  # fmt: skip

    return start


def test_a_worker_imports_without_the_collector_and_works_with_it(run, tmp_path):
    done = run("false")
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "False True True"
    assert second.startswith(str([str(tmp_path / "it.spec")]))


def test_a_worker_ends_without_being_taken_apart_but_leaves_no_files(run):
    *_, second, last = run("false").stdout.splitlines()
    assert last == "let go"
    assert not Path(second.split()[-1]).exists(), "its temporary folder is removed"


def test_a_worker_that_fails_ends_as_ever(run, tmp_path):
    done = run("true")
    assert done.returncode == 1 and "ValueError: no luck" in done.stderr
    assert "no luck" in (tmp_path / "error-0.json").read_text()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library that says when it is loaded."""
    name = "a_library_to_put_off"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("print('loaded')\nvalue = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    put_off(name)
    yield name
    del sys.modules[name]


def test_a_library_that_is_put_off_is_loaded_when_it_is_used(library, capsys):
    module = __import__(library)
    assert capsys.readouterr().out == ""
    assert module.value == 7 and capsys.readouterr().out == "loaded\n"
    assert not hasattr(module, "absent") and capsys.readouterr().out == ""


def test_a_library_that_is_absent_or_loaded_stays_so(library):
    put_off("a_library_that_is_nowhere")
    assert "a_library_that_is_nowhere" not in sys.modules
    before = sys.modules["json"] if "json" in sys.modules else __import__("json")
    put_off("json")
    assert sys.modules["json"] is before
