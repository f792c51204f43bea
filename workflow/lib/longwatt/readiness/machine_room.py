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
from longwatt.plan.plan import Plan
from longwatt.plan.report import read_plan
from longwatt.readiness.findings import Findings
from longwatt.study.cells import LARGEST, MOST_TOKENS, step_batch
from longwatt.study.stages import Stages

CHANGES_NO_RESULT = "It says what would be refused, and runs nothing."

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
    _memory(plan, found, [one.memory_gib for one in here if one.memory_gib])
    _disk(plan, found)
    found.checked.append(
        f"GPUs: the largest budget needs {_most_gpus(stages)}, {there} may be used"
    )


def _most_gpus(stages: Stages) -> int:
    return max(stages.gpus(name) for name in stages.cells)


def _memory(plan: Plan, found: Findings, gpus_gib: list[float]) -> None:
    """Compare forecasts of memory with the machine and with the budgets."""
    machine, smallest = machine_memory_gib(), min(gpus_gib, default=None)
    peak = 0.0
    for name, cell in plan.memories.items():
        limit = machine if cell.on_cpu else smallest
        needs = cell.most.total
        peak = max(peak, needs)
        if _asks_for_largest(plan.stages, name):
            continue
        where = f"{plan.stages.source}: cell {name}"
        device = "this machine has" if cell.on_cpu else "the smallest GPU here has"
        advice = "lower seq_lens or the budget's batch, or take a smaller model"
        if limit is not None and needs > limit:
            said = f"{where} takes {needs:.1f} GiB (forecast), but {device} {limit:.1f}; {advice}"
            (found.refuse if needs > SURELY * limit else found.note)(said)
        elif cell.exceeds:
            found.note(_above_budget(where, cell))
    unit = f"{machine:.1f} GiB of this machine" if smallest is None else f"{smallest:.1f} of a GPU"
    found.checked.append(f"memory: {peak:.1f} GiB at the peak of a cell (forecast), {unit}")


def _above_budget(where: str, cell: CellMemory) -> str:
    return (
        f"{where} takes {cell.most.limited:.1f} GiB of a device (forecast), above its budget's "
        f"memory_gib_per_gpu of {cell.limit_gib:g}"
    )


def _asks_for_largest(stages: Stages, name: str) -> bool:
    """Check whether a probe finds the batch, which then fits by itself."""
    return stages.probe(name) is not None


def _disk(plan: Plan, found: Findings) -> None:
    needs = sum(share.gib for share in plan.disk)
    state = os.statvfs(Path.cwd())
    free = state.f_bavail * state.f_frsize / GIB
    said = f"{needs:.2f} GiB (estimated), {free:.1f} GiB are free at {Path.cwd()}"
    found.checked.append(f"disk: {said}")
    if needs > free:
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
