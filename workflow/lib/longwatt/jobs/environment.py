"""Record what a job computes on: devices, processor, threads, processes and libraries."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from longwatt.energy.log import append
from longwatt.energy.meters.processor import processor
from longwatt.files import json_lines
from longwatt.jobs import distributed, pinning, waiting
from longwatt.models.family import Family
from longwatt.progress import say
from longwatt.study.summary_columns import BETWEEN_VALUES

CHANGES_NO_RESULT = "It tells the versions in force, which artefacts record."

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
NOTES = "environments.jsonl"  # in a work folder, one line for each attempt


def machine_facts(budget: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what this process computes on: devices, processor, threads and versions."""
    numbers = range(torch.cuda.device_count() if budget["gpus"] else 0)
    kinds = sorted({torch.cuda.get_device_name(number) for number in numbers})
    return {
        "device": " + ".join(kinds) if budget["gpus"] else "cpu",
        "processor": processor(),
        "threads": torch.get_num_threads(),  # in each process
        "wait_policy": waiting.described(os.environ),
        "pinned": pinning.bound_cores(os.environ),
        "processes": distributed.world_size(),
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in PACKAGES},
        },
    }


def note(folder: Path | str, budget: Mapping[str, Any], fresh: bool, **facts: Any) -> None:
    """Note what an attempt computes on, in the main process, without earlier notes if `fresh`.

    More facts may be given, by name.
    """
    if distributed.rank() > 0:
        return
    path = Path(folder) / NOTES
    if fresh:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, {**machine_facts(budget), **facts})


def noted(folder: Path | str, **now: str) -> dict[str, Any]:
    """Describe what all attempts with kept work computed on, with differing values joined.

    Args:
        now: values that may have changed since this attempt was noted.
    """
    path = Path(folder) / NOTES
    found = _together(json_lines(path.read_text(encoding="utf-8")) if path.exists() else [])
    return {**found, **{name: joined([str(found.get(name, n)), n]) for name, n in now.items()}}


def say_attention(family: Family) -> None:
    """Say why a built model takes another path of attention than chosen."""
    if family.attention_reason and distributed.rank() == 0:
        say(f"attention is {family.attention}: {family.attention_reason}")


def _together(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for attempt in attempts for name in attempt)
    return {name: _value([attempt.get(name) for attempt in attempts]) for name in names}


def _value(values: list[Any]) -> Any:
    """Merge values: one if all are alike, mappings by name, and others joined."""
    distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    if len(distinct) == 1:
        return distinct[0]
    if all(isinstance(value, dict) for value in distinct):
        return _together(distinct)
    return joined(map(str, distinct))


def joined(values: Iterable[str]) -> str:
    """Join the differing values of attempts or batches, in the order given."""
    each = (part for value in values for part in value.split(BETWEEN_VALUES))
    return BETWEEN_VALUES.join(dict.fromkeys(each))
