"""Meter one job of a workflow around its work.

A job's ledger holds two lines of JSON for every run, one when it starts and one when it ends, so
that a run that was killed is known by its missing end. A recorder joins runs that last, and ends
with the job's process even where Snakemake itself was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.energy.clock import boot_id
from longwatt.energy.log import append
from longwatt.energy.meters import rapl
from longwatt.energy.meters.processor import processor_facts
from longwatt.energy.recorder import Order
from longwatt.energy.sidecar import Sidecar
from longwatt.files import json_lines
from longwatt.gpus import listing
from longwatt.gpus.listing import GpuError
from longwatt.processes import identified

JOBS = "jobs"  # folder of the ledgers: RULE/WILDCARDS-DIGEST.jsonl
SUFFIX = ".jsonl"
LEDGER = re.compile(r"-[0-9a-f]{8}\.jsonl$")  # of ledgers; recorders' logs stand beside them
RECORDER_AFTER_S = 1.0  # a shorter run is known by its CPU time alone, and a recorder takes 0.2 s
LEDGER_FACTS = ("rule", "wildcards", "output", "threads", "watts_per_core")
NAME_LETTERS = 60  # of wildcards in a file's name; the digest behind them tells jobs apart
GPU_RESOURCE = re.compile(r"gpu", re.IGNORECASE)


class JobMeter:
    """Meter of one run of a job, from before its work to its end.

    Args:
        folder: of all ledgers, absolute.
        facts: rule, wildcards (a mapping), output (paths), threads, resources (a mapping), and
            watts_per_core for an estimate.
        in_process: whether its work is Python in this very process (a `run:` rule), whose CPU time
            is the job's. The CPU time of others is that of the commands that they start.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], in_process: bool) -> None:
        self._facts = facts
        self._ledger = ledger_path(folder, facts)
        self._in_process, self._shared = in_process, False
        self._begun = self._waited = 0
        self._used_s = 0.0
        self._sidecar: Sidecar | None = None
        self._starting: threading.Timer | None = None
        self._lock = threading.Lock()
        self._closed = False

    def begin(self) -> None:
        """Write that the run begins, and meter this process if the work is done here."""
        self._ledger.parent.mkdir(parents=True, exist_ok=True)
        self._number = 1 + _runs_in(self._ledger)
        self._gpus, problem = gpus_of(self._facts["resources"])
        self._before_s = own_cpu_s() if self._in_process else 0.0
        self._start_ns = time.monotonic_ns()
        line = {
            "started": self._number,
            **{name: self._facts[name] for name in LEDGER_FACTS},
            "t": self._start_ns,
            "wall_time_s": time.time(),
            "boot_id": boot_id(),
            "host": socket.gethostname(),
            "snakemake": identified(os.getpid()),
            "processor": processor_facts(),
            "cpu_before_s": self._before_s,  # of the process that a recorder watches
            "gpus": self._gpus,
            "gpu_problem": problem,
        }
        append(self._ledger, line)
        if self._in_process and not self._shared:
            self.watch(os.getpid())

    def share_process(self) -> None:
        """Note that another job runs in this process, so its CPU time is shared."""
        self._shared = True

    def watch(self, pid: int) -> None:
        """Record a process of the job, where nothing is metered only if it lasts."""
        with self._lock:
            if self._starting is not None:  # a job's second command: its first is recorded
                return
            metered = bool(self._gpus) or rapl.can_be_read()
            delay = 0.0 if metered else RECORDER_AFTER_S
            self._starting = threading.Timer(delay, self._start, [pid])
            self._starting.daemon = True
            self._starting.start()

    def began(self, process: subprocess.Popen[Any]) -> None:
        """Count a command of the job that began."""
        self._begun += 1
        self.watch(process.pid)

    def ended(self, used: resource.struct_rusage) -> None:
        """Count the CPU time of a command and of all that it waited for."""
        self._waited += 1
        self._used_s += used.ru_utime + used.ru_stime

    def close(self, status: int) -> None:
        """Write how the run ended."""
        seconds, cpu_s = (time.monotonic_ns() - self._start_ns) / 1e9, self._cpu_s()
        with self._lock:
            self._closed = True
            if self._starting is not None:
                self._starting.cancel()
        if self._sidecar is not None:
            self._sidecar.close(status)
        append(
            self._ledger, {"ended": self._number, "s": seconds, "cpu_s": cpu_s, "status": status}
        )

    def _cpu_s(self) -> float | None:
        if self._in_process:
            return None if self._shared else own_cpu_s() - self._before_s
        return self._used_s if self._begun == self._waited > 0 else None

    def _start(self, pid: int) -> None:
        out = str(recording_of(self._ledger, self._number))
        order = Order(out, self._gpus, facts={"label": self._ledger.stem}, cpu_of=pid)
        with contextlib.suppress(Exception):  # the CPU time at the end is known all the same
            sidecar = Sidecar(order)
            sidecar.watch(pid)
            with self._lock:
                if not self._closed:
                    self._sidecar = sidecar
                    return
            sidecar.close(None)


def own_cpu_s() -> float:
    """Return the CPU seconds of this process and all that it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def ledger_path(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Return the ledger that all runs of a job share."""
    identity = repr((facts["rule"], sorted(facts["wildcards"].items()), list(facts["output"])))
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    words = "_".join(map(str, facts["wildcards"].values()))
    name = re.sub(r"[^A-Za-z0-9.=+-]+", "_", words)[:NAME_LETTERS].strip("._") or "job"
    return folder / JOBS / str(facts["rule"]) / f"{name}-{digest}{SUFFIX}"


def recording_of(ledger: Path, number: int) -> Path:
    """Return the recorder's log of one run of a job."""
    return ledger.with_name(f"{ledger.stem}.run{number}{SUFFIX}")


def gpus_of(resources: Mapping[str, Any]) -> tuple[Sequence[str], str | None]:
    """Return the UUIDs of a job's GPUs, or why they are not found.

    A job has GPUs if one of its resources says so by its name (`gpu`, `nvidia_gpu`, ...), or by a
    text (`gres="gpu:1"`). They are those that CUDA_VISIBLE_DEVICES leaves.
    """
    if not any(map(_asks_for_gpus, resources.keys(), resources.values())):
        return [], None
    try:
        found = [device.uuid for device in listing.list_devices()]
    except GpuError as error:
        return [], str(error)
    return found, None if found else "the job asks for a GPU, and NVML shows none here"


def _asks_for_gpus(name: str, value: Any) -> bool:
    if isinstance(value, str):
        asked = GPU_RESOURCE.search(value) and name.lower() in {"gres", "gpus", "slurm_extra"}
        return bool(asked) or (bool(GPU_RESOURCE.search(name)) and value not in {"", "0"})
    return bool(GPU_RESOURCE.search(name)) and isinstance(value, int) and value > 0


def _runs_in(ledger: Path) -> int:
    try:
        text = ledger.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return sum("started" in line for line in json_lines(text) if isinstance(line, dict))
