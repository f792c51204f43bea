"""A project in a temporary folder, and Snakemake run on it for real."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench.project import copy_project

from tests import processors
from tests.conftest import ROOT, TINY_STUDY


@dataclass
class Project:
    """A copy of the workflow with a tiny study of its own."""

    path: Path

    @classmethod
    def create(cls, path: Path, study: str = TINY_STUDY) -> Project:
        copy_project(ROOT, path)
        project = cls(path)
        project.study.write_text(study)
        # Machines that run these tests differ: what is not measured is unknown on all of them.
        project.edit("config.yaml", "watts_per_core: auto", "watts_per_core: none")
        (path / "cpuinfo").write_text(processors.EPYC)
        return project

    def copy(self, path: Path) -> Project:
        """Everything as it is, times included."""
        shutil.copytree(self.path, path, symlinks=True)
        return Project(path)

    @property
    def study(self) -> Path:
        return self.path / "studies" / "tiny.yaml"

    @property
    def results(self) -> Path:
        return self.path / "results" / "tiny"

    def cell(self, length: int) -> Path:
        return self.results / f"needle/led/{length}/cpu/generated/seed1"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")
        }
        return {**kept, "LONGWATT_CPUINFO": str(self.path / "cpuinfo"), **more}

    def command(self, *arguments: str, study: str = "tiny") -> list[str]:
        common = ["--cores", "2", "--config", f"study={study}"]
        return [sys.executable, "-m", "snakemake", *arguments, *common]

    def run(
        self,
        *arguments: str,
        ok: bool = True,
        study: str = "tiny",
        before: Callable[[], None] | None = None,
        **env: str,
    ) -> str:
        """Run Snakemake, limited by `before` in the new process; return all that it prints."""
        return self._run(self.command(*arguments, study=study), ok, preexec_fn=before, **env)

    def _run(self, command: list[str], ok: bool, preexec_fn: Any = None, **env: str) -> str:
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "preexec_fn": preexec_fn}
        variables = self.environment(**env)
        done = subprocess.run(command, cwd=self.path, env=variables, text=True, **how)
        assert (done.returncode == 0) == ok, done.stdout[-6000:]
        return done.stdout

    def run_compare(self, against: str, ok: bool = True) -> str:
        """Set the study beside another and return the output."""
        # `--config` takes all words after it, so the other study follows this one's name there.
        return self._run([*self.command("compare"), f"against={against}"], ok)

    def start(self) -> subprocess.Popen[str]:
        """Start Snakemake as the head of a group of processes, its output in run.log."""
        with (self.path / "run.log").open("a") as log:
            how = {"stdout": log, "stderr": log, "text": True, "start_new_session": True}
            return subprocess.Popen(self.command(), cwd=self.path, env=self.environment(), **how)

    def would_run(self, *arguments: str) -> dict[str, int]:
        """How often each rule would run now."""
        said = self.run(*arguments, "-n")
        stats = re.search(
            r"Job stats:\n[^\n]*\n-+[^\n]*\n(.*?)^total", said, flags=re.DOTALL | re.MULTILINE
        )
        rows = (line.split() for line in stats.group(1).splitlines()) if stats else ()
        return {name: int(count) for name, count in rows if name != "all"}

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.path / name
        text = path.read_text()
        assert old in text, (name, old)
        path.write_text(text.replace(old, new, 1))

    def logs(self, length: int) -> Path:
        return self.path / "logs" / "tiny" / f"needle/led/{length}/cpu/generated/seed1"


def processes_of(text: str) -> list[int]:
    """Live processes whose command line holds a text."""
    living = (
        (each.pid, " ".join(each.info["cmdline"] or ()))
        for each in psutil.process_iter(["cmdline"])
    )
    return [pid for pid, command in living if text in command and pid != os.getpid()]


def works_in(pid: int, folder: Path) -> bool:
    """Check whether a process lives and has a folder as its working directory."""
    try:
        return Path(psutil.Process(pid).cwd()) == folder
    except psutil.NoSuchProcess:
        return False


def send(number: signal.Signals, pids: list[int]) -> None:
    """Send a signal to processes, those that have ended since left out."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A tiny study that has run to its end; not to be changed, only copied."""
    project = Project.create(tmp_path_factory.mktemp("finished") / "project")
    project.run()
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A finished study to change."""
    return finished.copy(tmp_path / "project")
