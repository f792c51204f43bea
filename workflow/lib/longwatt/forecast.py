"""What every training and prediction of a study will probably take: time, energy, validations. Never a measurement.

Seconds are those of `longwatt.runtime_model`; power is what this study's summary measured, or what the study and
config.yaml declare. Where neither is there, energy is unknown (None).
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from longwatt import flags, priorities
from longwatt.cells import Cell
from longwatt.energy.reduction import J_PER_KWH
from longwatt.makespan import Job
from longwatt.pages import NA
from longwatt.runtime_model import FINETUNE, RECORD, Prediction, RuntimeModel
from longwatt.stages import Stages
from longwatt.summary_file import positive
from longwatt.training_work import Work, mean_steps, most_steps

PREFIX = {True: "train", False: "inference"}  # of a summary's columns: of trainings, of predictions
OPERATIONS = "operations alone"
MEASURED = "measured"


@dataclass(frozen=True)
class Power:
    """Mean power of a job.

    Attributes:
        watts: of all its devices; None if nothing is known of it.
        source: where it comes from.
    """

    watts: float | None
    source: str


@dataclass(frozen=True)
class CellPart:
    """What a training or a prediction of one cell takes, or recording what its exits say.

    Attributes:
        cell: its configuration.
        part: "finetune", "predict/{inference}" or "exits".
        gpus: devices that it leases.
        finished: whether it need not run any more.
        seconds, seconds_median, seconds_at_most: the mean over when a training may stop, which bills add up to; what
            half of all trainings take at most, which the scheduler orders jobs by; and should no training stop early
            and no example leave before the last exit.
        source: "measured", or what the seconds are foretold from.
        power: mean power.
        energy_kwh, energy_kwh_at_most: of the mean and the most; None if unknown.
        work, work_at_most: what a training of mean length and of full length does; None for a prediction.
        patience: validations without improvement that stop a training; None for a prediction.
        every_steps: steps from one validation of a training to the next; None for a prediction.
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

    @property
    def cannot_stop_early(self) -> bool:
        """Whether `patience` validations after a first one would end no sooner than the last step."""
        if self.work_at_most is None or self.patience is None or self.every_steps is None:
            return False
        return (self.patience + 1) * self.every_steps >= self.work_at_most.steps


@dataclass(frozen=True)
class Powers:
    """Mean power by what is known: measured of a model and budget, else of the budget, else declared.

    Attributes:
        study: as `longwatt.study.read_study`.
        rows: of the study's summary.
        watts_per_core: as config.yaml declares it; None if it does not.
        cores: of this machine, which a job on the CPU keeps busy.
    """

    study: Mapping[str, Any]
    rows: Sequence[Mapping[str, str]]
    watts_per_core: float | None
    cores: int
    _known: dict[tuple[str, str, bool], Power] = field(default_factory=dict, repr=False)

    def of(self, cell: Cell, trains: bool) -> Power:
        """The mean power of a cell's training or of its predictions."""
        key = (cell.model, cell.budget, trains)
        if key not in self._known:
            self._known[key] = self._find(cell, trains)
        return self._known[key]

    def _find(self, cell: Cell, trains: bool) -> Power:
        for names in (("model", "budget"), ("budget",)):
            found = [row for row in self.rows if all(row.get(name) == getattr(cell, name) for name in names)]
            watts = [value for row in found if (value := positive(row.get(f"{PREFIX[trains]}_mean_power_w")))]
            if watts:
                word = _word([row.get(f"{PREFIX[trains]}_energy_source", "") for row in found])
                said = _flagged([row.get(f"{PREFIX[trains]}_energy_flags", "") for row in found])
                return Power(statistics.fmean(watts), f"{word} of {len(watts)} rows ({' and '.join(names)}){said}")
        return self._declared(cell.budget)

    def _declared(self, budget: str) -> Power:
        entry = self.study["budgets"][budget]
        gpus, each = int(entry["gpus"]), entry.get("watts_per_gpu")
        if gpus and each:
            return Power(gpus * each, f"declared: budgets.{budget}.watts_per_gpu")
        if not gpus and self.watts_per_core:
            return Power(self.cores * self.watts_per_core, f"declared: watts_per_core x {self.cores} cores")
        missing = f"budgets.{budget}.watts_per_gpu" if gpus else "watts_per_core"
        return Power(None, f"unknown: nothing measured and no {missing}")


def _flagged(texts: Sequence[str]) -> str:
    """The flags of the energies that a power was measured with; nothing where there are none."""
    found = flags.union(text for text in texts if text != NA)
    return f", flagged {', '.join(found)}" if found else ""


def _word(sources: Sequence[str]) -> str:
    return "estimated" if "estimate" in sources else MEASURED


def foretell(stages: Stages, finished: Collection[tuple[str, str]], powers: Powers) -> list[CellPart]:
    """Every training and prediction of a study, and for cells with several exits what they say, recorded once.

    Args:
        stages: the study's.
        finished: (cell, part) of what need not run any more.
        powers: mean power.
    """
    energies = _energies(powers.rows)
    return [
        _part(stages, name, part, (name, part) in finished, powers, energies)
        for name in stages.cells
        for part in _parts(stages, name)
    ]


def _parts(stages: Stages, name: str) -> list[str]:
    """The parts of a cell that take time; recording exits comes before what is predicted with them."""
    trained, *predicted = stages.parts(name)
    return [trained, *([RECORD] if stages.runtimes.records(name) else []), *predicted]


def _part(
    stages: Stages,
    name: str,
    part: str,
    finished: bool,
    powers: Powers,
    energies: Mapping[tuple[str, str], float],
) -> CellPart:
    cell, trains = stages.cells[name], part == FINETUNE
    took = _times(stages.runtimes, name, part, finished)
    power, known = powers.of(cell, trains), energies.get((name, part)) if finished else None
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
        energy_kwh=known or _kwh(power, took.mean),
        energy_kwh_at_most=known or _kwh(power, took.most),
    )
    return _with_training(found, stages) if trains else found


class _Times(NamedTuple):
    mean: float
    median: float
    most: float
    source: str


def _times(model: RuntimeModel, name: str, part: str, finished: bool) -> _Times:
    """Seconds of a part: measured if it is finished; what other settings once took is no answer for what is left."""
    measured = model.measured.get((name, part)) if finished else None
    if measured is not None:
        return _Times(measured, measured, measured, MEASURED)
    foretold = model.predict(name, part)
    median, source = foretold.seconds, _source(foretold)
    if part != FINETUNE:
        return _Times(median, median, max(median, model.at_most(name, part).seconds), source)
    most = max(median, model.at_most(name).seconds)
    return _Times(min(most, model.mean(name).seconds), median, most, source)


def _with_training(part: CellPart, stages: Stages) -> CellPart:
    """A training with its steps and validations; of one that is finished and measured those that it made."""
    model, name = stages.runtimes, part.cell.name
    made = model.trained(name) if part.finished else None
    work = made or model.work(name, mean_steps)
    validation = stages.finetune(name).settings["training"]["validation"]
    patience, every = int(validation["patience"]), int(validation["every_steps"])
    most = model.work(name, most_steps)
    return replace(part, work=work, work_at_most=most, patience=patience, every_steps=every)


def _source(foretold: Prediction) -> str:
    if foretold.refined_by is None:
        return OPERATIONS
    return f"scaled by {foretold.cells} measured cells ({foretold.refined_by})"


def _kwh(power: Power, seconds: float) -> float | None:
    return None if power.watts is None else power.watts * seconds / J_PER_KWH


def _energies(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], float]:
    """Energy in kWh of what a summary has it of, by cell and part."""
    found = {}
    for row in rows:
        for part, prefix in ((FINETUNE, "train"), (f"predict/{row.get('inference')}", "inference")):
            kwh = positive(row.get(f"{prefix}_energy_kwh"))
            if kwh:
                found[row.get("cell", ""), part] = kwh
    return found


def jobs(parts: Sequence[CellPart], at_most: bool = False) -> list[Job]:
    """What is still to run, as the scheduler sees it: as urgent as `longwatt.stages.Stages.priority` says, by medians.

    Args:
        parts: all of a study.
        at_most: whether jobs last as long as they can; else their mean time.
    """
    seconds = {(part.cell.name, part.part): part.seconds_median for part in parts}
    whole: dict[str, float] = {}
    for (name, kind), value in seconds.items():
        whole[name] = whole.get(name, 0.0) + (value if kind != RECORD else 0.0)
    found = []
    for part in parts:
        predicts, name = part.part not in (FINETUNE, RECORD), part.cell.name
        own = seconds[name, part.part] if predicts else whole[name]
        urgency = priorities.of_cell(part.gpus, own, trained=predicts)
        lasts = part.seconds_at_most if at_most else part.seconds
        job = Job(name, part.part, part.gpus, lasts, urgency, _after(part, seconds))
        found += [] if part.finished else [job]
    return found


def _after(part: CellPart, known: Collection[tuple[str, str]]) -> str | None:
    """The part of the same cell that one waits for: temperatures are fitted before examples leave by them."""
    if part.part == FINETUNE:
        return None
    recorded = part.part != RECORD and (part.cell.name, RECORD) in known
    return RECORD if recorded else FINETUNE


@dataclass(frozen=True)
class Miss:
    """How far predictions of measured cells were off, as factors of at least 1 in either direction.

    Attributes:
        part: of which part of the cells.
        cells: how many.
        scaled: how many of them have other measured cells, which differ by more than the seed, to be scaled by.
        median, worst: of predictions scaled by those; None if there are none.
        worst_cell: of the worst; None likewise.
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
    """Every part that a study's summary has measured cells of, each cell foretold without its own measurement.

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
    scaled = {n: _factor(each.seconds, measured[n]) for n, each in foretold.items() if each.refined_by is not None}
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
