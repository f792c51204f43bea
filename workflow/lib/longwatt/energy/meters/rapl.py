"""RAPL: the energy counters of a node's processors.

They count the whole node, so they are billed to a metered job that runs alone, and to none of
several. See https://www.kernel.org/doc/html/latest/power/powercap/powercap.html.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from longwatt.energy.clock import boot_id
from longwatt.gpus.leases import lock_folder
from longwatt.gpus.listing import GpuError
from longwatt.processes import try_lock

CHANGES_NO_RESULT = "It reads a processor's meters; how joules are made of it counts."

ROOT_VARIABLE = "LONGWATT_POWERCAP"
POWERCAP = "/sys/class/powercap"


class Rapl:
    """Processor packages and their memory, read by one job of this user at a time.

    Attributes:
        zones: name of each counter that is read; empty where none can be.
        ranges_uj: where each zone's counter starts again at 0.
        reason: why there is none.
    """

    def __init__(self) -> None:
        self.zones: list[str] = []
        self.reason: str | None = None
        self._files: list[Path] = []
        self.ranges_uj: list[int] = []
        self._claim_and_open()

    def energies_uj(self) -> list[int] | None:
        """Return each zone's counter in microjoules, which wraps at its `ranges_uj`."""
        try:
            return [int(path.read_text(encoding="ascii")) for path in self._files] or None
        except (OSError, ValueError):
            return None

    def others_were_refused(self) -> bool:
        """Return whether another metered job ran meanwhile, whose share is counted too."""
        if self._began_beside_others:
            return True
        try:
            boot, moment = self._others.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return False
        return boot == boot_id() and int(moment) >= self._since

    def _claim_and_open(self) -> None:
        readable = _readable_zones()
        if not readable:
            why = "root only since Linux 5.10, absent on most virtual machines"
            self.reason = f"no RAPL counter can be read here ({why})"
            return
        try:
            folder = lock_folder()
        except GpuError as error:
            self.reason = str(error)
            return
        self._others = folder / "rapl.others"
        self._since = time.monotonic_ns()
        self._lock = (folder / "rapl.lock").open("a")
        self._beside = self._others.open("a")
        if not try_lock(self._lock):
            try_lock(self._beside, fcntl.LOCK_SH)  # for as long as this job runs
            self._others.write_text(f"{boot_id()} {time.monotonic_ns()}", encoding="ascii")
            self.reason = "RAPL counts the whole node, and another metered job of this node runs"
            return
        self._began_beside_others = not try_lock(self._beside)
        fcntl.flock(self._beside, fcntl.LOCK_UN)
        self._files = [zone / "energy_uj" for zone in readable]
        self.zones = [f"{zone.name} {_text(zone / 'name')}" for zone in readable]
        self.ranges_uj = [int(_text(zone / "max_energy_range_uj") or 2**32) for zone in readable]


def can_be_read() -> bool:
    """Return whether this process can read a processor's counter."""
    return bool(_readable_zones())


def _readable_zones() -> list[Path]:
    return [zone for zone in _zones() if _readable(zone / "energy_uj")]


def _zones() -> list[Path]:
    """Return packages and their memory. Packages include cores and uncore."""
    root = Path(os.environ.get(ROOT_VARIABLE) or POWERCAP)
    found = sorted(root.glob("intel-rapl:*"))  # AMD's processors have this name too
    return [zone for zone in found if _text(zone / "name").startswith(("package", "dram"))]


def _readable(path: Path) -> bool:
    return _text(path).isdecimal()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
