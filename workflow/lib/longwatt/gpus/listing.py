"""This machine's GPUs, as NVML and CUDA_VISIBLE_DEVICES name them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from longwatt.disk_space import GIB

CHANGES_NO_RESULT = "It says which devices a job gets, which its result records."

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"


class GpuError(RuntimeError):
    """GPUs cannot be had as asked. The message says what to do."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG slice that an outer CUDA_VISIBLE_DEVICES names.

    Attributes:
        uuid: its entry in CUDA_VISIBLE_DEVICES.
        index: NVML (PCI) index; None for a MIG slice.
        memory_gib: total memory; None where it cannot be read.
    """

    uuid: str
    index: int | None
    name: str
    memory_gib: float | None


def list_devices() -> list[Gpu]:
    """Return NVML's devices in PCI order, within an outer CUDA_VISIBLE_DEVICES.

    There are none without NVML. As in CUDA the variable's list ends at a negative or empty entry.
    An unknown or repeated entry, for which CUDA would silently show fewer devices, is refused.

    Raises:
        GpuError: CUDA_VISIBLE_DEVICES has an entry that is not here or is ambiguous, or the driver
            fails.
    """
    found = present()
    visible = os.environ.get(VISIBLE_VARIABLE)
    return found if visible is None or not found else _restrict(found, visible, VISIBLE_VARIABLE)


def present() -> list[Gpu]:
    """Return NVML's devices in PCI order (none without NVML), or raise GpuError if it fails."""
    nvml = _initialised_nvml()
    if nvml is None:
        return []
    try:
        found = [_nvml_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        problem = f"does not answer ({error}); see what `nvidia-smi` says"
        raise GpuError(f"the NVIDIA driver {problem}") from error
    finally:
        nvml.nvmlShutdown()
    return [device for device in found if device]


def named(wanted: str, source: str) -> list[Gpu]:
    """Return the devices that a list names.

    Args:
        wanted: UUIDs (or unambiguous beginnings of them) or NVML indices, with commas between.
        source: where the list was given, for messages.

    Raises:
        GpuError: an entry is not here, is ambiguous or is named twice.
    """
    return _restrict(present(), wanted, source)


def _initialised_nvml() -> Any:
    """Return the NVML binding, to be shut down (None without an NVIDIA driver)."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if error.value in absent:
            return None
        # A driver that is there and broken is not a machine without GPUs.
        problem = f"does not start ({error}); see what `nvidia-smi` says"
        raise GpuError(f"the NVIDIA driver {problem}") from error
    return pynvml


def _nvml_device(nvml: Any, index: int) -> Gpu | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NO_PERMISSION:  # counted, but not given to this job
            return None
        raise
    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    memory_gib = None
    with contextlib.suppress(nvml.NVMLError):  # GPUs that share the CPU's memory do not say
        memory_gib = float(nvml.nvmlDeviceGetMemoryInfo(handle).total) / GIB
    return Gpu(decoded(uuid), index, decoded(name), memory_gib)


def decoded(value: str | bytes) -> str:
    """Return a text of NVML's, which old bindings return as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _restrict(found: Sequence[Gpu], wanted: str, source: str) -> list[Gpu]:
    chosen: list[Gpu] = []
    for entry in entries(wanted):
        device = _named(found, entry, source)
        if device in chosen:
            consequence = "; CUDA would then show no GPU" if source == VISIBLE_VARIABLE else ""
            raise GpuError(f"{source}={wanted} names {device.uuid} twice{consequence}")
        chosen.append(device)
    return chosen


def entries(visible: str) -> Iterator[str]:
    """Yield the entries of a list like CUDA_VISIBLE_DEVICES, up to the last that CUDA reads."""
    for entry in (part.strip() for part in visible.split(",")):
        # A negative index ends CUDA's list, NoDevFiles is Slurm's entry for no GPU.
        if not entry or re.fullmatch(r"-\d+|NoDevFiles", entry):
            return
        yield entry


def _named(found: Sequence[Gpu], entry: str, source: str) -> Gpu:
    if entry.startswith("MIG-"):
        return Gpu(entry, None, "MIG slice", None)
    if re.fullmatch(r"[0-9]+", entry):
        return _by_index(found, int(entry), source)
    matching = [one for one in found if entry.startswith("GPU-") and one.uuid.startswith(entry)]
    if len(matching) != 1:
        problem = "fits several GPUs" if matching else "is not here"
        raise GpuError(f"{source} names {entry}, which {problem}; here: {_known(found)}")
    return matching[0]


def _by_index(found: Sequence[Gpu], index: int, source: str) -> Gpu:
    mixed = source == VISIBLE_VARIABLE and len({device.name for device in found}) > 1
    if mixed and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise GpuError(
            f"{source} holds indices and this machine has different GPU models, so CUDA's order "
            "(fastest first) is not NVML's; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name GPUs by UUID"
        )
    if index >= len(found):
        raise GpuError(f"{source} names GPU {index}, which is not here; here: {_known(found)}")
    return found[index]


def _known(found: Sequence[Gpu]) -> str:
    return ", ".join(f"{device.index} = {device.uuid}" for device in found) or "no GPU"
