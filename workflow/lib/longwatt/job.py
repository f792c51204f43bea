"""One job: its log, its lease, its workers, and a record of how it failed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from longwatt import gpus, stopping, waiting
from longwatt.cells import devices
from longwatt.disk_space import free_space, full, is_full, said_of_full
from longwatt.energy.clock import Clock
from longwatt.energy.log import next_run, publish, runs
from longwatt.energy.recorder import Order, header
from longwatt.energy.sidecar import Sidecar, metered
from longwatt.locks import try_lock
from longwatt.processes import RUN, children, is_alive, started
from longwatt.progress import LABEL, TERMINAL, outlast_full_disk, say, share
from longwatt.provenance import json_lines, read_object, write_json
from longwatt.stopping import Stopped
from longwatt.worker import ERRORS, LOST, STOPPED, die_with_parent, error_file

# Only the jobs that download may fetch; what others need was downloaded by these.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # loading old weights would start a request to the hub
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# What an outer launcher would have workers believe; with several processes ours says it anew.
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
SHARED_MEMORY = "/dev/shm"  # a loader's processes hand their batches over there
TAKEOVER_WAIT_S = 60.0
GOES_ON = "the next run goes on"
SIGNAL_S = 0.5  # how soon a SIGTERM is passed on
REPEAT_S = 5.0  # a worker that was still loading when it was asked to end may have missed it
# Options of torch's launcher, as variables since older versions lack this one. SIGTERM is not among the signals that it
# answers: it would end its workers itself, seconds later.
LAUNCHER = {"PET_SIGNALS_TO_HANDLE": "SIGINT,SIGHUP,SIGQUIT"}


class JobError(RuntimeError):
    """A job's workers failed; the message is theirs."""


INTERRUPTIONS = (KeyboardInterrupt, Stopped)  # no failures of the cell


@contextlib.contextmanager
def logged(log: str, failure: str | None = None, fetches: bool = False) -> Iterator[None]:
    """Send all output of this process and its children to `log`; on failure say so on the terminal.

    Snakemake does not fill a script's log. Redirecting descriptors, not sys.stdout, also catches CUDA's,
    NCCL's and the children's output.

    Args:
        log: the rule's log file.
        failure: where to leave a record of a failure, for `snakemake partial`; an earlier one is removed.
        fetches: whether the job is one that may ask a hub; in all others its client is told to stay offline.
    """
    unfinished = None if failure is None else Path(f"{failure}.unfinished")
    terminal = os.dup(2)
    share(terminal)
    os.environ[TERMINAL] = f"/proc/{os.getpid()}/fd/{terminal}"
    os.environ.setdefault(LABEL, "longwatt")
    try:
        stream = _open_log(Path(log), failure, unfinished)
    except OSError as error:  # there is no log to say it in
        _report_failure(error, log, failure, terminal)
        raise SystemExit(1) from None
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    outlast_full_disk()
    os.environ.update({} if fetches else OFFLINE)
    try:
        yield
    except BaseException as error:
        traceback.print_exc()
        _report_failure(error, log, failure, terminal)
        raise SystemExit(1) from None
    if unfinished is not None:
        unfinished.unlink(missing_ok=True)


def _open_log(log: Path, failure: str | None, unfinished: Path | None) -> FileIO:
    """Open a job's log, which goes on where an attempt failed or was killed; forget an earlier failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    resumes = unfinished is not None and unfinished.exists()
    if unfinished is not None:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        Path(str(failure)).unlink(missing_ok=True)
        _keep_log(log, unfinished, resumes)
    return log.open("ab" if resumes else "wb", buffering=0)


def _keep_log(log: Path, kept: Path, resumes: bool) -> None:
    """Have a log outlive Snakemake, which removes a job's log before each attempt: it has a second name meanwhile."""
    if not resumes:
        log.unlink(missing_ok=True)
        log.touch()
    elif not log.exists():
        _same_file(kept, log)
    if not kept.exists():
        _same_file(log, kept)


def _same_file(there: Path, name: Path) -> None:
    try:
        name.hardlink_to(there)
    except (
        OSError
    ):  # another file system, or one without links: a copy, which does not grow with the log
        shutil.copyfile(there, name)


def run_workers(
    module: str,
    *,
    spec: Mapping[str, Any],
    threads: int,
    work: str,
    label: str,
    energy_log: str,
    wait_s: float | None = None,
) -> None:
    """Lease a budget's GPUs and run `python -m module SPEC`, a process per device, with a recorder beside them.

    Several processes meet through torch's launcher.

    Args:
        module: a longwatt module that calls `longwatt.worker.run`.
        spec: fields of `longwatt.worker.Spec` but `error` and `energy_log`; its settings hold the budget.
        threads: CPU threads of this job, shared by its processes.
        work: the cell's work folder; locked, so that two attempts never write there at once.
        label: how progress lines and leases name this job.
        energy_log: where the energy logs of all its runs go, as one, once it is done.
        wait_s: longest wait for GPUs, None for ever.

    Raises:
        JobError: a worker failed.
        longwatt.stopping.Stopped: this job was asked to end; the message says what its workers saved.
        longwatt.gpus.GpuError: the GPUs cannot be had.
    """
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[LABEL] = label
    stopping.listen()
    with _exclusive(folder / "lock"), contextlib.ExitStack() as until_published:
        with gpus.lease(
            spec["settings"]["budget"]["gpus"], wait_s=wait_s, label=label, say=say
        ) as lease:
            # From here on a SIGTERM is the workers' to answer, and what they have made is published.
            until_published.enter_context(stopping.deferred())
            order = Order(
                str(next_run(folder)),
                lease.uuids,
                facts={"label": label, "made_by": _digests(spec)},
            )
            _run_leased(module, spec, folder, threads, lease, order)
        # Once the GPUs are free again: packing days of samples takes a while.
        unwritten = header(order, Clock(), "no energy log of this job could be written")
        publish(runs(folder), Path(energy_log), unwritten)


def _run_leased(
    module: str,
    spec: Mapping[str, Any],
    folder: Path,
    threads: int,
    lease: gpus.Lease,
    order: Order,
) -> None:
    """Run the workers on leased GPUs, metered; see `run_workers`."""
    error, log = folder / "error.json", order.out
    for path in folder.glob(error_file(error, "*").name):
        path.unlink()
    path = folder / f"{module.rsplit('.', 1)[-1]}.spec"
    write_json(path, {**spec, "error": str(error), "energy_log": log})
    processes = devices(spec["settings"]["budget"])
    inherited = {name: value for name, value in os.environ.items() if name not in RANKS}
    kept = os.memfd_create(
        "longwatt-errors"
    )  # what a full disk does not take of the workers' last words
    environment = {
        **inherited,
        **lease.environ(),
        **_thread_limits(threads, processes),
        **waiting.environment(inherited),
        **LAUNCHER,
        ERRORS: f"/proc/{os.getpid()}/fd/{kept}",
    }
    try:
        with metered(order, say) as recorder:
            status = _run(_command(module, processes, path), environment, recorder, processes)
        if status != 0:
            raise _failure(error, status, processes, kept)
    finally:
        os.close(kept)


def _command(module: str, processes: int, spec: Path) -> list[str]:
    worker = ["-m", module, str(spec)]
    if processes == 1:  # there is nobody to meet: a launcher would only take seconds and memory
        return [sys.executable, *worker]
    # Loopback: a job never spans nodes, and a host name need not resolve.
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, *worker]


def _thread_limits(threads: int, processes: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(max(1, threads // processes)), "TOKENIZERS_PARALLELISM": "false"}


def _digests(spec: Mapping[str, Any]) -> dict[str, Any]:
    """By what settings and code a job's work is made."""
    return {name: spec["provenance"].get(name) for name in ("settings_digest", "code_digest")}


def _run(
    command: list[str], environment: dict[str, str], recorder: Sidecar | None, processes: int
) -> int:
    """Run a command under a recorder and wait for its end; a SIGTERM is passed on to its workers."""
    if recorder:
        environment = {**environment, **recorder.environ()}
        recorder.mark("idle_before")  # until the worker touches its GPU
    with subprocess.Popen(command, env=environment, preexec_fn=_prepare_worker) as process:
        if recorder:
            recorder.watch(process.pid)
        status = _wait(process, processes)
    if recorder and status == 0:
        recorder.idle("idle_after")
    return status


def _prepare_worker() -> None:
    """In the new process: die with the job; until a worker listens, SIGTERM is for the job to repeat."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _wait(process: subprocess.Popen[bytes], processes: int) -> int:
    """Wait for the workers' end; once asked to end, have them asked until they are gone."""
    descriptor = os.pidfd_open(process.pid)
    try:
        # A signal does not end this wait, so it is looked for.
        while not select.select([descriptor], [], [], REPEAT_S if stopping.asked() else SIGNAL_S)[
            0
        ]:
            if stopping.asked():
                _ask_to_end([process.pid] if processes == 1 else children(process.pid))
    finally:
        os.close(descriptor)
    return process.wait()


def _ask_to_end(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _failure(error: Path, status: int, processes: int, kept: int) -> BaseException:
    """What to raise for workers that failed or were asked to end, by what each of them said.

    Args:
        error: where they said it.
        status: of their end.
        processes: how many there were.
        kept: a descriptor of the memory where they said it on a full disk.
    """
    said = [read_object(path) for path in sorted(error.parent.glob(error_file(error, "*").name))]
    said += json_lines(os.pread(kept, os.fstat(kept).st_size, 0).decode(errors="replace"))
    causes = [one for one in said if one.get("type") not in (STOPPED, LOST, None)]
    if causes:
        return JobError(f"{causes[0]['type']}: {causes[0]['message']}")
    stopped = [one["message"] for one in said if one.get("type") == STOPPED]
    # When one of several dies, the launcher asks the others to end; nobody asked this job.
    if stopping.asked() or (stopped and processes == 1):
        return Stopped((stopped or ["stopped by SIGTERM"])[0])
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    who = "a worker" if processes == 1 else f"one of {processes} workers"
    short = full([error.parent, Path(tempfile.gettempdir()), Path(SHARED_MEMORY)])
    if short:
        rooms = ", ".join(dict.fromkeys(map(free_space, short)))
        return JobError(
            f"{who} died without a message ({how}), with no space left: {rooms}; free some, then run again"
        )
    return JobError(
        f"{who} died without a message ({how}); was it killed, or out of memory? If of memory: lower "
        "training.validation.batch_size (a training goes on from its last checkpoint), or per_device_batch_size in the "
        "cell's budget (it begins anew); finished cells that the change applies to are made again"
    )


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a work folder; an orphan of a killed run that still holds it is ended first."""
    with path.open("a+", encoding="utf-8") as stream:
        if not try_lock(stream):
            _end_holder(stream)
        stream.seek(0)
        stream.truncate()
        me = {"pid": os.getpid(), "started": started(os.getpid()), "host": os.uname().nodename}
        me |= {"run": os.environ.get(RUN, "")}
        stream.write(json.dumps(me))
        stream.flush()
        yield


def _end_holder(stream: Any) -> None:
    """End the job that outlived its Snakemake: it holds the lock, so it is alive and it is ours.

    Its work is not lost: this attempt goes on from its last checkpoint.
    """
    deadline = time.monotonic() + TAKEOVER_WAIT_S
    while not try_lock(stream):
        holder = _holder(stream)
        if holder and holder["host"] != os.uname().nodename:
            raise JobError(
                f"{stream.name} is held by process {holder['pid']} on {holder['host']}, an earlier attempt "
                "at this cell that still runs; wait for it or end it there, then run again"
            )
        if holder and _is_asked_for(holder):
            raise JobError(
                f"{stream.name} is held by process {holder['pid']}, whose Snakemake still runs "
                "(another run of this study); wait for that run or end it, then run again"
            )
        if holder:
            _end(holder["pid"], holder["started"])
        if time.monotonic() > deadline:
            raise JobError(
                f"{stream.name} is held by {holder or 'a process that did not name itself'} for a minute"
            )
        time.sleep(0.1)
    time.sleep(1)  # its workers die by the kernel's hand, a moment after it


def _is_asked_for(holder: Mapping[str, Any]) -> bool:
    """Tell whether another Snakemake that is alive waits for a lock's holder."""
    run = holder.get("run", "")
    return bool(run) and run != os.environ.get(RUN) and is_alive(run)


def _holder(stream: Any) -> dict[str, Any] | None:
    """Who holds the lock; None while a new holder has not written itself down yet."""
    stream.seek(0)
    try:
        holder: dict[str, Any] = json.loads(stream.read())
    except ValueError:
        return None
    return holder


def _end(pid: int, since: int | None) -> None:
    """Kill a process by its number, unless that number now belongs to another one."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if started(pid) == since:
                print(
                    f"longwatt: process {pid}, an earlier attempt at this cell, still runs; ending it"
                )
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _report_failure(error: BaseException, log: str, failure: str | None, terminal: int) -> None:
    label = os.environ[LABEL]
    if isinstance(error, INTERRUPTIONS):
        said = str(error) if isinstance(error, Stopped) else "interrupted"
        _tell(
            terminal,
            f"{label}: {said}{'' if GOES_ON in said else f'; {GOES_ON} from what is saved'}\n",
        )
        return
    message = str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
    if is_full(error) and not isinstance(error, JobError):
        # Results may lie on a disk of their own, behind a link.
        places = (Path(log).parent, Path.cwd(), Path("results"), Path(tempfile.gettempdir()))
        message = f"{type(error).__name__}: {said_of_full(error, *places)}"
    _tell(terminal, f"{label}: FAILED: {message}\n{label}: see {log}\n")
    if failure is not None:
        record = {
            "message": message,
            "log": log,
            "wall_time_s": time.time(),
            "label": label,
        }
        with contextlib.suppress(OSError):
            write_json(failure, record)


def _tell(terminal: int, text: str) -> None:
    with contextlib.suppress(OSError):  # it may be closed by now
        os.write(terminal, text.encode())
