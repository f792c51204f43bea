"""Prepare a worker's device (precision, memory limit), and measure the memory it takes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from longwatt.disk_space import GIB
from longwatt.jobs.errors import WorkerError
from longwatt.progress import say

# Messages of torch, CUDA's libraries, NCCL, oneDNN, C++ and the kernel for a lack of memory.
MEMORY_SIGNS = (
    "out of memory",
    "_ALLOC_FAILED",
    "Failed to CUDA calloc",
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "std::bad_alloc",
    "Cannot allocate memory",
)
# What Linux says of a CPU, on x86 and on Arm: what shows products in bf16 there.
CPU_INFO, CPU_FLAGS = Path("/proc/cpuinfo"), ("flags", "Features")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
# What makes the kernel set a process's peak of resident memory back to what it holds: proc(5).
PEAKS, FORGET = Path("/proc/self/clear_refs"), "5"


def prepare(budget: Mapping[str, Any]) -> torch.device:
    """Return this process's device, limited to a budget's precision and memory.

    Its memory_gib_per_gpu is None for all there is; on a CPU the processes' libraries come on top.
    """
    # TF32 is stated, since its default has changed between torch versions.
    torch.backends.cuda.matmul.allow_tf32 = budget["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = budget["precision"] == "tf32"
    if not budget["gpus"]:
        first = os.environ.get("RANK", "0") == "0"  # of several processes
        if first and budget["precision"] == "bf16" and emulates_bf16():
            say(
                "WARNING: this CPU has no instructions for bf16, so torch emulates it: that was "
                "ten times slower than fp32. Set the budget's precision to fp32"
            )
        _limit_process(budget["memory_gib_per_gpu"])
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if budget["memory_gib_per_gpu"] is not None:
        total = torch.cuda.get_device_properties(device).total_memory / GIB
        fraction = budget["memory_gib_per_gpu"] / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, fraction), device)
    return device


def emulates_bf16() -> bool:
    """Check whether this machine's CPU lacks bf16, False where Linux does not say."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    said = [line.partition(":")[2].split() for line in lines if line.startswith(CPU_FLAGS)]
    return bool(said) and BF16_FLAGS.isdisjoint(said[0])


def _limit_process(gib: float | None) -> None:
    """Limit this process's memory, beyond what Python and its libraries hold by now."""
    if gib is not None:
        status = memory_status()
        _libraries["RssAnon"] = status["RssAnon"]
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = status["VmData"] + int(gib * GIB)
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def memory_status() -> dict[str, int]:
    """Return the sizes in /proc/self/status (VmHWM, RssAnon, RssFile, ...) in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.removesuffix(":"): int(kib) * 1024 for name, kib, _ in fields}


_libraries = {"RssAnon": 0}  # bytes of this process when its memory was limited


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU or this process lacked memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in MEMORY_SIGNS)


@contextmanager
def memory_named(budget: Mapping[str, Any], advice: str) -> Iterator[None]:
    """Raise a WorkerError with advice where a library reports a lack of memory."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        limit = budget["memory_gib_per_gpu"]
        under = f" (the budget's limit is {limit} GiB per device)" if limit else ""
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise WorkerError(f"out of memory{under}: {advice}. The library said: {said}") from error


def synchronize(device: torch.device) -> None:
    """Wait for work queued on a GPU, or return at once on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_gib(device: torch.device) -> float:
    """Return this process's peak memory: reserved on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def peak_limited_gib(device: torch.device) -> float:
    """Return this process's peak memory of the kind that a budget limits."""
    if device.type == "cuda":
        return peak_memory_gib(device)
    status = memory_status()
    return (status["VmHWM"] - status["RssFile"] - status["RssShmem"] - _libraries["RssAnon"]) / GIB


def forget_peak(device: torch.device) -> None:
    """Let `peak_limited_gib` tell the peak from now on, with unused memory given back.

    A kernel that does not allow it goes on with the old peak of a CPU.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        PEAKS.write_text(FORGET, encoding="ascii")


def total_memory_gib(budget: Mapping[str, Any]) -> float:
    """Return the memory of a budget's device: one GPU's, or all of this machine's."""
    if budget["gpus"]:
        return torch.cuda.get_device_properties(0).total_memory / GIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def peak_memory_kind(device: torch.device) -> str:
    """Name the kind of memory that `peak_memory_gib` measures."""
    return "gpu_reserved" if device.type == "cuda" else "process_rss"
