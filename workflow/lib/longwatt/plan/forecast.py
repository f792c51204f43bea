"""Foretell the time, energy and validations of every training and prediction of a study.

Nothing here is a measurement. Seconds are those of `longwatt.plan.runtimes`; power is that which
this study's summary measured, which the study and config.yaml declare, or which the rated power of
this machine's processor gives. Where none of these is there, energy is unknown (None).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from longwatt.energy import flags
from longwatt.energy.rated import Rating
from longwatt.energy.reduction.reduce import J_PER_KWH
from longwatt.freshness.summary_file import positive
from longwatt.layout.wording import NA
from longwatt.plan import urgency as plan_urgency
from longwatt.plan.makespan import Job
from longwatt.plan.runtimes import RuntimeModel, has_other_threads
from longwatt.plan.work import Work, mean_steps, most_steps
from longwatt.study.cells import FINETUNE, PREDICT, RECORD, Cell, device_count
from longwatt.study.model_settings import initial_weights
from longwatt.study.stages import Stages
from longwatt.study.summary_columns import INFERENCE

PREFIX = {True: "train", False: "inference"}  # of a summary's columns: of trainings, of predictions
THREADS = {True: "threads", False: f"{INFERENCE}threads"}  # likewise
OPERATIONS = "operations alone"
MEASURED_BASIS = "measured"


@dataclass(frozen=True)
class Power:
    """Mean power of all devices of a job (W), None if unknown, and its source."""

    watts: float | None
    source: str


@dataclass(frozen=True)
class CellPart:
    """One part of a cell: its training, a prediction, or the recording of its exits.

    Attributes:
        cell: its configuration.
        part: "finetune", "predict/{inference}" or "exits".
        gpus: devices that it leases.
        finished: whether it need not run any more.
        seconds: the mean over when a training may stop, which bills add up.
        seconds_median: the most that half of all trainings take, which the scheduler orders by.
        seconds_at_most: if no training stops early and no example leaves before the last exit.
        source: "measured", or what the seconds are foretold from.
        power: mean power.
        energy_kwh, energy_kwh_at_most: of the mean and the most; None if unknown.
        work, work_at_most: of a training of mean and of full length; None for a prediction.
        patience: validations without improvement that stop a training; likewise.
        every_steps: steps from one validation of a training to the next; likewise.
        initial: whether it predicts with the model before training, and so waits for nothing.
    """

    cell: Cell
    part: str
    gpus: int
    finished: bool
    seconds: float
    seconds_median: float
    seconds_at_most: float
    source: str
    power: Power
    energy_kwh: float | None
    energy_kwh_at_most: float | None
    work: Work | None = None
    work_at_most: Work | None = None
    patience: int | None = None
    every_steps: int | None = None
    initial: bool = False

    @property
    def cannot_stop_early(self) -> bool:
        """Check whether `patience` validations after a first one last to the last step."""
        if self.work_at_most is None or self.patience is None or self.every_steps is None:
            return False
        return (self.patience + 1) * self.every_steps >= self.work_at_most.steps


@dataclass(frozen=True)
class Powers:
    """Mean power as measured (by model and budget, or by budget), declared or rated.

    Watts that were measured with other threads than a cell will have are none of its own.

    Attributes:
        study: as `longwatt.config.studies.read_study`.
        rows: of the study's summary.
        rating: what one busy core draws, as declared or by this machine's processor.
        cores_of: returns the cores that a cell on the CPU with so many processes keeps busy.
        threads: of each process of a cell on the CPU, by cell; none if that is unknown.
    """

    study: Mapping[str, Any]
    rows: Sequence[Mapping[str, str]]
    rating: Rating
    cores_of: Callable[[int], int]
    threads: Mapping[str, int] = field(default_factory=dict)
    _known: dict[tuple[str, str, bool], Power] = field(default_factory=dict, repr=False)

    def of(self, cell: Cell, trains: bool) -> Power:
        """Return the mean power of a cell's training or of its predictions."""
        key = (cell.model, cell.budget, trains)
        if key not in self._known:
            self._known[key] = self._find(cell, trains)
        return self._known[key]

    def _find(self, cell: Cell, trains: bool) -> Power:
        column, wanted = THREADS[trains], self.threads.get(cell.name)
        rows_alike = [row for row in self.rows if not has_other_threads(row, column, wanted)]
        for names in (("model", "budget"), ("budget",)):
            found = [r for r in rows_alike if all(r.get(n) == getattr(cell, n) for n in names)]
            known = [positive(row.get(f"{PREFIX[trains]}_mean_power_w")) for row in found]
            watts = [value for value in known if value]
            if watts:
                sources = [row.get(f"{PREFIX[trains]}_energy_source", "") for row in found]
                word = "estimated" if "estimate" in sources else MEASURED_BASIS
                said = _flagged([row.get(f"{PREFIX[trains]}_energy_flags", "") for row in found])
                rows = f"{len(watts)} rows ({' and '.join(names)})"
                return Power(statistics.fmean(watts), f"{word} of {rows}{said}")
        return self._declared(cell.budget)

    def _declared(self, budget: str) -> Power:
        entry = self.study["budgets"][budget]
        gpus, each = int(entry["gpus"]), entry.get("watts_per_gpu")
        if gpus and each:
            return Power(gpus * each, f"declared: budgets.{budget}.watts_per_gpu")
        if gpus:
            missing = f"budgets.{budget}.watts_per_gpu"
            return Power(None, f"unknown: nothing measured and no {missing}")
        if self.rating.watts is None:
            return Power(None, f"unknown: nothing measured; {self.rating.basis}")
        cores = self.cores_of(device_count(entry))
        each = f"{cores} x {self.rating.watts:.3g} W of a busy core"
        return Power(cores * self.rating.watts, f"{each}, {self.rating.basis}")


def _flagged(texts: Sequence[str]) -> str:
    found = flags.union(text for text in texts if text != NA)
    return f", flagged {', '.join(found)}" if found else ""


def foretell(
    stages: Stages, model: RuntimeModel, finished: Collection[tuple[str, str]], powers: Powers
) -> list[CellPart]:
    """Foretell every training and prediction of a study, and the recording of several exits.

    Args:
        stages: the study's.
        model: its run times.
        finished: (cell, part) of what need not run any more.
        powers: mean power.
    """
    energies, found = _energies(powers.rows), list[CellPart]()
    for name in stages.cells:
        trained, *predicted = stages.parts(name)
        records = [RECORD] if model.records(name) else []  # before predictions use them
        for part in [trained, *records, *predicted]:
            is_finished = (name, part) in finished
            kwh = energies.get((name, part)) if is_finished else None
            found.append(_part(stages, model, name, part, is_finished, powers, kwh))
    return found


def _part(
    stages: Stages,
    model: RuntimeModel,
    name: str,
    part: str,
    finished: bool,
    powers: Powers,
    known_kwh: float | None,
) -> CellPart:
    cell, trains = stages.cells[name], part == FINETUNE
    took, power = _times(model, name, part, finished), powers.of(cell, trains)
    found = CellPart(
        cell=cell,
        part=part,
        gpus=stages.gpus(name),
        finished=finished,
        seconds=took.mean,
        seconds_median=took.median,
        seconds_at_most=took.most,
        source=took.source,
        power=power,
        energy_kwh=known_kwh or _kwh(power, took.mean),
        energy_kwh_at_most=known_kwh or _kwh(power, took.most),
        initial=_is_initial(stages, name, part),
    )
    return _with_training(found, stages, model) if trains else found


def _is_initial(stages: Stages, name: str, part: str) -> bool:
    point = part.removeprefix(PREDICT)
    return point != part and initial_weights(stages.inference(name, point))


class _Times(NamedTuple):
    mean: float
    median: float
    most: float
    source: str


def _times(model: RuntimeModel, name: str, part: str, finished: bool) -> _Times:
    """Return the seconds of a part, as measured only if it is finished."""
    measured = model.measured.get((name, part)) if finished else None
    if measured is not None:
        return _Times(measured, measured, measured, MEASURED_BASIS)
    foretold = model.predict(name, part)
    median, source = foretold.seconds, OPERATIONS
    if foretold.refined_by is not None:
        source = f"scaled by {foretold.cells} measured cells ({foretold.refined_by})"
    if part != FINETUNE:
        return _Times(median, median, max(median, model.at_most(name, part).seconds), source)
    most = max(median, model.at_most(name).seconds)
    return _Times(min(most, model.mean(name).seconds), median, most, source)


def _with_training(part: CellPart, stages: Stages, model: RuntimeModel) -> CellPart:
    """Add steps and validations to a training, as made if it is measured."""
    name = part.cell.name
    made = model.trained(name) if part.finished else None
    work = made or model.work(name, mean_steps)
    validation = stages.finetune(name).settings["training"]["validation"]
    patience, every = int(validation["patience"]), int(validation["every_steps"])
    most = model.work(name, most_steps)
    return replace(part, work=work, work_at_most=most, patience=patience, every_steps=every)


def _kwh(power: Power, seconds: float) -> float | None:
    return None if power.watts is None else power.watts * seconds / J_PER_KWH


def _energies(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], float]:
    found = {}
    for row in rows:
        for part, prefix in ((FINETUNE, "train"), (f"predict/{row.get('inference')}", "inference")):
            kwh = positive(row.get(f"{prefix}_energy_kwh"))
            if kwh:
                found[row.get("cell", ""), part] = kwh
    return found


def jobs(parts: Sequence[CellPart], at_most: bool = False) -> list[Job]:
    """List what is still to run as the scheduler sees it, ordered by medians.

    Args:
        parts: all of a study.
        at_most: whether jobs last as long as they can, not their mean time.
    """
    seconds = {(part.cell.name, part.part): part.seconds_median for part in parts}
    whole: dict[str, float] = {}
    for (name, kind), value in seconds.items():
        whole[name] = whole.get(name, 0.0) + (value if kind != RECORD else 0.0)
    found = []
    for part in parts:
        if part.finished:
            continue
        predicts, name = part.part not in (FINETUNE, RECORD), part.cell.name
        own = seconds[name, part.part] if predicts else whole[name]
        urgency = plan_urgency.of_cell(part.gpus, own, trained=predicts)
        lasts = part.seconds_at_most if at_most else part.seconds
        found.append(Job(name, part.part, part.gpus, lasts, urgency, _after(part, seconds)))
    return found


def _after(part: CellPart, known: Collection[tuple[str, str]]) -> str | None:
    """Name the part to wait for. Temperatures are fitted before they are used."""
    if part.part == FINETUNE or part.initial:
        return None
    recorded = part.part != RECORD and (part.cell.name, RECORD) in known
    return RECORD if recorded else FINETUNE


@dataclass(frozen=True)
class Miss:
    """Errors of predicted run times of measured cells, as factors of at least 1.

    Attributes:
        part: of which part of the cells.
        cells: how many.
        scaled: how many of them are scaled by other measured cells (other seeds do not count).
        median, worst: of predictions scaled by those; None if there are none.
        worst_cell: cell of the worst; likewise.
        unrefined_median, unrefined_worst: of predictions from operations alone.
    """

    part: str
    cells: int
    scaled: int
    median: float | None
    worst: float | None
    worst_cell: str | None
    unrefined_median: float
    unrefined_worst: float


def misses(model: RuntimeModel, of: Collection[tuple[str, str]] | None = None) -> list[Miss]:
    """Foretell each measured cell without its own measurement and compare, part by part.

    Args:
        model: the study's.
        of: (cell, part) of the measurements that count; None for all.
    """
    found = []
    known = {key: seconds for key, seconds in model.measured.items() if of is None or key in of}
    for part in sorted({part for _, part in known}):
        measured = {name: seconds for (name, own), seconds in known.items() if own == part}
        found.append(_miss(model, part, measured))
    return found


def _miss(model: RuntimeModel, part: str, measured: Mapping[str, float]) -> Miss:
    foretold = {name: model.predict(name, part, without=name) for name in measured}
    scaled = {n: _factor(p.seconds, measured[n]) for n, p in foretold.items() if p.refined_by}
    plain = [_factor(model.modelled(name, part), seconds) for name, seconds in measured.items()]
    worst = max(scaled, key=lambda name: scaled[name], default=None)
    return Miss(
        part=part,
        cells=len(measured),
        scaled=len(scaled),
        median=statistics.median(scaled.values()) if scaled else None,
        worst=scaled[worst] if worst is not None else None,
        worst_cell=worst,
        unrefined_median=statistics.median(plain),
        unrefined_worst=max(plain),
    )


def _factor(foretold: float, measured: float) -> float:
    return max(foretold / measured, measured / foretold)
