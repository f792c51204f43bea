"""Run one job: its log, its lease, its workers and the record of its failure."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.disk_space import free_space, full
from longwatt.energy.clock import Clock
from longwatt.energy.log import next_run, publish, runs
from longwatt.energy.recorder import Order, header
from longwatt.energy.sidecar import Sidecar, metered
from longwatt.files import json_lines, read_object
from longwatt.gpus import leases
from longwatt.jobs import pinning, sigterm, waiting
from longwatt.jobs.log import JobError
from longwatt.jobs.sigterm import Stopped
from longwatt.jobs.worker import ERRORS, LOST_KIND, STOPPED, die_with_parent, error_file
from longwatt.processes import (
    RUN_VARIABLE,
    children,
    finding_package,
    is_alive,
    started,
    try_lock,
)
from longwatt.progress import LABEL_VARIABLE, say
from longwatt.progress_record import (
    ALIVE_EVERY_S,
    STARTING,
    VARIABLE,
    ProgressRecord,
    recorded_job,
    renew,
)
from longwatt.provenance.stamps import write_json
from longwatt.study.cells import device_count

CHANGES_NO_RESULT = "It runs a job and meters it; the work is done elsewhere."
# Variables of an outer launcher that would mislead workers; ours sets them anew for several.
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
SHARED_MEMORY = "/dev/shm"  # where a loader's processes hand over their batches
TAKEOVER_WAIT_S = 60.0
SIGNAL_S = 0.5  # how soon a SIGTERM is passed on
REPEAT_S = 5.0  # a worker that was still loading when it was asked to end may have missed it
# An option of torch's launcher, as a variable since older versions lack the option. SIGTERM and
# SIGINT are not among the signals that it handles: it would end its workers itself.
LAUNCHER = {"PET_SIGNALS_TO_HANDLE": "SIGHUP,SIGQUIT"}

Fields = Mapping[str, Any]  # of a `longwatt.jobs.worker.Spec`


def run_workers(
    module: str,
    *,
    spec: Fields,
    threads: int,
    work: str,
    label: str,
    energy_log: str,
    wait_s: float | None = None,
) -> None:
    """Lease a budget's devices and run a module on SPEC there, with an energy recorder.

    There is one process per device. Several processes meet through torch's launcher. A job on the
    CPU leases as many cores as it has threads, and runs unpinned where they cannot be had.

    Args:
        module: a longwatt module that calls `longwatt.jobs.worker.run_worker`.
        spec: all fields but `error` and `energy_log`; its settings hold the budget.
        threads: CPU threads of this job, shared by its processes.
        work: the cell's work folder; locked, so that two attempts never write there at once.
        label: name of this job in progress lines and leases.
        energy_log: file for the energy logs of all its runs, joined once the job is done.
        wait_s: longest wait for GPUs, in seconds; None waits for ever.

    Raises:
        JobError: a worker failed.
        longwatt.jobs.sigterm.Stopped: this job was asked to end; the message says what is saved.
        longwatt.gpus.listing.GpuError: the GPUs cannot be had.
    """
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[LABEL_VARIABLE] = label
    sigterm.listen()
    count, stamp = spec["settings"]["budget"]["gpus"], spec["provenance"]
    made_by = {name: stamp.get(name) for name in ("settings_digest", "code_digest")}
    with (
        _exclusive(folder / "lock"),
        recorded_job(folder, label, (Stopped,)) as record,
        contextlib.ExitStack() as until_published,
    ):
        with (
            leases.lease(count, wait_s=wait_s, label=label, say=say) as lease,
            pinning.own_cores(0 if count else threads, label, say) as cores,
        ):
            # From here on the workers answer a SIGTERM, and their results are published.
            until_published.enter_context(sigterm.deferred())
            facts = {"label": label, "made_by": made_by}
            order = Order(str(next_run(folder)), lease.uuids, facts=facts)
            _run_leased(module, spec, folder, threads, lease, cores, order, record)
        # Once the GPUs are free again: packing days of samples takes a while.
        unwritten = header(order, Clock(), "no energy log of this job could be written")
        publish(runs(folder), Path(energy_log), unwritten)


def _run_leased(
    module: str,
    spec: Fields,
    folder: Path,
    threads: int,
    lease: leases.Lease,
    cores: Sequence[int],
    order: Order,
    record: ProgressRecord,
) -> None:
    """Run and meter the workers on leased GPUs or cores, as `run_workers` says."""
    error = folder / "error.json"
    for path in folder.glob(error_file(error, "*").name):
        path.unlink()
    path = folder / f"{module.rsplit('.', 1)[-1]}.spec"
    write_json(path, {**spec, "error": str(error), "energy_log": order.out})
    processes = device_count(spec["settings"]["budget"])
    inherited = {name: value for name, value in os.environ.items() if name not in RANKS}
    kept = os.memfd_create("longwatt-errors")  # for workers' errors that a full disk does not take
    environment = {
        **finding_package(inherited),
        **lease.environ(),
        **pinning.core_environment(cores),
        "OMP_NUM_THREADS": str(max(1, threads // processes)),
        "TOKENIZERS_PARALLELISM": "false",
        **waiting.thread_environment(inherited),
        **LAUNCHER,
        ERRORS: f"/proc/{os.getpid()}/fd/{kept}",
        VARIABLE: str(record.path.resolve()),
    }
    record.enter(STARTING, None)
    try:
        with metered(order, say) as recorder:
            command = _command(module, processes, path)
            status = _run(command, environment, recorder, processes, cores)
        if status != 0:
            raise _failure(error, status, processes, kept)
    finally:
        os.close(kept)


def _command(module: str, processes: int, spec: Path) -> list[str]:
    worker = ["-m", "longwatt.jobs.start", module, str(spec)]
    if processes == 1:  # alone, it needs no launcher, which would take seconds and memory
        return [sys.executable, *worker]
    # Loopback: a job never spans nodes, and a host name need not resolve.
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, *worker]


def _run(
    command: list[str],
    environment: dict[str, str],
    recorder: Sidecar | None,
    processes: int,
    cores: Sequence[int],
) -> int:
    """Run a command on its cores under a recorder, and pass on a SIGTERM."""
    prepare = functools.partial(_prepare_worker, cores)
    if recorder:
        environment = {**environment, **recorder.environ()}
        recorder.mark("idle_before")  # until the worker touches its GPU
    with subprocess.Popen(command, env=environment, preexec_fn=prepare) as process:
        if recorder:
            recorder.watch(process.pid)
        status = _wait(process, processes, Path(environment[VARIABLE]))
    if recorder and status == 0:
        recorder.idle("idle_after")
    return status


def _prepare_worker(cores: Sequence[int]) -> None:
    """Bind a new process to its cores and its job, deaf to SIGTERM at first."""
    die_with_parent()
    pinning.bind(cores)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the job repeats it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job answers it for all


def _wait(process: subprocess.Popen[bytes], processes: int, record: Path) -> int:
    """Wait for the workers' end, and request it repeatedly once this job must end.

    Meanwhile the time of the job's record says that it is alive.
    """
    descriptor, renewed = os.pidfd_open(process.pid), time.monotonic()
    try:
        while True:
            # A signal does not end this wait, so `asked` is polled.
            wait_s = REPEAT_S if sigterm.asked() else SIGNAL_S
            if select.select([descriptor], [], [], wait_s)[0]:
                return process.wait()
            if time.monotonic() - renewed >= ALIVE_EVERY_S:
                renew(record)
                renewed = time.monotonic()
            if sigterm.asked():
                for pid in [process.pid] if processes == 1 else children(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
    finally:
        os.close(descriptor)


def _failure(error: Path, status: int, processes: int, kept: int) -> BaseException:
    """Return the error to raise for workers that failed or were asked to end.

    The errors lie in files, or, where a full disk did not take them, in the memory `kept`.
    """
    said = [read_object(path) for path in sorted(error.parent.glob(error_file(error, "*").name))]
    said += json_lines(os.pread(kept, os.fstat(kept).st_size, 0).decode(errors="replace"))
    causes = [one for one in said if one.get("type") not in (STOPPED, LOST_KIND, None)]
    if causes:
        return JobError(f"{causes[0]['type']}: {causes[0]['message']}")
    stopped = [one["message"] for one in said if one.get("type") == STOPPED]
    # When one of several dies, the launcher asks the others to end; nobody asked this job.
    if sigterm.asked() or (stopped and processes == 1):
        return Stopped(sigterm.as_asked((stopped or ["stopped by SIGTERM"])[0]))
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    who = "a worker" if processes == 1 else f"one of {processes} workers"
    short = full([error.parent, Path(tempfile.gettempdir()), Path(SHARED_MEMORY)])
    if short:
        room = ", ".join(dict.fromkeys(map(free_space, short)))
        room = f"no space left: {room}; free some, then run again"
        return JobError(f"{who} died without a message ({how}), with {room}")
    return JobError(
        f"{who} died without a message ({how}); was it killed, or out of memory? If of memory: "
        "lower training.validation.batch_size (a training goes on from its last checkpoint), or "
        "per_device_batch_size or max_tokens_per_batch in the cell's budget (it begins anew); "
        "finished cells that the change applies to are made again"
    )


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a work folder, after ending any orphan of a killed run."""
    with path.open("a+", encoding="utf-8") as stream:
        if not try_lock(stream):
            _end_holder(stream)
        stream.seek(0)
        stream.truncate()
        me, host = os.getpid(), os.uname().nodename
        holder = {
            "pid": me,
            "started": started(me),
            "host": host,
            "run": os.environ.get(RUN_VARIABLE, ""),
        }
        stream.write(json.dumps(holder))
        stream.flush()
        yield


def _end_holder(stream: Any) -> None:
    """End a job that outlived its Snakemake and holds our lock. Its last checkpoint stays."""
    deadline = time.monotonic() + TAKEOVER_WAIT_S
    while not try_lock(stream):
        stream.seek(0)
        # A new holder may not have written itself down yet.
        holder = next(iter(json_lines(stream.read())), None)
        if holder and holder["host"] != os.uname().nodename:
            raise JobError(
                f"{stream.name} is held by process {holder['pid']} on {holder['host']}, an earlier "
                "attempt at this cell that still runs; wait for it or end it there, then run again"
            )
        run = holder and holder.get("run")
        if holder and run and run != os.environ.get(RUN_VARIABLE) and is_alive(run):
            raise JobError(
                f"{stream.name} is held by process {holder['pid']}, whose Snakemake still runs "
                "(another run of this study); wait for that run or end it, then run again"
            )
        if holder:
            _end(holder["pid"], holder["started"])
        if time.monotonic() > deadline:
            who = holder or "a process that did not name itself"
            raise JobError(f"{stream.name} is held by {who} for a minute")
        time.sleep(0.1)
    time.sleep(1)  # the kernel ends its workers a moment after it


def _end(pid: int, since: int | None) -> None:
    """Kill a process by its number, unless the number now belongs to another process."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if started(pid) == since:
                earlier = f"process {pid}, an earlier attempt at this cell,"
                print(f"longwatt: {earlier} still runs; ending it")
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
