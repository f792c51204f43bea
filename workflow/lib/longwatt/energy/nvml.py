"""Sensors of GPUs, read through NVML; with `longwatt.gpus` the only place that touches the driver.

NVML: https://docs.nvidia.com/deploy/nvml-api/. Whatever cannot be read is None, never 0.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from longwatt.gpus import decoded

POWER_AVERAGE, POWER_INSTANT = (
    185,
    186,
)  # NVML_FI_DEV_POWER_*: mean of a second, and the sensor's newest reading
# NVML_ERROR_*: asking again cannot help.
NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND = 3, 4, 13
GONE = (
    1,
    9,
    15,
    16,
)  # uninitialised, driver not loaded, GPU lost, GPU needs a reset: its handle is worth nothing
READ_LIMIT_NS = 100_000_000  # a counter that took longer to read moved meanwhile
MIB = 2**20
MIG = (
    "the GPU is cut into MIG slices; NVML counts the energy of the whole board, which no slice can be billed for. "
    "Meter a whole GPU (nvidia-smi -mig 0), or run without an energy figure"
)
SENSORS = ("counter", "instant", "average", "usage", "utilization", "memory")


class Gpus:
    """Sensors of some GPUs, in the order of their UUIDs.

    Args:
        uuids: full UUIDs; empty on a CPU, which then never loads NVML.

    Attributes:
        uuids: as given.
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
            self._refused = {
                number for number, handle in enumerate(self._handles) if handle is None
            }

    def describe(self) -> list[dict[str, Any]]:
        """What each GPU is and which of its sensors answer; `refused` says why one is not metered at all."""
        return [self._describe(number, uuid) for number, uuid in enumerate(self.uuids)]

    def powers_mw(self) -> tuple[list[int | None], list[int | None]]:
        """(newest reading, mean of the last second) of every GPU in mW.

        Where the driver lacks these fields, the first is what nvmlDeviceGetPowerUsage says.
        """
        pairs = [self._powers(number) for number in range(len(self.uuids))]
        return [instant for instant, _ in pairs], [average for _, average in pairs]

    def counters_mj(
        self, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> tuple[list[int], list[int | None]]:
        """When each counter was read, and the energy since the driver was loaded in mJ (Volta and newer).

        Counters move about every 100 ms; one that took as long to read (a driver or a process that hung) is None.
        """
        pairs = [self._counter(number, now_ns) for number in range(len(self.uuids))]
        return [moment for moment, _ in pairs], [value for _, value in pairs]

    def states(self) -> dict[str, list[Any]]:
        """Utilisation (%), memory in use (MiB), temperature (C), SM and memory clock (MHz), throttle reasons (bits)."""
        return {
            "util_pct": self._all(
                lambda n: getattr(self._read(n, "nvmlDeviceGetUtilizationRates"), "gpu", None)
            ),
            "memory_mib": self._all(self._memory_mib),
            "temperature_c": self._all(lambda n: self._read(n, "nvmlDeviceGetTemperature", 0)),
            "sm_mhz": self._all(lambda n: self._read(n, "nvmlDeviceGetClockInfo", 1)),
            "memory_mhz": self._all(lambda n: self._read(n, "nvmlDeviceGetClockInfo", 2)),
            "throttle": self._all(self._throttle),
        }

    def reopen(self) -> None:
        """Look again for GPUs that were lost (fallen off the bus, driver reloaded)."""
        lost = {
            number for number, handle in enumerate(self._handles) if handle is None
        } - self._refused
        for number in lost:
            self._handles[number] = self._handle(self.uuids[number])
        if lost and not any(
            self._handles
        ):  # starting NVML anew can take seconds, which others must not wait for
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
        if uuid.startswith("MIG-") or self._mig(handle):
            self.problems[uuid] = MIG
            return None
        return handle

    def _mig(self, handle: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(handle)[0])
        except (
            self._nvml.NVMLError,
            AttributeError,
        ):  # GPUs without MIG, drivers and bindings before it
            return False

    def _all(self, read: Callable[[int], Any]) -> list[Any]:
        return [read(number) for number in range(len(self.uuids))]

    def _read(self, number: int, function: str, *arguments: Any) -> Any:
        """One reading of one GPU; None where there is none, and then never asked for again if that cannot change."""
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
        if error.value in (*GONE, NO_PERMISSION):  # what a GPU has not got, its `sensors` say
            self.problems.setdefault(self.uuids[number], f"{function}: {error}")

    def _counter(self, number: int, now_ns: Callable[[], int]) -> tuple[int, int | None]:
        before = now_ns()
        value = self._read(number, "nvmlDeviceGetTotalEnergyConsumption")
        after = now_ns()
        return (before + after) // 2, value if after - before < READ_LIMIT_NS else None

    def _powers(self, number: int) -> tuple[int | None, int | None]:
        fields = self._read(number, "nvmlDeviceGetFieldValues", [POWER_INSTANT, POWER_AVERAGE])
        instant, average = (
            (None, None) if fields is None else (_value(fields[0]), _value(fields[1]))
        )
        return self._read(
            number, "nvmlDeviceGetPowerUsage"
        ) if instant is None else instant, average

    def _memory_mib(self, number: int) -> int | None:
        memory = self._read(number, "nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used) // MIB

    def _throttle(self, number: int) -> int | None:
        reasons: int | None = self._read(number, "nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # its name before driver 535
            reasons = self._read(number, "nvmlDeviceGetCurrentClocksThrottleReasons")
        return reasons

    def _describe(self, number: int, uuid: str) -> dict[str, Any]:
        if self._handles[number] is None:
            return {
                "uuid": uuid,
                "refused": self.problems.get(uuid) or self.problems.get("", "not found"),
            }
        pci = self._read(number, "nvmlDeviceGetPciInfo")
        return {
            "uuid": uuid,
            "refused": None,
            "name": _text(self._read(number, "nvmlDeviceGetName")),
            "bus_id": None if pci is None else _text(pci.busId),
            "power_limit_w": _watts(self._read(number, "nvmlDeviceGetEnforcedPowerLimit")),
            "default_power_limit_w": _watts(
                self._read(number, "nvmlDeviceGetPowerManagementDefaultLimit")
            ),
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
        fields = self._read(number, "nvmlDeviceGetFieldValues", [POWER_INSTANT, POWER_AVERAGE]) or (
            None,
            None,
        )
        readings = (
            self._read(number, "nvmlDeviceGetTotalEnergyConsumption"),
            fields[0] and _value(fields[0]),
            fields[1] and _value(fields[1]),
            self._read(number, "nvmlDeviceGetPowerUsage"),
            self._read(number, "nvmlDeviceGetUtilizationRates"),
            self._read(number, "nvmlDeviceGetMemoryInfo"),
        )
        return [
            name for name, reading in zip(SENSORS, readings, strict=True) if reading is not None
        ]

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
