"""Record what a job computes on: devices, processor, threads, processes and libraries."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from longwatt import distributed, waiting
from longwatt.differences import BETWEEN
from longwatt.energy.log import append
from longwatt.provenance import json_lines

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
CPU_FACTS = Path("/proc/cpuinfo")
NAMES = ("model name", "Hardware", "cpu model")  # of a processor, by architecture


def environment(budget: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what this process computes on.

    Args:
        budget: with its gpus.

    Returns:
        device (as its vendor calls it, `cpu` without), processor, threads (of torch, in each process), wait_policy (how
        idle threads wait), processes and versions.
    """
    return {
        "device": _devices() if budget["gpus"] else "cpu",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "wait_policy": waiting.described(os.environ),
        "processes": distributed.world_size(),
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in PACKAGES},
        },
    }


def _devices() -> str:
    """Name every kind of GPU among those that this job leased."""
    names = (torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    return " + ".join(sorted(set(names)))


def processor() -> str:
    """Name the processor's model, or where the kernel does not tell its architecture."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    pairs = [line.partition(":") for line in lines if ":" in line]
    known = {name.strip(): value.strip() for name, _, value in pairs}
    return next((known[name] for name in NAMES if known.get(name)), platform.machine() or "unknown")


def note(folder: Path | str, budget: Mapping[str, Any], fresh: bool) -> None:
    """Note what an attempt computes on; only the main process does.

    Args:
        folder: the work folder.
        budget: of the cell.
        fresh: whether nothing of an earlier attempt is kept, whose notes then go.
    """
    if distributed.rank() > 0:
        return
    path = _notes(folder)
    if fresh:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, environment(budget))


def noted(folder: Path | str) -> dict[str, Any]:
    """Describe what all attempts computed on whose work was kept; values in which they differ stand side by side."""
    path = _notes(folder)
    attempts = json_lines(path.read_text(encoding="utf-8")) if path.exists() else []
    return _together(attempts)


def _notes(folder: Path | str) -> Path:
    return Path(folder) / "environments.jsonl"


def _together(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for attempt in attempts for name in attempt)
    return {name: _value([attempt.get(name) for attempt in attempts]) for name in names}


def _value(values: list[Any]) -> Any:
    """One value if all are alike; of mappings name by name, and others side by side."""
    distinct = list(_distinct(values))
    if len(distinct) == 1:
        return distinct[0]
    if all(isinstance(value, dict) for value in distinct):
        return _together(distinct)
    return BETWEEN.join(map(str, distinct))


def _distinct(values: Iterable[Any]) -> Iterable[Any]:
    return {json.dumps(value, sort_keys=True): value for value in values}.values()
