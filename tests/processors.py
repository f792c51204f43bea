"""What kinds of machines say of their processors, as the kernel's /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

import pytest

RELEASE, WSL_RELEASE = "6.8.0-45-generic\n", "5.15.153.1-microsoft-standard-WSL2\n"


def x86(name: str, siblings: int, cores: int, cpus: int = 2, guest: bool = False) -> str:
    """CPUs of sockets with so many hyper-threads and cores each; one block of lines a CPU."""
    flags = "fpu vme sse2 ht avx2" + (" hypervisor" if guest else "")
    return "\n".join(
        f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\nmodel name\t: {name}\n"
        f"physical id\t: {cpu // siblings}\nsiblings\t: {siblings}\ncpu cores\t: {cores}\n"
        f"flags\t\t: {flags}\nbogomips\t: 5000.00\n"
        for cpu in range(cpus)
    )


def arm(implementer: str, part: str, board: str = "") -> str:
    """Four CPUs of an ARM processor, which has no name."""
    cpus = "\n".join(
        f"processor\t: {cpu}\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU part\t: {part}\n"
        for cpu in range(4)
    )
    return cpus + (f"\nRevision\t: c03114\nModel\t\t: {board}\n" if board else "")


LAPTOP = x86("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", 8, 4, cpus=8)
HYBRID = x86("13th Gen Intel(R) Core(TM) i9-13900K", 32, 24, cpus=32)
TWO_SOCKETS = x86("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", 64, 32, cpus=128)
EPYC = x86("AMD EPYC 7763 64-Core Processor", 128, 64, cpus=128)
EPYC_WITHOUT_SMT = x86("AMD EPYC 7763 64-Core Processor", 64, 64, cpus=64)
RYZEN = x86("AMD Ryzen 7 5800U with Radeon Graphics", 16, 8, cpus=16)
GUEST_OF_EPYC = x86("AMD EPYC 7763 64-Core Processor", 4, 2, cpus=4, guest=True)
GUEST_OF_XEON = x86("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", 2, 1, guest=True)
GUEST_OF_NEW_EPYC = x86("AMD EPYC 9V74 80-Core Processor", 4, 2, guest=True)
GUEST_OF_LAPTOP = x86("Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz", 2, 2, guest=True)
MASKED_EPYC = x86("AMD EPYC", 2, 2, guest=True)
MASKED_XEON = x86("Intel Xeon Processor (Skylake, IBRS)", 1, 1, guest=True)
MASKED_CLOUD = x86("Intel(R) Xeon(R) CPU @ 2.20GHz", 2, 1, guest=True)
UNKNOWN = x86("Hygon C86 7999 16-core Processor", 32, 16)
GRAVITON = arm("0x41", "0xd40")
AMPERE = arm("0x41", "0xd0c")
APPLE = arm("0x61", "0x022")
RASPBERRY = arm("0x41", "0xd08", "Raspberry Pi 4 Model B Rev 1.4")


def set_processor(
    folder: Path, patch: pytest.MonkeyPatch, text: str, release: str = RELEASE, machine: str = ""
) -> None:
    """Put another machine in this one's place, for this process and those that it starts."""
    (folder / "cpuinfo").write_text(text)
    (folder / "osrelease").write_text(release)
    patch.setenv("LONGWATT_CPUINFO", str(folder / "cpuinfo"))
    patch.setattr("longwatt.energy.meters.processor.KERNEL_RELEASE", folder / "osrelease")
    if machine:
        patch.setattr("platform.machine", lambda: machine)
