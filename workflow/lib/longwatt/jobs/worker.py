"""Run a launched worker: read its specification, die with its launcher, report an error."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longwatt.disk_space import is_full, said_of_full
from longwatt.energy.marks import Marker
from longwatt.jobs import sigterm, start
from longwatt.jobs.errors import WorkerError
from longwatt.processes import lift_memory_limit
from longwatt.progress import outlast_full_disk
from longwatt.provenance.stamps import write_json
from longwatt.study.cells import device_count

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
STOPPED, LOST_KIND = "Stopped", "Lost"  # errors that are no cause: asked to end, and left alone
ERRORS = "LONGWATT_ERRORS"  # path to the job's memory, for errors that a full disk does not take


@dataclass(frozen=True)
class Spec:
    """The specification that a job hands to its workers, as JSON."""

    settings: Mapping[str, Any]  # the stage's narrow settings
    paths: Mapping[str, Any]  # where inputs, outputs and the work folder are
    # Digests that earlier work must match to be continued; empty if it never is.
    identity: Mapping[str, str]
    provenance: Mapping[str, Any]  # the stamp that the stage's artefact carries
    error: str  # where each process writes its error (`error_file`)
    energy_log: str | None = None  # where to mark phases; None marks none
    # Settings of how the work is carried out, which do not change its result.
    execution: Mapping[str, Any] = field(default_factory=dict)

    def marker(self) -> Marker:
        """Return a marker of this job's phases that reads the leased GPUs' counters."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        leased = [uuid for uuid in visible if uuid.startswith(("GPU-", "MIG-"))]
        return Marker(Path(self.energy_log) if self.energy_log else None, leased)


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Make the kernel end this process when its parent ends, kill -9 included (Linux only)."""
    # An orphaned worker would keep its GPU busy after the lease on it was freed.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number)


def run_worker(work: Callable[[Spec], None]) -> None:
    """Run a worker's function on the specification named on the command line, and end."""
    start.imported()
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # the parent died before the kernel was told
        sys.exit("longwatt: the launcher is gone")
    sigterm.listen()
    outlast_full_disk()
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    with _reported(spec):
        _check_devices(spec)
        if os.environ.get("RANK", "0") == "0":
            spec.marker().mark("load")  # from here on the GPU is no longer idle
        # Reported before this process leaves the others: they would report a lost process first.
        with _processes(spec), _reported(spec):
            work(spec)
    start.end()


@contextlib.contextmanager
def _reported(spec: Spec) -> Iterator[None]:
    """Leave an error of the block for the job, in this process's own file."""
    try:
        yield
    except sigterm.Stopped as stopped:
        _report(spec, STOPPED, str(stopped))
        sys.exit(f"longwatt: {stopped}")
    except Exception as error:
        lift_memory_limit()
        _report(spec, *_said(error, spec))
        raise


def error_file(error: str | Path, rank: int | str) -> Path:
    """Return the file for the error of a rank, or a pattern for `*`."""
    path = Path(error)
    return path.with_name(f"{path.stem}-{rank}{path.suffix}")


def _report(spec: Spec, kind: str, message: str) -> None:
    path = error_file(spec.error, os.environ.get("RANK", "0"))
    if path.exists():  # said where it happened
        return
    record = {"type": kind, "message": message}
    try:
        write_json(path, record)
    except OSError:  # a full disk: the job keeps memory for this
        if kept := os.environ.get(ERRORS):
            with contextlib.suppress(OSError), open(kept, "ab", buffering=0) as stream:  # noqa: PTH123
                stream.write((json.dumps(record) + "\n").encode())


def _said(error: Exception, spec: Spec) -> tuple[str, str]:
    """Return the kind of an error and its message, with advice where there is some."""
    from longwatt.jobs.distributed import lost_a_process
    from longwatt.jobs.torch_device import out_of_memory

    if not out_of_memory(error) and lost_a_process(error):
        died = "another process of this job died (killed, or out of memory?)"
        return LOST_KIND, f"{died}; the log may say why"
    kind = type(error).__name__
    if is_full(error) and not isinstance(error, WorkerError):  # that one says it itself
        return kind, said_of_full(error, Path(spec.error).parent, Path(tempfile.gettempdir()))
    return kind, str(error)


def _check_devices(spec: Spec) -> None:
    """Refuse to run on other devices than the budget has.

    With another number of processes the effective batch would be another one. Without a GPU that
    torch sees, the Trainer would quietly train on the CPU.
    """
    budget = spec.settings["budget"]
    processes, wanted = int(os.environ.get("WORLD_SIZE", "1")), budget["gpus"]
    if processes != device_count(budget):
        started = f"{processes} process(es) were started"
        raise WorkerError(f"the cell's budget has {device_count(budget)} device(s) but {started}")
    if not wanted:
        return
    import torch

    seen, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen < wanted:
        raise WorkerError(
            f"the cell's budget has {wanted} GPU(s) but torch {torch.__version__} sees {seen} of "
            f"CUDA_VISIBLE_DEVICES={visible}; is this a CUDA build of torch?"
        )


def _processes(spec: Spec) -> contextlib.AbstractContextManager[None]:
    """Join the workers of this job, before any library does it."""
    if os.environ.get("WORLD_SIZE", "1") == "1":  # without torch, which takes seconds to load
        return contextlib.nullcontext()
    from longwatt.jobs.distributed import joined_group

    return joined_group("nccl" if spec.settings["budget"]["gpus"] else "gloo")
