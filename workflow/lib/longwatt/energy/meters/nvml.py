"""Sensors of GPUs, read through NVML.

Only this module and `longwatt.gpus.leases` touch the driver. A value that cannot be read is None,
never 0. NVML: https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from longwatt.disk_space import MIB
from longwatt.gpus.listing import decoded

CHANGES_NO_RESULT = "It reads a GPU's meters; how joules are made of it counts."

# NVML_FI_DEV_POWER_*: mean of a second, and the sensor's newest reading
POWER_AVERAGE, POWER_INSTANT = 185, 186
# NVML_ERROR_*: asking again cannot help.
NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND = 3, 4, 13
# Uninitialised, driver not loaded, GPU lost, GPU needs a reset: its handle is worth nothing.
GONE = 1, 9, 15, 16
READ_LIMIT_NS = 100_000_000  # a counter that took longer to read moved meanwhile
MIG = (
    "the GPU is cut into MIG slices; NVML counts the energy of the whole board, which no slice can "
    "be billed for. Meter a whole GPU (nvidia-smi -mig 0), or run without an energy figure"
)
SENSORS = ("counter", "instant", "average", "usage", "utilization", "memory")


class GpuMeters:
    """Sensors of some GPUs, in the order of their UUIDs.

    Attributes:
        uuids: full UUIDs; empty on a CPU, which then never loads NVML.
        problems: why a GPU, or all of them (""), cannot be metered, by UUID.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        self.uuids = list(uuids)
        self.problems: dict[str, str] = {}
        self._nvml: Any = None
        self._handles: list[Any] = [None] * len(self.uuids)
        self._hopeless: set[tuple[int, str]] = set()
        self._refused: set[int] = set()
        if self.uuids:
            self._open()
            self._refused = {n for n, handle in enumerate(self._handles) if handle is None}

    def describe(self) -> list[dict[str, Any]]:
        """Return each GPU's facts and sensors, or why it is `refused`."""
        return [self._describe(number, uuid) for number, uuid in enumerate(self.uuids)]

    def powers_mw(self) -> tuple[list[int | None], list[int | None]]:
        """Return (newest readings, means of the last second) of all GPUs in mW.

        The first are those of nvmlDeviceGetPowerUsage where the driver lacks these fields.
        """
        pairs = [self._powers(number) for number in range(len(self.uuids))]
        return [instant for instant, _ in pairs], [average for _, average in pairs]

    def counters_mj(
        self, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> tuple[list[int], list[int | None]]:
        """Return when each counter was read, and its energy in mJ.

        Counters start when the driver is loaded, and exist since Volta. They move about every
        100 ms. One that took as long to read (a driver or a process that hung) is None.
        """
        pairs = [self._counter(number, now_ns) for number in range(len(self.uuids))]
        return [moment for moment, _ in pairs], [value for _, value in pairs]

    def states(self) -> dict[str, list[Any]]:
        """Return the state of all GPUs.

        Returns:
            By sensor, a value per GPU: utilisation (%), memory in use (MiB), temperature (C), SM
            and memory clock (MHz), throttle reasons (bits).
        """
        numbers = range(len(self.uuids))
        rates = [self._read(n, "nvmlDeviceGetUtilizationRates") for n in numbers]
        memories = [self._read(n, "nvmlDeviceGetMemoryInfo") for n in numbers]
        return {
            "util_pct": [getattr(rate, "gpu", None) for rate in rates],
            "memory_mib": [None if one is None else int(one.used) // MIB for one in memories],
            "temperature_c": [self._read(n, "nvmlDeviceGetTemperature", 0) for n in numbers],
            "sm_mhz": [self._read(n, "nvmlDeviceGetClockInfo", 1) for n in numbers],
            "memory_mhz": [self._read(n, "nvmlDeviceGetClockInfo", 2) for n in numbers],
            "throttle": [self._throttle(n) for n in numbers],
        }

    def reopen(self) -> None:
        """Look again for GPUs that were lost (fallen off the bus, driver reloaded)."""
        lost = {n for n, handle in enumerate(self._handles) if handle is None} - self._refused
        for number in lost:
            self._handles[number] = self._handle(self.uuids[number])
        # Starting NVML anew can take seconds, which others must not wait for.
        if lost and not any(self._handles):
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._open()

    def _open(self) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # any failure of a foreign driver means: not measured
            self.problems[""] = f"NVML does not start: {error}"
            return
        self._nvml = pynvml
        self._handles = [self._handle(uuid) for uuid in self.uuids]

    def _handle(self, uuid: str) -> Any:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        except (self._nvml.NVMLError, AttributeError) as error:
            self.problems[uuid] = f"NVML does not find it: {error}"
            return None
        sliced = uuid.startswith("MIG-")
        with contextlib.suppress(self._nvml.NVMLError, AttributeError):  # where MIG is unknown
            sliced = sliced or bool(self._nvml.nvmlDeviceGetMigMode(handle)[0])
        if sliced:
            self.problems[uuid] = MIG
        return None if sliced else handle

    def _read(self, number: int, function: str, *arguments: Any) -> Any:
        """Return one GPU's reading or None, without asking again for what can never come."""
        handle = self._handles[number]
        if handle is None or (number, function) in self._hopeless:
            return None
        try:
            return getattr(self._nvml, function)(handle, *arguments)
        except AttributeError:  # a binding that lacks it
            self._hopeless.add((number, function))
        except self._nvml.NVMLError as error:
            self._note(number, function, error)
        return None

    def _note(self, number: int, function: str, error: Any) -> None:
        if error.value in (NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND):
            self._hopeless.add((number, function))
        if error.value in GONE:
            self._handles[number] = None
        if error.value in (*GONE, NO_PERMISSION):  # `sensors` show what a GPU lacks
            self.problems.setdefault(self.uuids[number], f"{function}: {error}")

    def _counter(self, number: int, now_ns: Callable[[], int]) -> tuple[int, int | None]:
        before = now_ns()
        value = self._read(number, "nvmlDeviceGetTotalEnergyConsumption")
        after = now_ns()
        return (before + after) // 2, value if after - before < READ_LIMIT_NS else None

    def _power_fields(self, number: int) -> tuple[int | None, int | None]:
        fields = self._read(number, "nvmlDeviceGetFieldValues", [POWER_INSTANT, POWER_AVERAGE])
        return (_value(fields[0]), _value(fields[1])) if fields else (None, None)

    def _powers(self, number: int) -> tuple[int | None, int | None]:
        instant, average = self._power_fields(number)
        if instant is None:
            instant = self._read(number, "nvmlDeviceGetPowerUsage")
        return instant, average

    def _throttle(self, number: int) -> int | None:
        reasons: int | None = self._read(number, "nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # its name before driver 535
            reasons = self._read(number, "nvmlDeviceGetCurrentClocksThrottleReasons")
        return reasons

    def _describe(self, number: int, uuid: str) -> dict[str, Any]:
        if self._handles[number] is None:
            reason = self.problems.get(uuid) or self.problems.get("", "not found")
            return {"uuid": uuid, "refused": reason}
        pci = self._read(number, "nvmlDeviceGetPciInfo")
        default_limit = self._read(number, "nvmlDeviceGetPowerManagementDefaultLimit")
        return {
            "uuid": uuid,
            "refused": None,
            "name": _text(self._read(number, "nvmlDeviceGetName")),
            "bus_id": None if pci is None else _text(pci.busId),
            "power_limit_w": _watts(self._read(number, "nvmlDeviceGetEnforcedPowerLimit")),
            "default_power_limit_w": _watts(default_limit),
            "max_sm_mhz": self._read(number, "nvmlDeviceGetMaxClockInfo", 1),
            "max_memory_mhz": self._read(number, "nvmlDeviceGetMaxClockInfo", 2),
            "ecc": _first(self._read(number, "nvmlDeviceGetEccMode")),
            "mig": _first(self._read(number, "nvmlDeviceGetMigMode")),
            "persistence": self._read(number, "nvmlDeviceGetPersistenceMode"),
            "driver": self._system("nvmlSystemGetDriverVersion"),
            "nvml": self._system("nvmlSystemGetNVMLVersion"),
            "sensors": self._answering(number),
        }

    def _answering(self, number: int) -> list[str]:
        readings = (
            self._read(number, "nvmlDeviceGetTotalEnergyConsumption"),
            *self._power_fields(number),
            self._read(number, "nvmlDeviceGetPowerUsage"),
            self._read(number, "nvmlDeviceGetUtilizationRates"),
            self._read(number, "nvmlDeviceGetMemoryInfo"),
        )
        return [name for name, read in zip(SENSORS, readings, strict=True) if read is not None]

    def _system(self, function: str) -> str | None:
        with contextlib.suppress(self._nvml.NVMLError, AttributeError):
            return _text(getattr(self._nvml, function)())
        return None


def _value(field: Any) -> int | None:
    return int(field.value.uiVal) if field.nvmlReturn == 0 else None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _first(pair: Sequence[int] | None) -> int | None:
    return None if pair is None else pair[0]


def _text(value: str | bytes | None) -> str | None:
    return None if value is None else decoded(value)
