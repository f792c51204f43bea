"""The device a worker computes on: its precision, the memory it may take, and what it took."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any

import torch

GIB = 2**30


def prepare(budget: Mapping[str, Any]) -> torch.device:
    """This process's device, held to a budget's precision and memory.

    Args:
        budget: gpus, precision, and memory_gib_per_gpu (None for all there is).
    """
    # TF32 is stated, since its default has changed between torch versions.
    torch.backends.cuda.matmul.allow_tf32 = budget["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = budget["precision"] == "tf32"
    if not budget["gpus"]:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if budget["memory_gib_per_gpu"] is not None:
        total = torch.cuda.get_device_properties(device).total_memory / GIB
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget["memory_gib_per_gpu"] / total), device)
    return device


def synchronize(device: torch.device) -> None:
    """Wait for work queued on a GPU; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory of this process so far: reserved on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def peak_memory_kind(device: torch.device) -> str:
    """What `peak_memory_gib` speaks of."""
    return "gpu_reserved" if device.type == "cuda" else "process_rss"


def name(device: torch.device) -> str:
    """The device as its vendor calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
