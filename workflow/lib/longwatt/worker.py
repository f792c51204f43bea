"""What every launched worker does around its work.

It reads its specification, dies with its launcher, and says what went wrong in one line.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.energy.marks import Marker
from longwatt.provenance import write_json

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class WorkerError(RuntimeError):
    """A worker cannot do its work here; says what is missing."""


@dataclass(frozen=True)
class Spec:
    """What a job hands to its workers, as JSON.

    Attributes:
        settings: the stage's narrow settings.
        paths: where inputs, outputs and the work folder are.
        identity: digests that must agree for earlier work to be continued; empty where none ever is.
        provenance: the stamp that the stage's artefact carries.
        error: where to write what went wrong.
        energy_log: where to mark phases; None marks none.
    """

    settings: Mapping[str, Any]
    paths: Mapping[str, Any]
    identity: Mapping[str, str]
    provenance: Mapping[str, Any]
    error: str
    energy_log: str | None = None

    def marker(self) -> Marker:
        """Marks this job's phases, with what the leased GPUs' counters say."""
        return Marker(Path(self.energy_log) if self.energy_log else None, leased_uuids())


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent ends, kill -9 included (Linux; elsewhere nothing).

    An orphaned worker would keep its GPU busy after the lease on it was freed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number)


def leased_uuids() -> list[str]:
    """The GPUs that this job leased; the lease leaves them as UUIDs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [uuid for uuid in visible.split(",") if uuid.startswith(("GPU-", "MIG-"))]


def run(work: Callable[[Spec], None]) -> None:
    """Run a worker's function on the specification named on the command line."""
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit("longwatt: the launcher is gone")
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        _check_devices(spec)
        if os.environ.get("RANK", "0") == "0":
            spec.marker().mark("load")  # from here on the GPU is no longer idle
        with _process_group(spec):
            work(spec)
    except Exception as error:
        write_json(spec.error, {"type": type(error).__name__, "message": str(error)})
        raise


def _check_devices(spec: Spec) -> None:
    """Refuse a GPU budget where torch sees no GPU; the Trainer would quietly train on the CPU."""
    wanted = spec.settings["budget"]["gpus"]
    if not wanted:
        return
    import torch

    if torch.cuda.device_count() < wanted:
        raise WorkerError(
            f"the cell's budget has {wanted} GPU(s) but torch {torch.__version__} sees {torch.cuda.device_count()} of "
            f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}; is this a CUDA build of torch?"
        )


class _process_group:
    """Joins the workers before any library does, and leaves cleanly."""

    def __init__(self, spec: Spec) -> None:
        budget = spec.settings["budget"]
        self.backend = "nccl" if budget["gpus"] else "gloo"
        self.many = int(os.environ.get("WORLD_SIZE", "1")) > 1

    def __enter__(self) -> None:
        if self.many:
            import torch

            if self.backend == "nccl":
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            torch.distributed.init_process_group(self.backend)

    def __exit__(self, *exc: object) -> None:
        if self.many:
            import torch

            torch.distributed.destroy_process_group()
