"""A study watched in a terminal and from another one, while it runs and after it was killed."""

import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from fcntl import ioctl

import pytest

from tests.conftest import TINY_STUDY, wait_for
from tests.workflow.conftest import Project, processes_of, send, works_in

CALM = TINY_STUDY.replace("max_steps: 8", "max_steps: 60").replace(
    "every_steps: 4", "every_steps: 20"
)
ESCAPES = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")


class Terminal:
    """A terminal of 100 columns that keeps what is written to it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.written = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self.written += os.read(self._master, 65536)
            except OSError:
                return

    @property
    def lines(self) -> list[str]:
        """All lines ever written, each as it was drawn."""
        plain = ESCAPES.sub(b"", self.written).decode(errors="replace")
        return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]

    def shows(self, pattern: str) -> bool:
        return any(re.fullmatch(pattern, line) for line in self.lines)


def start_in(terminal: Terminal, project: Project) -> subprocess.Popen[bytes]:
    how = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
    variables = project.environment(TERM="xterm")
    return subprocess.Popen(
        project.command(), cwd=project.path, env=variables, start_new_session=True, **how
    )


def status_of(project: Project) -> dict:
    command = [sys.executable, "-m", "longwatt", "status", "--study", "tiny", "--json"]
    done = subprocess.run(
        command, cwd=project.path, env=project.environment(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.long
def test_a_run_shows_bars_in_a_terminal_and_its_status_in_another_one(tmp_path):
    project, terminal = Project.create(tmp_path / "project", CALM), Terminal()
    running = start_in(terminal, project)
    wait_for(lambda: terminal.shows(r"needle/led/64 +[━─]+ step \d+/60 .*≤ \d+ s"), "a bar", 120)
    status = status_of(project)
    assert status["state"] == "running" and status["run"]["pid"] == running.pid
    assert {job["state"] for job in status["jobs"]} == {"running"}
    assert status["left"]["finetune"]["left"] == 2 and status["left_s"] > 0
    assert running.wait(240) == 0
    wait_for(lambda: terminal.shows(r"Elapsed time: .*"), "the last line")
    assert terminal.shows(r"tiny +[━─]+ \d+ of \d+ jobs, end estimated +≈ \d+ s")
    # What Snakemake and workers say is all there, each line whole and on a line of its own.
    for length in (32, 64):
        name = f"finetune needle/led/{length}/cpu/generated/seed1"
        said = (project.logs(length) / "finetune.log").read_text().splitlines()
        steps = [line for line in said if line.startswith(f"{name}: step")]
        assert steps and set(steps) <= set(terminal.lines)
    assert sum("steps (100%) done" in line for line in terminal.lines) == 1
    status = status_of(project)
    assert status["state"] == "finished" and status["jobs"] == [] and status["left_s"] is None


@pytest.mark.long
def test_ctrl_c_saves_and_the_status_afterwards_is_honest(tmp_path):
    slow = CALM.replace("max_steps: 60", "max_steps: 6000").replace("every_s: 0", "every_s: 999")
    slow = slow.replace("seq_lens: [32, 64]", "seq_lens: [64]")
    # Random weights score 0 for so long that a training would stop early, within a second.
    slow = slow.replace("every_steps: 20", "every_steps: 6000")
    project, terminal = Project.create(tmp_path / "project", slow), Terminal()
    running = start_in(terminal, project)
    wait_for(lambda: terminal.shows(r"needle/led/64.* step [1-9]\d*/6000 .*"), "a step", 120)
    os.killpg(running.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group
    assert running.wait(60) != 0
    jobs = status_of(project)["jobs"]
    assert jobs and {job["state"] for job in jobs} == {"stopped"}
    for job in jobs:
        folder = project.results / job["cell"] / "work/checkpoints"
        assert [path.name for path in folder.iterdir()] == [f"checkpoint-{job['done']}"]
    assert termios.tcgetattr(terminal.slave)[3] & termios.ECHO, "the terminal is as it was"

    running = start_in(terminal, project)
    wait_for(lambda: terminal.shows(r".*attempt 2 resumes at step \d+"), "the next attempt", 120)
    running.kill()
    running.wait()
    trainings = [
        pid for pid in processes_of("longwatt.training.finetune") if works_in(pid, project.path)
    ]
    launchers = [pid for pid in processes_of("finetune.py") if works_in(pid, project.path)]
    send(signal.SIGKILL, [*launchers, *trainings])
    wait_for(lambda: status_of(project)["state"] == "stopped", "the killed to be gone")
    status = status_of(project)
    assert status["run"]["alive"] is False
    assert "gone" in {job["state"] for job in status["jobs"]}
