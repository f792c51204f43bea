"""A stand-in for pynvml, for processes that tests and measurements start."""

from __future__ import annotations

import os
from pathlib import Path

# As much of pynvml as longwatt.gpus.leases uses; the GPUs come from an environment variable:
# uuid=name,...
STAND_IN = """
import os

NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_NO_PERMISSION = 12, 9, 4

class NVMLError(Exception):
    value = NVML_ERROR_DRIVER_NOT_LOADED

def _gpus():
    return [entry.split("=") for entry in os.environ.get("STAND_IN_GPUS", "").split(",") if entry]

def nvmlInit():
    if os.environ.get("STAND_IN_GPUS") == "broken":
        raise NVMLError("driver not loaded")

def nvmlShutdown():
    pass

def nvmlDeviceGetCount():
    return len(_gpus())

def nvmlDeviceGetHandleByIndex(index):
    return _gpus()[index]

def nvmlDeviceGetUUID(handle):
    return handle[0].encode()  # old bindings return bytes

def nvmlDeviceGetName(handle):
    return handle[1]

class _Memory:
    total = 48 * 2**30

def nvmlDeviceGetMemoryInfo(handle):
    if handle[1] == "odd":
        raise NVMLError("not supported")
    return _Memory
"""


def environment(folder: Path, count: int) -> dict[str, str]:
    """Return variables that show a process stand-in GPUs with leases of their own.

    Args:
        folder: where the stand-in module and the locks go; made if it is not there.
        count: GPUs of the machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pynvml.py").write_text(STAND_IN, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    uuids = ",".join(f"GPU-{number}=stand-in" for number in range(count))
    leases = str(folder / "leases")
    return {"PYTHONPATH": path, "STAND_IN_GPUS": uuids, "LONGWATT_LEASE_DIR": leases}
