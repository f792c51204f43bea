"""The logger plugin: lines above the bars, whole; nothing at all without a terminal."""

import os
import pty
import re
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

import snakemake_logger_plugin_longwatt as plugin
from snakemake_logger_plugin_longwatt.run_events import RunEvents
from snakemake_logger_plugin_longwatt.terminal import Board


def settings(**more) -> SimpleNamespace:
    return SimpleNamespace(**{"dryrun": False, "quiet": {"rules"}, "nocolor": False, **more})


def test_snakemake_finds_the_logger_by_its_name_and_goes_on_to_print():
    found = LoggerPluginRegistry().get_plugin("longwatt").log_handler
    assert found is plugin.LogHandler
    handler = found(settings(dryrun=True), None)
    assert not handler.writes_to_stream, "Snakemake prints its own lines beside it"


@pytest.mark.parametrize(
    ("terminal", "more", "draws"),
    [
        (True, {}, True), (True, {"quiet": None}, True), (False, {}, False),
        (True, {"dryrun": True}, False), (True, {"quiet": {"progress"}}, False),
        (True, {"quiet": {"all"}}, False),
    ],
)  # fmt: skip
def test_bars_are_for_terminals_and_for_runs_that_want_them(monkeypatch, terminal, more, draws):
    monkeypatch.setattr(os, "isatty", lambda _: terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert plugin.draws(settings(**more)) is draws
    monkeypatch.setenv("TERM", "dumb")
    assert not plugin.draws(settings(**more))


def test_without_a_terminal_neither_rich_nor_longwatt_is_loaded():
    """Snakemake loads its plugins before the rules say where their longwatt lies."""
    code = "import sys, snakemake_logger_plugin_longwatt as p; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"rich", "longwatt", "torch", "pandas"})


def screen(written: bytes, width: int) -> list[str]:
    """The lines of a terminal after some bytes, as far as a board uses it."""
    lines, column = [""], 0
    for token in re.findall(rb"\x1b\[[0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == b"\x1b[1A":
            cursor = max(0, screen.row - 1)
            screen.row = cursor
        elif token == b"\x1b[2K":
            lines[screen.row] = ""
        elif token == b"\r":
            column = 0
        elif token == b"\n":
            screen.row, column = screen.row + 1, 0
            lines += [""] * (screen.row + 1 - len(lines))
        elif not token.startswith(b"\x1b"):
            for letter in token.decode():
                if column == width:
                    screen.row, column = screen.row + 1, 0
                    lines += [""] * (screen.row + 1 - len(lines))
                lines[screen.row] = lines[screen.row][:column].ljust(column) + letter
                column += 1
    return lines


@pytest.fixture
def board(monkeypatch):
    screen.row = 0
    written = bytearray()
    made = Board(-1)
    monkeypatch.setattr(made, "_put", written.extend)
    monkeypatch.setattr(Board, "size", (40, 10))
    made.written = written
    return made


def test_lines_go_above_what_is_kept_and_kept_lines_stay_below(board):
    board.above(b"first\n")
    board.draw([(b"bar one", 39), (b"bar two", 39)])
    board.above(b"second\nthird\n")
    board.draw([(b"bar 1", 39)])
    board.above(b"no end")
    shown = [line for line in screen(bytes(board.written), 40) if line]
    assert shown == ["first", "second", "third", "no end", "bar 1"]
    board.draw([])
    screen.row = 0
    assert "bar" not in "".join(screen(bytes(board.written), 40))


def test_an_echoed_ctrl_c_leaves_no_line_behind(board):
    board.draw([(b"x" * 39, 39), (b"y" * 39, 39)])
    board.written += b"^C"
    board.above(b"Terminating\n")
    board.draw([])
    assert [line for line in screen(bytes(board.written), 40) if line] == ["Terminating"]


def test_equal_lines_are_not_drawn_again(board):
    board.draw([(b"bar", 39)])
    size = len(board.written)
    board.draw([(b"bar", 39)])
    assert len(board.written) == size


def test_a_terminal_that_became_narrower_loses_all_of_the_wrapped_lines(board, monkeypatch):
    board.draw([(b"x" * 39, 39)])
    monkeypatch.setattr(Board, "size", (20, 10))
    before = len(board.written)
    board.draw([(b"y", 19)])
    assert bytes(board.written[before:]).count(b"\x1b[2K") == 2


def test_events_say_what_runs_and_what_failed():
    events = RunEvents()
    events.take("run_info", {"stats": {"finetune": 2, "score": 1, "total": 3}})
    for number in (1, 2):
        wildcards = {"study": "s", "cell": f"c{number}"}
        facts = {"jobid": number, "rule_name": "finetune", "wildcards": wildcards}
        events.take("job_info", facts)
    assert [job.label for job in events.running()] == ["finetune c1", "finetune c2"]
    events.take("job_finished", {"job_id": 1})
    events.take("job_error", {"jobid": 2})
    events.take("progress", {"done": 1, "total": 3})
    assert (events.running(), events.failed, events.done, events.total) == ([], 1, 1, 3)
    assert [job.wildcards["cell"] for job in events.finished] == ["c1"]


PROGRAM = """
    import os, subprocess, sys, time
    from snakemake_logger_plugin_longwatt.terminal import OwnedTerminal
    terminal = OwnedTerminal([2, 1])
    terminal.board.draw([(b"the bar", 79)])
    assert os.isatty(2)
    print("from print", flush=True)
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'from a job\\\\n')"])
    with open(f"/proc/{os.getpid()}/fd/2", "ab", buffering=0) as stream:
        stream.write(b"from a worker\\n")
    terminal.give_back()
    print("after", flush=True)
"""


def test_all_that_processes_write_comes_out_above_the_bar_and_none_is_lost():
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(PROGRAM)])
    written, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            break
        written += data
    assert os.waitpid(pid, 0)[1] == 0, written
    screen.row = 0
    shown = [line for line in screen(written, 80) if line]
    assert shown == ["from print", "from a job", "from a worker", "after"]
    assert b"longwatt: the last line" not in written
