"""Urgency of jobs, as the whole numbers that Snakemake's `priority:` wants.

Higher goes first. From the most urgent on:

1. data: everything waits for them, and bad data shows before any training;
2. jobs with GPUs: those of more GPUs first, since jobs of few fill the gaps that they leave and not
   the other way round; then predictions before trainings, so that a trained cell's scores come at
   once; then the longer before the shorter, so that the last jobs to end are short;
3. scores and energy reductions: seconds on one core, which must not keep a GPU waiting but show
   what is finished;
4. jobs on the CPU, in the order of 2.

All else has Snakemake's default, 0. Priorities only order jobs: none is a parameter, so none has a
job run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from longwatt.plan.runtimes import RuntimeModel
from longwatt.study.cells import PREDICT
from longwatt.study.checks import known_configs
from longwatt.study.stages import Stages

DATA = 1_000_000
# Steps of urgency between a job and one that takes twice as long: 1 % apart is told apart.
PER_DOUBLING = 64
LENGTHS_OF_JOBS = 4096  # room for the lengths of one kind of job; enough for 2**64 seconds
KINDS_OF_JOBS = 2 * LENGTHS_OF_JOBS  # room for the trainings and predictions of one number of GPUs
REDUCTION = KINDS_OF_JOBS - 1  # below every job with a GPU, above every job without


def of_cell(gpus: int, seconds: float, trained: bool) -> int:
    """Return the urgency of a training or a prediction.

    Args:
        gpus: devices it leases; 0 is the CPU.
        seconds: how long it will take; for a training with the predictions that follow it.
        trained: whether it is a prediction.
    """
    length = min(LENGTHS_OF_JOBS - 2, round(PER_DOUBLING * math.log2(1 + seconds)))
    return min(DATA - 1, gpus * KINDS_OF_JOBS + trained * LENGTHS_OF_JOBS + length)


def runtimes(stages: Stages, threads: Mapping[str, int] | None = None) -> RuntimeModel:
    """Foretell run times of a study, by the summary of earlier runs if any.

    Args:
        stages: the study's.
        threads: as `longwatt.plan.runtimes.RuntimeModel`.
    """
    points = {name: stages.points(name) for name in stages.cells}
    configs, results = known_configs(stages), stages.results
    model = RuntimeModel.of(stages.study, stages.cells, configs, results, points)
    return replace(model, threads=threads or {})


class Urgency:
    """Urgency of the jobs of one study's cells.

    Args:
        stages: the study's.
        threads: as `longwatt.plan.runtimes.RuntimeModel`, asked for when it is needed.
    """

    def __init__(
        self, stages: Stages, threads: Callable[[], Mapping[str, int]] = dict[str, int]
    ) -> None:
        self.stages, self._threads = stages, threads

    @cached_property
    def runtimes(self) -> RuntimeModel:
        """Run times of jobs, found out for the first that asks."""
        return runtimes(self.stages, self._threads())

    def of(self, name: str, inference: str | None = None) -> int:
        """Return the urgency of a cell's training, or of one of its inference points."""
        parts = self.stages.parts(name) if inference is None else [PREDICT + inference]
        seconds = sum(self.runtimes.predict(name, part).seconds for part in parts)
        return of_cell(self.stages.gpus(name), seconds, trained=inference is not None)
