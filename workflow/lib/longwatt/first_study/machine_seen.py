"""Find the devices that a first study is written for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from longwatt.gpus import listing


@dataclass(frozen=True)
class Machine:
    """The devices found here.

    Attributes:
        gpus: how many.
        gpu: name of the first, empty without any.
        gpu_gib: memory of the smallest, None where it is unknown or there is none.
        cores: usable cores of the CPU.
    """

    gpus: int
    gpu: str
    gpu_gib: float | None
    cores: int

    @property
    def described(self) -> str:
        """Words on what was found."""
        if not self.gpus:
            return f"{self.cores} cores of a CPU, and no GPU was found"
        memory = f", {self.gpu_gib:.0f} GiB each" if self.gpu_gib else ""
        return f"{self.gpus} x {self.gpu}{memory}"


def machine_here() -> Machine:
    """Look at this machine, whose broken driver counts as no GPU."""
    try:
        found = listing.list_devices()
    except listing.GpuError:
        found = []
    sizes = [one.memory_gib for one in found if one.memory_gib is not None]
    cores = len(os.sched_getaffinity(0))
    return Machine(len(found), found[0].name if found else "", min(sizes, default=None), cores)
