"""The device a worker computes on: its precision, the memory it may take, and what it took."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from longwatt.worker import WorkerError

GIB = 2**30
# How torch, CUDA's libraries, NCCL, oneDNN, C++ and the kernel say that there is no memory.
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


def prepare(budget: Mapping[str, Any]) -> torch.device:
    """This process's device, held to a budget's precision and memory.

    Args:
        budget: gpus, processes, precision, and memory_gib_per_gpu (None for all there is; on a CPU it is what each
            process may take beside its libraries).
    """
    # TF32 is stated, since its default has changed between torch versions.
    torch.backends.cuda.matmul.allow_tf32 = budget["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = budget["precision"] == "tf32"
    if not budget["gpus"]:
        _limit_process(budget["memory_gib_per_gpu"])
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if budget["memory_gib_per_gpu"] is not None:
        total = torch.cuda.get_device_properties(device).total_memory / GIB
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, budget["memory_gib_per_gpu"] / total), device
        )
    return device


def _limit_process(gib: float | None) -> None:
    """Have the kernel refuse this process more memory than that, beyond what Python and its libraries hold by now."""
    if gib is not None:
        status = memory_status()
        _libraries["RssAnon"] = status["RssAnon"]
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = status["VmData"] + int(gib * GIB)
        resource.setrlimit(
            resource.RLIMIT_DATA,
            (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard),
        )


def memory_status() -> dict[str, int]:
    """Bytes of this process's memory, by the names of /proc/self/status (VmHWM, RssAnon, RssFile, ...)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.removesuffix(":"): int(kib) * 1024 for name, kib, _ in fields}


_libraries = {"RssAnon": 0}  # bytes of this process when its memory was limited


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, of a GPU or of this process."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in MEMORY_SIGNS)


@contextmanager
def memory_named(budget: Mapping[str, Any], advice: str) -> Iterator[None]:
    """Say what to set where the memory does not suffice.

    Args:
        budget: with its memory_gib_per_gpu.
        advice: what was tried and what to change.

    Raises:
        WorkerError: in place of the library's error.
    """
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
    """Wait for work queued on a GPU; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory of this process so far: reserved on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def peak_limited_gib(device: torch.device) -> float:
    """Most memory of this process so far, of the kind that a budget limits."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB
    status = memory_status()
    return (status["VmHWM"] - status["RssFile"] - status["RssShmem"] - _libraries["RssAnon"]) / GIB


def total_memory_gib(budget: Mapping[str, Any]) -> float:
    """Memory of a budget's device: one GPU's, or all of this machine's."""
    if budget["gpus"]:
        return torch.cuda.get_device_properties(0).total_memory / GIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def peak_memory_kind(device: torch.device) -> str:
    """What `peak_memory_gib` speaks of."""
    return "gpu_reserved" if device.type == "cuda" else "process_rss"
