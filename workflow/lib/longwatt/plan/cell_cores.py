"""Decide the cores of each cell on the CPU, and how many run at once.

All cells of a study on the CPU have the same number of cores, so that their speeds compare. A cell
of several processes splits its cores among them, and has at least one for each. The number follows
from the study and the machine alone: not from what is downloaded later, nor from how many cells
there are, or a study that goes on would measure with other threads.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longwatt.disk_space import GIB
from longwatt.plan.model_shapes import AnyShape
from longwatt.plan.runtimes import RuntimeModel
from longwatt.plan.work import LARGEST_BATCH
from longwatt.processes import CGROUPS, quota_cores
from longwatt.study import cells as grid
from longwatt.study.stages import Stages

CORES_KEY = "cores_per_cell"  # of config.yaml
AUTO, ALL = "auto", "all"
# Tokens of a process's batch times the square of the model's width, up to which a cell has one
# core for each process. Two cells of one thread made 1.42 to 1.48 times the steps of one cell of
# two threads in the demo's LED (3.4e7), and 1.05 to 1.18 times at a width of 256 with 8,192 tokens
# (5.4e8). Beside a busy process it was 3.4 and 1.8 times (`python -m bench.cells_at_once`, two
# cores of an AMD EPYC, two rounds of 6 s). Nothing larger was measured.
SMALL_WORK = 6.0e8
# Up to so many cores all have cells. With more, one stays free for scores, recorders and Snakemake.
FEW_CORES = 4
FLOAT_BYTES = 4
# Of every parameter in training: weight, gradient and the optimiser's two moments.
FLOATS_OF_PARAMETERS = 4
# What a layer keeps of each token for its backward pass: so many times the width of the model, and
# of its feed-forward block. The leanest attention that was measured keeps 23 KB at a width of 256.
WIDTHS_KEPT, FFNS_KEPT = 12, 2
# Resident memory of a job's tree as measured, 0.6 GiB in all for a tiny model: a worker that has
# loaded torch and transformers and made some steps, and the job's own Snakemake and its recorder.
WORKER_GIB = 0.4
JOB_GIB = 0.12 + 0.04
# Files with the memory of a container, in bytes: of cgroup v2, then v1.
MEMORY_LIMITS = (CGROUPS / "memory.max", CGROUPS / "memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class CellWork:
    """The work of a cell as far as its study says it.

    Attributes:
        size: tokens of a process's batch times the square of the model's width.
        least_gib: memory that its job takes at least, with all its processes.
        processes: how many share its batch.
    """

    size: float
    least_gib: float
    processes: int


@dataclass(frozen=True)
class CellCores:
    """The cores of each cell on the CPU.

    Attributes:
        each: cores of a cell, shared by its processes; one of more processes has a core for each.
        at_once: most cells that run at once.
        cores: of the machine, as far as it may be used.
        reason: why, as a clause.
        differing: the cells that would have one core if they were alone, where others need all.
        limited: whether cells would have more cores, or more would run at once, but for the
            machine's memory, its cores or a quota.
    """

    each: int
    at_once: int
    cores: int
    reason: str
    differing: tuple[str, ...] = ()
    limited: bool = False

    def of(self, processes: int) -> int:
        """Return the cores of a cell of so many processes."""
        return min(self.cores, max(self.each, processes))

    def threads(self, processes: int) -> int:
        """Return the threads of each process of a cell of so many."""
        return max(1, self.of(processes) // processes)

    def described(self) -> str:
        """Say the cores of a cell and how many run at once."""
        noun = "core" if self.each == 1 else "cores"
        many = f"{self.at_once} at once" if self.at_once > 1 else "one at a time"
        return f"cells on the CPU have {self.each} {noun} each, {many}: {self.reason}"


def cell_cores(
    wanted: int | str, cores: int, works: Mapping[str, CellWork], memory_gib: float, metered: bool
) -> CellCores:
    """Share the cores of a machine among the cells on its CPU.

    Args:
        wanted: `cores_per_cell` of config.yaml.
        cores: that may be used.
        works: of each cell on the CPU.
        memory_gib: of the machine.
        metered: whether the processors' energy can be measured, which counts the whole node.
    """
    most = max((work.processes for work in works.values()), default=1)
    fitting = int(memory_gib // max((work.least_gib for work in works.values()), default=1.0))
    fit = f"the memory of {memory_gib:.3g} GiB holds no more at once"
    if wanted != AUTO:
        found = _as_wanted(wanted, cores, most)
        return found if found.at_once <= max(1, fitting) else _limited(found, fit, fitting)
    large = [name for name, work in works.items() if work.size > SMALL_WORK]
    if metered or large:
        return _one_at_a_time(cores, works, metered, large)
    usable = cores - 1 if cores > FEW_CORES else cores
    room, at_once = max(1, usable // most), max(1, fitting)
    if at_once >= room:
        return CellCores(1, room, cores, "work so small is split among threads at a loss")
    return CellCores(usable // at_once, at_once, cores, fit, limited=True)


def _as_wanted(wanted: int | str, cores: int, most: int) -> CellCores:
    """Give each cell the cores that config.yaml asks for, if there are so many."""
    asked = cores if wanted == ALL else int(wanted)
    each = min(asked, cores)
    found = CellCores(each, max(1, cores // max(each, most)), cores, f"{CORES_KEY} is {wanted}")
    if asked == each:
        return found
    return replace(
        found, reason=f"{found.reason}, but no more than {cores} may be used", limited=True
    )


def _limited(found: CellCores, why: str, at_once: int | None = None) -> CellCores:
    """Say what else limits the cells, and how many it lets run at once."""
    at_once = found.at_once if at_once is None else max(1, at_once)
    return replace(found, at_once=at_once, reason=f"{found.reason}; {why}", limited=True)


def _one_at_a_time(
    cores: int, works: Mapping[str, CellWork], metered: bool, large: list[str]
) -> CellCores:
    """Give each cell all cores, and say why."""
    if metered:
        return CellCores(cores, 1, cores, "the processors' energy is measured, of the whole node")
    others = f" and {len(large) - 1} more" if len(large) > 1 else ""
    small = tuple(name for name in works if name not in large)
    are = "are" if len(large) > 1 else "is"
    return CellCores(cores, 1, cores, f"{large[0]}{others} {are} large", small)


def of_study(stages: Stages, cores: int, metered: bool) -> CellCores:
    """Share cores among a study's cells on the CPU. Arguments are as in `cell_cores`."""
    wanted, quota = stages.machine.get(CORES_KEY, AUTO), quota_cores()
    usable = cores if quota is None else min(cores, max(1, int(quota)))
    found = cell_cores(wanted, usable, works_of(stages), machine_memory_gib(), metered)
    if usable == cores:
        return found
    return _limited(found, f"a quota gives {quota:g} of {cores} cores in time")


def threads_of(stages: Stages, shared: CellCores) -> dict[str, int]:
    """Return the threads of each process of a study's cells on the CPU, by cell."""
    budgets = {name: stages.study["budgets"][cell.budget] for name, cell in stages.cells.items()}
    return {
        name: shared.threads(grid.device_count(budget))
        for name, budget in budgets.items()
        if not budget["gpus"]
    }


def works_of(stages: Stages) -> dict[str, CellWork]:
    """Find the work of every cell on the CPU."""
    shapes = RuntimeModel(stages.study, stages.cells, {}, {}, Path()).shapes
    on_cpu = {name: cell for name, cell in stages.cells.items() if not stages.gpus(name)}
    return {
        name: work_of(stages.finetune(name).settings, shapes[cell.model])
        for name, cell in on_cpu.items()
    }


def work_of(chosen: Mapping[str, Any], shape: AnyShape) -> CellWork:
    """Find the work of one cell.

    A batch of unknown size counts as one that is common.

    Args:
        chosen: as `longwatt.study.settings.finetune_settings`.
        shape: of its model, as far as the study says it.
    """
    budget, training = chosen["budget"], chosen["training"]
    tokens = _most_tokens(budget, chosen["seq_len"])
    kept = WIDTHS_KEPT * shape.d_model + FFNS_KEPT * shape.encoder_ffn
    kept = shape.d_model if training["activation_checkpointing"] else kept
    floats = FLOATS_OF_PARAMETERS * shape.parameters + tokens * shape.encoder_layers * kept
    processes = grid.device_count(budget)
    least_gib = JOB_GIB + processes * (WORKER_GIB + FLOAT_BYTES * floats / GIB)
    return CellWork(float(tokens * shape.d_model**2), least_gib, processes)


def _most_tokens(budget: Mapping[str, Any], seq_len: int) -> int:
    """Return the tokens of the largest batch of a device, one example at least."""
    if most := budget.get("max_tokens_per_batch"):
        return max(seq_len, int(most))
    given = budget["per_device_batch_size"]
    return seq_len * (LARGEST_BATCH if given == grid.LARGEST else int(given))


def machine_memory_gib() -> float:
    """Return the memory of this machine, or of this container."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in MEMORY_LIMITS:
        # `max` is no limit.
        with contextlib.suppress(OSError, ValueError):
            whole = min(whole, int(path.read_text(encoding="ascii")))
    return whole / GIB
