"""The processor of this machine, as its kernel tells it.

Energy logs hold these facts, so that the watts of a job's own machine can be looked up wherever its
log is read.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHANGES_NO_RESULT = "It describes the processor in a log; how joules are made of that counts."

FACTS_VARIABLE = "LONGWATT_CPUINFO"
CPU_FACTS = "/proc/cpuinfo"
KERNEL_RELEASE = Path("/proc/sys/kernel/osrelease")
PROCESSOR_NAMES = ("model name", "Hardware", "cpu model")  # of a processor, by architecture
BOARD = "Model"  # of a single-board computer, whose processor tells no name of its own
HYPERVISOR = "hypervisor"  # a flag that x86 processors show to guests
WSL = "microsoft"  # in the release of the kernel that Windows runs


def processor() -> str:
    """Name the processor's model, or its architecture where the kernel does not tell."""
    return _name(_pairs())


def processor_facts() -> dict[str, Any]:
    """Describe this machine's processor.

    Returns:
        name: as `processor`.
        board: the computer's name where the kernel tells it beside the processor (else None).
        cpus_per_socket: CPUs of one socket, a hyper-thread counting as one; None where the kernel
            does not tell. A virtual machine shows its share alone.
        cores_per_socket: physical cores of one socket, likewise.
        virtual: whether it is a guest of a hypervisor; None where processors do not tell.
        wsl: whether Windows runs this Linux.
    """
    pairs = _pairs()
    flags = pairs.get("flags")
    return {
        "name": _name(pairs),
        "board": pairs.get(BOARD),
        "cpus_per_socket": _number(pairs.get("siblings")),
        "cores_per_socket": _number(pairs.get("cpu cores")),
        "virtual": None if flags is None else HYPERVISOR in flags.split(),
        "wsl": WSL in _text(KERNEL_RELEASE).lower(),
    }


def _pairs() -> dict[str, str]:
    """Return the last value of every name: sockets of one machine are alike."""
    lines = _text(Path(os.environ.get(FACTS_VARIABLE) or CPU_FACTS)).splitlines()
    pairs = [line.partition(":") for line in lines if ":" in line]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _name(pairs: Mapping[str, str]) -> str:
    known = (pairs[name] for name in PROCESSOR_NAMES if pairs.get(name))
    return next(known, platform.machine() or "unknown")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
