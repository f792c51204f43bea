"""Which GPUs to meter."""

from __future__ import annotations

import os
from pathlib import Path

from longwatt import gpus

VISIBLE, ALL = "visible", "all"


def choose(wanted: str) -> list[str]:
    """Full UUIDs of the GPUs that are asked for.

    Args:
        wanted: `visible` (those that CUDA_VISIBLE_DEVICES leaves: all if it is unset, none if it is empty), `all` of
            the machine, or a list of UUIDs or indices with commas.

    Raises:
        longwatt.gpus.GpuError: one of them is not here; the message names those that are.
    """
    if wanted == VISIBLE:
        devices = gpus.list_devices()
        if not devices:
            _check_that_none_is_hidden()
    else:
        devices = gpus.present() if wanted == ALL else gpus.named(wanted, "--gpus")
    return [device.uuid for device in devices]


def _check_that_none_is_hidden() -> None:
    """Refuse where GPUs may work though NVML is not there: their energy would be taken for that of the processors."""
    named = list(gpus.entries(os.environ.get(gpus.VISIBLE, "")))
    if not gpus.present() and (named or Path("/dev/nvidia0").exists()):
        said = (
            f"{gpus.VISIBLE}={os.environ[gpus.VISIBLE]} names GPUs"
            if named
            else "/dev/nvidia0 is here"
        )
        raise gpus.GpuError(
            f"{said}, but NVIDIA's library libnvidia-ml.so.1 is not, so that they cannot be metered; install it (in a "
            f"container: NVIDIA_DRIVER_CAPABILITIES=compute,utility), or hide them: {gpus.VISIBLE}= "
        )
