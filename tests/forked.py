"""Run an engine in processes forked from the test, which may meet faults.

As with a launcher, one dies and all end. A fork costs a second where a start of Python with torch
costs five. Jobs test what the launcher itself does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from longwatt.jobs import distributed, sigterm
from longwatt.jobs.worker import Spec, die_with_parent

STOPPED, FAILED = 75, 1
DEADLINE_S = 240.0  # of all processes of one run; what hangs has failed
Fault = Callable[[], None]


def run(
    work: Callable[[Spec], None], specs: Sequence[Spec], fault: Fault | None = None, rank: int = 0
) -> list[int]:
    """Return exit statuses of processes that work together (negative: the signal that ended one).

    Args:
        work: a worker's function.
        specs: one for each process.
        fault: called in the process `rank` before its work.
        rank: which.
    """
    port = str(_free_port())
    log = Path(specs[0].error).with_name("processes.log")
    children = [
        _fork(work, spec, i, len(specs), port, fault if i == rank else None, log)
        for i, spec in enumerate(specs)
    ]
    statuses: dict[int, int] = {}
    deadline = time.monotonic() + DEADLINE_S
    while len(statuses) < len(children):
        time.sleep(0.01)
        for child in (child for child in children if child not in statuses):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline or any(
            status not in (0, STOPPED) for status in statuses.values()
        ):
            _end([child for child in children if child not in statuses])
    return [statuses[child] for child in children]


def _fork(
    work, spec: Spec, rank: int, count: int, port: str, fault: Fault | None, log: Path
) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = FAILED
    try:
        sys.stdout = sys.stderr = log.open("a", buffering=1)  # pytest has put its own there
        if count > 1:
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
            environment["LOCAL_WORLD_SIZE"] = count
            os.environ.update({name: str(value) for name, value in environment.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        status = _child(work, spec, fault)
    except sigterm.Stopped as stopped:
        print(stopped, flush=True)
        status = STOPPED
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def _child(work, spec: Spec, fault: Fault | None) -> int:
    die_with_parent()
    torch.set_num_threads(1)  # a forked process has lost the threads that the test's had
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    sigterm.listen()
    if fault:
        fault()
    with distributed.joined_group("gloo"):
        work(spec)
    return 0


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
