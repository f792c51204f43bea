"""The recorder as a process: its log when it, its job or both are killed, frozen or out of disk."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from longwatt.energy.reduction.reduce import summarize_log
from longwatt.processes import children
from tests.conftest import wait_for
from tests.nvml import AVERAGE, FakeGpu, uuid

STEADY = FakeGpu(high=300, **AVERAGE)
METER = [sys.executable, "-m", "longwatt.energy"]
NO_IDLE = ("--idle-s", "0")


class Metered:
    """A command under `python -m longwatt.energy record` on a machine with stand-in GPUs."""

    def __init__(self, machine, folder: Path) -> None:
        self.machine = machine
        self.out = folder / "energy.jsonl"
        self.environment = machine.environment() | {"LONGWATT_LEASE_DIR": str(folder / "leases")}

    def command(self, *command: str, options: tuple[str, ...] = NO_IDLE) -> list[str]:
        return [*METER, "record", "--out", str(self.out), *options, "--", *command]

    def run(
        self, *command: str, options: tuple[str, ...] = NO_IDLE, **more
    ) -> subprocess.CompletedProcess:
        more["env"] = self.environment | more.get("env", {})
        given = self.command(*command, options=options)
        return subprocess.run(given, capture_output=True, text=True, timeout=60, **more)

    def start(
        self, *command: str, options: tuple[str, ...] = ("--idle-s", "0"), **more
    ) -> subprocess.Popen:
        arguments = self.command(*command, options=options)
        process = subprocess.Popen(arguments, env=self.environment, text=True, **more)
        began = lambda: self.out.exists() and '"mark":"run"' in self.out.read_text()  # noqa: E731
        wait_for(began, "the command to start")
        wait_for(lambda: len(children(process.pid)) == 2, "it and its recorder")
        time.sleep(0.3)  # by then the recorder knows whom to watch
        return process

    def lines(self) -> list[dict]:
        found = []
        for text in self.out.read_text().splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:
                continue
        return found

    def end(self) -> dict | None:
        return next((line for line in self.lines() if "end" in line), None)

    def recorder(self) -> int:
        return int(self.lines()[0]["segment"].split("-")[0])

    def summary(self) -> dict:
        return summarize_log([self.out])


@pytest.fixture
def metered(machine, tmp_path):
    machine.has([STEADY, FakeGpu(uuid=uuid(1), high=200, **AVERAGE)])
    return Metered(machine, tmp_path)


def child_of(process: subprocess.Popen, recorder: int) -> int:
    """The metered command: the child that is not the recorder."""
    return next(pid for pid in children(process.pid) if pid != recorder)


def test_a_command_is_metered_and_its_phases_are_its_own(metered):
    script = (
        "import time; from longwatt.energy import mark, phase\n"
        "time.sleep(.2)\n"
        "with phase('outer'):\n"
        "    time.sleep(.4)\n"
        "    with phase('inner', step=3): time.sleep(.3)\n"
        "    time.sleep(.2)\n"
        "mark('last'); time.sleep(.3)\n"
    )
    done = metered.run(sys.executable, "-c", script, options=("--idle-s", "0.5", "--gpus", uuid(0)))
    assert done.returncode == 0, done.stderr
    phases = [(line["mark"], line.get("step")) for line in metered.lines() if "mark" in line]
    names = [name for name, _ in phases]
    assert names == ["idle_before", "run", "outer", "inner", "outer", "run", "last", "idle_after"]
    assert ("inner", 3) in phases
    found = metered.summary()
    assert found["phases"]["outer"]["duration_s"] == pytest.approx(0.6, abs=0.3)
    assert found["energy_j"] == pytest.approx(300 * found["duration_s"], abs=90)
    assert list(found["gpus"]) == [uuid(0)] and found["problems"] == []


def test_a_shell_marks_phases_with_a_command(metered):
    marking = f"{sys.executable} -m longwatt.energy mark"
    done = metered.run("sh", "-c", f"{marking} load && sleep .2 && {marking} work && sleep .3")
    assert done.returncode == 0 and {"load", "work"} <= set(metered.summary()["phases"])


def test_marks_outside_a_metered_job_do_nothing_from_python_and_are_refused_in_a_shell(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGWATT_ENERGY")}
    code = "from longwatt.energy import phase\nwith phase('x'): print('worked')"
    given = {"env": environment, "capture_output": True, "text": True, "cwd": tmp_path}
    done = subprocess.run([sys.executable, "-c", code], **given)
    assert (done.stdout, done.stderr) == ("worked\n", "") and not list(tmp_path.iterdir())
    done = subprocess.run([*METER, "mark", "x"], **given)
    assert done.returncode == 2 and "no energy log here to mark" in done.stderr


def test_only_the_first_process_of_a_launcher_marks(metered):
    code = "from longwatt.energy import mark; mark('mine')"
    assert metered.run(sys.executable, "-c", code, env={"RANK": "1"}).returncode == 0
    assert "mine" not in metered.summary()["phases"]


def test_the_job_killed(metered):
    process = metered.start("sleep", "60")
    time.sleep(1)
    os.kill(child_of(process, metered.recorder()), signal.SIGKILL)
    assert process.wait(20) == 128 + signal.SIGKILL
    assert (metered.end()["end"], metered.end()["status"]) == ("failed", -signal.SIGKILL)
    assert metered.summary()["energy_source"] == "nvml_counter"


def test_the_recorder_killed(metered):
    script = f"sleep 3; {sys.executable} -m longwatt.energy mark late; sleep 1.5"
    process = metered.start("sh", "-c", script)
    os.kill(metered.recorder(), signal.SIGKILL)
    assert process.wait(30) == 0, "the command goes on"
    found = metered.summary()
    assert any("segment 1 has no end" in problem for problem in found["problems"])
    # Counters at the marks are enough for every phase that another one ends.
    run = found["phases"]["run"]
    assert run["energy_j"] == pytest.approx(500 * run["duration_s"], rel=0.1)
    assert run["duration_s"] > 2.5


def test_the_starter_killed_the_command_is_metered_to_its_end(metered):
    process = metered.start("sleep", "3")
    recorder = metered.recorder()
    child = child_of(process, recorder)
    process.kill()
    process.wait()
    assert psutil.pid_exists(child)
    wait_for(lambda: metered.end() is not None, "the recorder to end", 20)
    assert metered.end()["end"] == "died"
    assert metered.summary()["duration_s"] == pytest.approx(3, abs=1.5)
    assert any("killed without a word" in problem for problem in metered.summary()["problems"])


def test_both_killed(metered):
    process = metered.start("sleep", "60")
    time.sleep(2.2)
    for pid in (child_of(process, metered.recorder()), metered.recorder(), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    found = metered.summary()
    assert "segment 1 has no end" in found["problems"][0]
    assert found["energy_j"] == pytest.approx(500 * found["duration_s"], rel=0.15)
    assert found["duration_s"] > 2
    done = metered.run("sleep", "0.5")
    assert done.returncode == 0, "the next run appends a segment"
    assert len([line for line in metered.lines() if "segment" in line]) == 2
    assert metered.summary()["energy_j"] > found["energy_j"]


def test_a_recorder_frozen_for_two_seconds(metered):
    process = metered.start("sleep", "4")
    recorder = metered.recorder()
    os.kill(recorder, signal.SIGSTOP)
    time.sleep(2)
    os.kill(recorder, signal.SIGCONT)
    assert process.wait(30) == 0
    found = metered.summary()
    assert found["largest_gap_s"] >= 1.9 and "gap" in found["flags"]
    assert found["energy_j"] == pytest.approx(500 * found["duration_s"], rel=0.05)


def test_a_terminal_s_ctrl_c_ends_the_command_and_not_its_meter(metered):
    process = metered.start("sleep", "60", start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everyone in the group
    assert process.wait(20) == 128 + signal.SIGINT
    assert metered.end()["status"] == -signal.SIGINT and metered.summary()["problems"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_passed_on(metered, number):
    script = f"trap 'echo told; exit 7' {number.value}; while :; do sleep 0.05; done"
    process = metered.start("bash", "-c", script, stdout=subprocess.PIPE, start_new_session=True)
    time.sleep(0.3)
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (7, "told\n")
    assert metered.end()["status"] == 7


def test_exit_codes_are_the_command_s(metered):
    assert metered.run("sh", "-c", "exit 3").returncode == 3
    missing = metered.run("no-such-command")
    assert missing.returncode == 127 and "no-such-command: No such file" in missing.stderr
    assert metered.run("/").returncode == 126


def limit_files(size: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_loses_lines_and_not_the_log_or_the_command(metered):
    done = metered.run("sh", "-c", "sleep 3; exit 5", preexec_fn=limit_files(3000))
    assert done.returncode == 5, done.stderr
    found = metered.summary()
    assert found["duration_s"] > 0 and any("has no end" in problem for problem in found["problems"])


def test_a_disk_that_takes_lines_again_is_told_what_is_missing(tmp_path, monkeypatch):
    from longwatt.energy.log import LogWriter

    log = LogWriter(tmp_path / "energy.jsonl")
    log.write({"segment": "x", "t": 0})
    original, takes = os.write, [5, 0]  # the disk takes a little, then nothing, then all

    def write(descriptor, data):
        if not takes:
            return original(descriptor, data)
        room = takes.pop(0)
        if not room:
            raise OSError(28, "No space left on device")
        return original(descriptor, data[:room])

    monkeypatch.setattr(os, "write", write)
    for time_ns in (1, 2, 3):
        log.write({"t": time_ns})
    log.close()
    text = (tmp_path / "energy.jsonl").read_text().splitlines()
    assert json.loads(text[-1]) == {"lost": 2, "why": "No space left on device"}
    assert json.loads(text[-2]) == {"t": 3}


def test_a_header_that_the_disk_did_not_take_is_written_again(machine, tmp_path, monkeypatch):
    from longwatt.energy.recorder import Order, Recorder

    takes = [False, True]
    original = os.write

    def write(descriptor, data):
        if takes and not takes.pop(0):
            raise OSError(28, "No space left on device")
        return original(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    recorder = Recorder(Order(str(tmp_path / "energy.jsonl")))
    recorder.sample()
    lines = [json.loads(line) for line in (tmp_path / "energy.jsonl").read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["segment", "lost", "t"]


def test_an_unwritable_path_is_refused_before_anything_runs(metered, tmp_path):
    (tmp_path / "file").write_text("")
    metered.out = tmp_path / "file" / "energy.jsonl"
    done = metered.run("touch", str(tmp_path / "ran"))
    assert done.returncode == 2 and f"{metered.out} cannot be written" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_two_recorders_never_write_one_log(metered):
    process = metered.start("sleep", "2")
    done = metered.run("true")
    assert done.returncode == 2 and "is being written by another recorder" in done.stderr
    assert process.wait(20) == 0 and metered.summary()["problems"] == []


# The choice of GPUs: CUDA_VISIBLE_DEVICES and --gpus.


def gpus_of(metered, visible: str | None, chosen: str = "visible") -> list[str]:
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = metered.run("true", options=(*NO_IDLE, "--gpus", chosen), env=env)
    assert done.returncode == 0, done.stderr
    header = [line for line in metered.lines() if "segment" in line][-1]
    return [gpu["uuid"] for gpu in header["gpus"]]


CHOICES = {None: [0, 1], "1": [1], "1,0": [1, 0], uuid(1): [1], uuid(1)[:12]: [1], "": [], "-1": []}


@pytest.mark.parametrize(("visible", "expected"), CHOICES.items())
def test_visible_gpus_are_those_of_cuda_visible_devices(metered, visible, expected):
    assert gpus_of(metered, visible) == [uuid(n) for n in expected]


def test_all_gpus_and_named_ones_whatever_is_visible(metered):
    assert gpus_of(metered, "", "all") == [uuid(0), uuid(1)]
    assert gpus_of(metered, "0", uuid(1)) == [uuid(1)]


@pytest.mark.parametrize(
    ("visible", "chosen", "message"),
    [
        (None, "GPU-nowhere", "--gpus names GPU-nowhere, which is not here; here: 0 = GPU-0000000"),
        (None, "7", "--gpus names GPU 7, which is not here"),
        ("7", "visible", "CUDA_VISIBLE_DEVICES names GPU 7, which is not here"),
        ("GPU-nowhere", "visible", "CUDA_VISIBLE_DEVICES names GPU-nowhere, which is not here"),
        ("0,0", "visible", "twice"),
    ],
)
def test_gpus_that_are_not_here_are_refused_before_anything_runs(
    metered, tmp_path, visible, chosen, message
):
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = metered.run("touch", str(tmp_path / "ran"), options=("--gpus", chosen), env=env)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "ran").exists() and not metered.out.exists()


def test_mig_is_refused_before_anything_runs(metered, machine, tmp_path):
    machine.has([FakeGpu(mig=1)])
    done = metered.run("touch", str(tmp_path / "ran"))
    assert done.returncode == 2 and "no slice can be billed for" in done.stderr
    done = metered.run("touch", str(tmp_path / "ran"), env={"CUDA_VISIBLE_DEVICES": "MIG-12"})
    assert done.returncode == 2 and "MIG-12" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not metered.out.exists(), "nothing is left of what was refused"


def test_without_nvml_the_time_is_logged_and_the_energy_is_na(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CUDA")}
    environment["LONGWATT_POWERCAP"] = str(tmp_path)
    out = tmp_path / "energy.jsonl"
    command = [*METER, "record", "--out", str(out), "--", "sleep", "0.3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if '"gpus":[]' not in out.read_text():
        pytest.skip("this machine has a GPU")
    assert "no energy is measured here, only time: no RAPL counter" in done.stderr
    found = summarize_log([out])
    assert (found["energy_j"], found["energy_source"]) == (None, "none")
    assert found["duration_s"] > 0.2


def test_gpus_that_nvml_does_not_show_are_never_taken_for_processors(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    command = [*METER, "record", "--out", str(tmp_path / "e.jsonl"), "--", "true"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert done.returncode == 2
    assert "CUDA_VISIBLE_DEVICES=0 names GPUs, but NVIDIA's library" in done.stderr


def test_what_a_library_prints_is_no_answer_and_never_in_the_command_s_output(metered, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('hello from a library')\n")
    done = metered.run("echo", "mine", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0 and metered.end()["end"] == "completed"
    # Once by the command line's own Python, never the recorder's.
    assert done.stdout == "hello from a library\nmine\n"


def test_a_recorder_that_says_nothing_is_given_up(metered, tmp_path, monkeypatch):
    from longwatt.energy import sidecar
    from longwatt.energy.recorder import Order

    monkeypatch.setattr(sidecar, "START_WAIT_S", 0.5)
    (tmp_path / "python").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    start = time.monotonic()
    with pytest.raises(sidecar.RecorderError, match=r"did not start within 0\.5 s"):
        sidecar.Sidecar(Order(str(tmp_path / "e.jsonl")))
    assert time.monotonic() - start < 10


def test_a_driver_that_does_not_start_is_said(metered, machine):
    machine.has([STEADY], init_error=999)
    done = metered.run("true")
    assert done.returncode == 2 and "the NVIDIA driver does not start" in done.stderr


# The commands' output.


def summarized(out: Path, *more: str) -> subprocess.CompletedProcess:
    command = [*METER, "summarize", str(out), *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_summary_as_text_and_as_json(metered):
    metered.run("sleep", "1")
    text = summarized(metered.out).stdout
    assert text.splitlines()[0].split()[:3] == ["s", "J", "mean"]
    assert "total" in text
    assert "nvml_counter" in text
    assert f"{uuid(1)} Fake" in text
    facts = json.loads(summarized(metered.out, "--json").stdout)
    assert facts == json.loads(json.dumps(metered.summary()))


def test_a_log_that_cannot_be_read_says_so(tmp_path):
    done = summarized(tmp_path)  # a folder
    assert done.returncode == 2 and "cannot be read: Is a directory" in done.stderr


def test_a_summary_of_nothing_says_so(tmp_path):
    done = summarized(tmp_path / "none.jsonl")
    assert done.returncode == 2 and "there is no energy log" in done.stderr


@pytest.mark.parametrize("argument", ["--interval-s=0", "--interval-s=no", "--idle-s=-1"])
def test_wrong_numbers_are_refused(metered, argument):
    done = metered.run("true", options=(argument,))
    assert done.returncode == 2 and argument.split("=")[0] in done.stderr


def test_no_command_says_where_to_write_it(metered):
    done = subprocess.run(metered.command()[:-1], capture_output=True, text=True)
    assert done.returncode == 2 and "write it after --" in done.stderr
