"""Commands end quietly when their reader leaves, on an interrupt and on a full disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longwatt.energy import log as energy_log
from longwatt.energy.clock import Clock
from longwatt.energy.recorder import Order, header

PACKAGE = Path(__file__).parents[3] / "workflow" / "lib" / "longwatt"


def commands(folder: Path) -> dict[str, list[str]]:
    """List every command that prints, with something to print."""
    run = folder / "1.jsonl"
    energy_log.append(run, header(Order(str(run)), Clock()))
    energy_log.append(run, {"t": 0, "cpu_s": 0.5})
    (folder / "p.json").write_text('{"1": "word"}')
    (folder / "r.jsonl").write_text('{"id": 1, "output": "word"}\n')
    scored = ["--predictions", str(folder / "p.json"), "--references", str(folder / "r.jsonl")]
    return {
        "energy": ["longwatt.energy", "summarize", str(run)],
        "metrics": ["longwatt.metrics", "--task", "f1", *scored],
        "gpus": ["longwatt.gpus", "list"],
        "exits": ["longwatt.exits", "--help"],
        "summary": ["longwatt.results", "--help"],
    }


def start(arguments: list[str], **how) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, **how)


@pytest.mark.parametrize("name", ["energy", "metrics", "gpus", "exits", "summary"])
def test_a_reader_that_leaves_ends_a_command_quietly(tmp_path, name):
    with start(["-m", *commands(tmp_path)[name]], stdout=subprocess.PIPE) as process:
        process.stdout.close()
        # argparse needs no reader.
        expected = 0 if "--help" in process.args else 128 + signal.SIGPIPE
        assert process.stderr.read() == b"" and process.wait() == expected


def test_a_full_disk_under_the_output_is_named(tmp_path):
    with (
        Path("/dev/full").open("wb") as full,
        start(["-m", *commands(tmp_path)["energy"]], stdout=full) as process,
    ):
        said = process.stderr.read().decode()
        assert "longwatt: the output cannot be written (No space left on device)" in said
        assert len(said.splitlines()) == 1 and process.wait() == 74


def ending(body: str) -> subprocess.Popen[bytes]:
    """Start a process whose main function has this body."""
    main = f"def main():\n    {body}\ncommand_line.run_command(main)"
    code = f"import os, sys, time\nfrom longwatt import command_line\n{main}"
    return start(["-c", code], stdout=subprocess.PIPE)


def test_an_interrupt_ends_a_command_quietly():
    with ending("print('ready', flush=True); time.sleep(60)") as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"" and process.wait() == 130


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("print('all is well'); return 3", 3, b""),
        ("sys.exit('why')", 1, b"why\n"),
        ("raise FileNotFoundError(2, 'gone')", 1, b"FileNotFoundError"),
        ("read, write = os.pipe(); os.close(read); os.write(write, b'x')", 1, b"BrokenPipeError"),
    ],
)
def test_other_ends_stay_as_they_are(body, status, said):
    with ending(body) as process:
        assert said in process.stderr.read() and process.wait() == status


def test_every_command_is_run_in_one_place():
    # These print into a log, or to the process that started them.
    workers = {"finetune", "predict", "record_exits", "probe_batch_size", "recorder"}
    workers |= {"parameter_counts", "start", "model_keys"}
    for path in PACKAGE.rglob("*.py"):
        if 'if __name__ == "__main__":' in path.read_text() and path.stem not in workers:
            assert "command_line.run_command(" in path.read_text(), path


def test_a_pipeline_reports_what_a_shell_expects(tmp_path):
    command = " ".join([sys.executable, "-m", *commands(tmp_path)["energy"]])
    piped = ["bash", "-c", f"set -o pipefail; {command} | true"]
    done = subprocess.run(piped, capture_output=True, env=os.environ)
    assert done.stderr == b""
    assert done.returncode in (0, 141), "0 where it printed before its reader left"
