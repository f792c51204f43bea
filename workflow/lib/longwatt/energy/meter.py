"""Reads the leased GPUs' counters through NVML; the only reader of hardware in a training process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Meter:
    """Energy counters, utilisation and memory of some GPUs; None wherever a value cannot be read.

    Args:
        uuids: the GPUs, by UUID; empty on a CPU, which then never loads NVML.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        self._handles: dict[str, Any] = {}
        self._nvml: Any = None
        if not uuids:
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handles = {uuid: pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids}
            self._nvml = pynvml
        except Exception as error:  # any failure of a foreign driver means: not measured
            print(f"longwatt: GPU energy is not measured: {error}")

    def energy_mj(self) -> dict[str, int] | None:
        """Millijoules since driver load, by UUID (nvmlDeviceGetTotalEnergyConsumption)."""
        if self._nvml is None:
            return None
        try:
            read = self._nvml.nvmlDeviceGetTotalEnergyConsumption
            return {uuid: int(read(handle)) for uuid, handle in self._handles.items()}
        except self._nvml.NVMLError:
            return None

    def utilization_and_memory(self) -> tuple[float, float] | None:
        """Mean utilisation (%) and mean memory in use (bytes) over the GPUs, now."""
        if self._nvml is None:
            return None
        try:
            rates = [self._nvml.nvmlDeviceGetUtilizationRates(h).gpu for h in self._handles.values()]
            used = [self._nvml.nvmlDeviceGetMemoryInfo(h).used for h in self._handles.values()]
        except self._nvml.NVMLError:
            return None
        return sum(rates) / len(rates), sum(used) / len(used)
