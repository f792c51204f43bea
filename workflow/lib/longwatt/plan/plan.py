"""Estimate a study before anybody pays: its parts, their schedule, the bill, the disk.

Everything is an estimate but for cells that have run already, and says what it rests on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longwatt.config.documents import DEMO
from longwatt.energy import costs
from longwatt.energy.meters.processor import processor_facts
from longwatt.energy.rated import rate, watts_setting
from longwatt.freshness.outdated import Counting
from longwatt.plan import makespan
from longwatt.plan.cell_cores import CellCores
from longwatt.plan.disk import Parameters, Share, checkpoint_bytes, disk, parameters_of
from longwatt.plan.forecast import CellPart, Miss, Powers, foretell, jobs, misses
from longwatt.plan.makespan import Span
from longwatt.plan.memory import CellMemory, MemoryMiss, memories, memory_miss
from longwatt.plan.runtimes import RuntimeModel
from longwatt.study.cells import FINETUNE, RECORD
from longwatt.study.model_settings import initial_weights
from longwatt.study.stages import Stages

HOUR_S = 3600.0
G_PER_KG = 1000.0


@dataclass(frozen=True)
class PlannedGpus:
    """Number of GPUs that a plan reckons with, and who says so."""

    count: int
    source: str

    @classmethod
    def of(cls, given: int | None, found: int, needed: int) -> PlannedGpus:
        """Take the number given, else the number found, but no fewer than a cell needs.

        Args:
            given: `--resources gpu=N`; None if nothing was said.
            found: devices of this machine.
            needed: GPUs of the largest budget.
        """
        count, source = (given, "as given") if given is not None else (found, "found here")
        if count >= needed:
            return cls(count, source)
        there = f"{count} {source}, but the largest budget needs {needed}"
        none = "those of the largest budget; give others with --resources gpu=N"
        return cls(needed, there if count else none)


@dataclass(frozen=True)
class Bill:
    """Sums over some parts, None where a number is unknown for any of them.

    Attributes:
        gpu_hours: devices times hours.
        cpu_hours: of jobs on the CPU.
        energy_kwh: of all devices; the building's overhead (PUE) is not in it.
        energy_cost, gpu_cost: in the currency of config.yaml.
        co2e_kg: carbon dioxide equivalent.
    """

    gpu_hours: float
    cpu_hours: float
    energy_kwh: float | None
    energy_cost: float | None
    gpu_cost: float | None
    co2e_kg: float | None

    @property
    def device_hours(self) -> float:
        """Hours of all devices, a job on the CPU being on one."""
        return self.gpu_hours + self.cpu_hours

    @classmethod
    def of(
        cls, parts: Sequence[CellPart], prices: Mapping[str, Any], at_most: bool = False
    ) -> Bill:
        """Add some parts up at the prices of `longwatt.energy.costs.price_figures`."""
        seconds = [(part.gpus, part.seconds_at_most if at_most else part.seconds) for part in parts]
        kwh = _sum([part.energy_kwh_at_most if at_most else part.energy_kwh for part in parts])
        gpu_s = sum(gpus * each for gpus, each in seconds)
        priced = costs.priced("all", {"energy_kwh": kwh, "gpu_s": gpu_s}, prices)
        grams = priced["all_gco2e"]
        return cls(
            gpu_hours=gpu_s / HOUR_S,
            cpu_hours=sum(each for gpus, each in seconds if not gpus) / HOUR_S,
            energy_kwh=kwh,
            energy_cost=priced["all_energy_cost"],
            gpu_cost=priced["all_gpu_cost"],
            co2e_kg=None if grams is None else grams / G_PER_KG,
        )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


@dataclass
class Plan:
    """Plan of a study whose costly facts are found once.

    Args:
        stages: the study's.
        runtimes: how long its jobs take.
        gpus: devices to reckon with.
        finished: (cell, part) of all that need not run any more.
        demo: run times of the embedded study, whose measured cells show how far predictions are
            off; None where it is this one.
        cell_cores: how cells on the CPU share this machine's cores; None in a study that also uses
            GPUs.
    """

    stages: Stages
    runtimes: RuntimeModel
    gpus: PlannedGpus
    finished: frozenset[tuple[str, str]]
    demo: RuntimeModel | None
    cell_cores: CellCores | None = None

    @cached_property
    def prices(self) -> dict[str, Any]:
        """Prices of energy, carbon and GPUs here."""
        return costs.price_figures(self.stages.machine)

    @cached_property
    def parts(self) -> list[CellPart]:
        """All trainings and predictions, and the recordings of exits between them."""
        shared = self.cell_cores
        rating = rate(watts_setting(self.stages.machine), processor_facts())
        every = len(os.sched_getaffinity(0))
        cores_of = shared.of if shared else lambda processes: every
        threads = self.runtimes.threads
        powers = Powers(self.stages.study, self.runtimes.rows, rating, cores_of, threads)
        return foretell(self.stages, self.runtimes, self.finished, powers)

    @property
    def left(self) -> list[CellPart]:
        """Parts that are still to run."""
        return [part for part in self.parts if not part.finished]

    @property
    def on_cpu(self) -> int:
        """Most jobs on the CPU at once."""
        return self.cell_cores.at_once if self.cell_cores else 1

    @cached_property
    def spans(self) -> list[Span]:
        """Schedule of what is left if every job takes its mean time, ordered by medians."""
        return makespan.schedule(jobs(self.parts), self.gpus.count, self.on_cpu)

    @cached_property
    def wall_s(self) -> tuple[float, float]:
        """Seconds until all is done, with mean times and with no training stopping early."""
        latest = makespan.schedule(jobs(self.parts, at_most=True), self.gpus.count, self.on_cpu)
        return makespan.length(self.spans), makespan.length(latest)

    @cached_property
    def parameters(self) -> Parameters:
        """Parameters of the study's models."""
        return parameters_of(self.runtimes)

    @cached_property
    def disk(self) -> list[Share]:
        """Disk that the study takes."""
        counts, cells = self.parameters.trainable, self.stages.cells
        weight = {n: float(checkpoint_bytes(counts.get(c.model, 0))) for n, c in cells.items()}
        trainings = [span for span in self.spans if span.job.part == FINETUNE]
        together = makespan.most_at_once(trainings, weight)
        seconds = {(part.cell.name, part.part): part.seconds for part in self.parts}
        return disk(self.stages, self.runtimes, self.parameters, seconds, together)

    @cached_property
    def memories(self) -> dict[str, CellMemory]:
        """Memory that each cell takes on a device, without cells of unknown parameters."""
        return memories(self.runtimes, self.parameters)

    @cached_property
    def memory_misses(self) -> dict[str, MemoryMiss]:
        """Errors of forecasts of memory of measured cells, by study with any."""
        here = memory_miss(self.runtimes, self.memories, self.finished)
        found = {self.stages.study_id: here}
        if self.demo is not None and self.demo.rows:
            found[DEMO] = memory_miss(self.demo, memories(self.demo, parameters_of(self.demo)))
        return {study: miss for study, miss in found.items() if miss is not None}

    @cached_property
    def misses(self) -> dict[str, list[Miss]]:
        """Errors of predictions of measured cells, by study.

        Cells of this study count if they were measured with what is in force.
        """
        own = {self.stages.study_id: misses(self.runtimes, self.finished)}
        return own | ({} if self.demo is None else {DEMO: misses(self.demo)})

    @property
    def stale(self) -> int:
        """Number of measured parts that were made with other settings or code than now."""
        return len(self.runtimes.measured.keys() - self.finished)


def finished_parts(
    stages: Stages, stamps: Mapping[str, Sequence[str]]
) -> frozenset[tuple[str, str]]:
    """Find the (cell, part) in force, without predictions of a stale training."""
    found, with_exits = set(), set(stages.with_exits)
    counting = Counting(stamps, Path(stages.results))
    for name in stages.cells:
        trained = counting.counts(Path(stages.finetune(name).artefact))
        for point in stages.points(name):
            before = initial_weights(stages.inference(name, point))
            if (trained or before) and counting.counts(Path(stages.predict(name, point).artefact)):
                found.add((name, f"predict/{point}"))
        if not trained:
            continue
        found.add((name, FINETUNE))
        if name in with_exits and counting.counts(Path(stages.record_exits(name).artefact)):
            found.add((name, RECORD))
    return frozenset(found)
