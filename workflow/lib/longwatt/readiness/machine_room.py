"""Compare what a study takes with what this machine has: memory, disk, devices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longwatt.disk_space import GIB
from longwatt.gpus import listing
from longwatt.plan.cell_cores import machine_memory_gib
from longwatt.plan.memory import CellMemory
from longwatt.plan.report import read_plan
from longwatt.readiness.findings import Findings
from longwatt.study.cells import LARGEST, MOST_TOKENS, step_batch
from longwatt.study.stages import Stages

# Forecasts of memory were up to 17 % off where they were compared (docs/how-to/plan.md): what is
# further above than this will not fit.
SURELY = 1.25


def check_machine(stages: Stages, found: Findings, gpus: int | None) -> None:
    """Add what does not fit into this machine.

    Args:
        stages: the study's jobs.
        found: what is added to.
        gpus: devices that may be used; None for those found here.
    """
    here = [] if gpus is not None else listing.list_devices()
    there = len(here) if gpus is None else gpus
    settings = {**stages.plan_settings(), "gpus_given": gpus, "gpus_found": len(here), "demo": None}
    plan = read_plan(settings, {})
    for name, why in plan.parameters.unknown.items():
        found.refuse(f"{stages.source}: models.{name} cannot be built: {why}")
    # A probe finds the largest batch, which then fits by itself.
    fixed = {name: one for name, one in plan.memories.items() if stages.probe(name) is None}
    sizes = [one.memory_gib for one in here if one.memory_gib]
    compare_memory(stages.source, fixed, found, machine_memory_gib(), min(sizes, default=None))
    compare_disk(sum(share.gib for share in plan.disk), found)
    found.checked.append(
        f"GPUs: the largest budget needs {_most_gpus(stages)}, {there} may be used"
    )


def _most_gpus(stages: Stages) -> int:
    return max(stages.gpus(name) for name in stages.cells)


def compare_memory(
    source: str,
    memories: Mapping[str, CellMemory],
    found: Findings,
    machine_gib: float,
    gpu_gib: float | None,
) -> None:
    """Compare forecasts of memory with the machine and with the budgets.

    Args:
        source: the study's file.
        memories: of cells whose batch is fixed.
        found: what is added to.
        machine_gib: memory of the machine.
        gpu_gib: memory of its smallest GPU, None where there is none or it is unknown.
    """
    advice = "lower seq_lens or the budget's batch, or take a smaller model"
    for name, cell in memories.items():
        limit = machine_gib if cell.on_cpu else gpu_gib
        where, needs = f"{source}: cell {name} takes", cell.most.total
        device = "this machine has" if cell.on_cpu else "the smallest GPU here has"
        if limit is not None and needs > limit:
            said = f"{where} {needs:.1f} GiB (forecast), but {device} {limit:.1f}; {advice}"
            (found.refuse if needs > SURELY * limit else found.note)(said)
        elif cell.exceeds:
            budget = f"its budget's memory_gib_per_gpu of {cell.limit_gib:g}"
            found.note(f"{where} {cell.most.limited:.1f} GiB (forecast), above {budget}; {advice}")
    peak = max((cell.most.total for cell in memories.values()), default=None)
    told = "a probe finds the batch that fits" if peak is None else f"{peak:.1f} GiB (forecast)"
    gpu = f", {gpu_gib:.1f} of a GPU" if gpu_gib is not None else ""
    found.checked.append(f"memory: {told} at most; {machine_gib:.1f} GiB of this machine{gpu}")


def compare_disk(needs_gib: float, found: Findings) -> None:
    """Compare the disk that a study takes with what is free in this folder."""
    state = os.statvfs(Path.cwd())
    free = state.f_bavail * state.f_frsize / GIB
    said = f"{needs_gib:.2f} GiB (estimated), {free:.1f} GiB are free at {Path.cwd()}"
    found.checked.append(f"disk: {said}")
    if needs_gib > free:
        found.refuse(
            f"the disk is too small: the study takes {said}; free some, or work in another folder"
        )


def small_splits(stages: Stages, rows: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield a sentence for each cell whose training split is smaller than one step.

    Args:
        stages: the study's jobs.
        rows: of each dataset, by split.
    """
    for name, cell in stages.cells.items():
        budget: Mapping[str, Any] = stages.finetune(name).settings["budget"]
        given, have = budget.get("per_device_batch_size"), rows.get(cell.dataset, {}).get("train")
        if have is None or MOST_TOKENS in budget or isinstance(given, Mapping):
            continue
        if given == LARGEST and not budget.get("effective_batch_size"):
            continue
        most = have if given in (LARGEST, None) else int(given)
        wanted = step_batch(max(1, most), budget).effective
        if have < wanted:
            yield (
                f"{stages.source}: budgets.{cell.budget} has {wanted} examples in each step, but "
                f"the training split of datasets.{cell.dataset} has {have}; lower its batch or its "
                "gradient_accumulation_steps"
            )
