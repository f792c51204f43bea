"""Run times of trainings and predictions, from their operations and from measured cells.

They order jobs (longest first) and say roughly how long a study will take. They are no measurement
and are never reported as one. The operations follow from the settings. The speed of a device, the
length of answers, when early stopping strikes and how early examples leave a model with exits are
assumptions, each stated where it stands. Once the study has a summary.csv, predictions are scaled
by the seconds that its measured cells really took.

Read at parse time: the standard library only, and one small file per dataset and probe.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from longwatt.files import read_object
from longwatt.freshness.summary_file import csv_rows, newest_summary, positive
from longwatt.layout.wording import NA
from longwatt.models.family import STOCK
from longwatt.plan import work as foreseen
from longwatt.plan.data_sizes import Data, data_of
from longwatt.plan.model_shapes import HUB_CONFIGS, AnyShape, shape_of
from longwatt.plan.work import Steps, Work, mean_steps, median_steps, most_steps, training_work
from longwatt.study import cells as grid
from longwatt.study import settings
from longwatt.study.cascade_cells import cascade_of, first_cell
from longwatt.study.cascades import CASCADE
from longwatt.study.cells import FINETUNE, PREDICT, RECORD, Cell
from longwatt.study.model_settings import keeps_adapters, lora_of
from longwatt.study.summary_columns import INFERENCE

SHORTEST_S = 1e-3  # so that a split of unknown size still gives a ratio
# Kinds of ratio of measured to modelled seconds beside those of single parts:
PACE = "finetune, step by step"  # of the steps that were made, however many those were
ANY_POINT = "predict"  # of inference points, whichever they are
# A prediction is scaled by the measured cells most like it.
LIKENESS: dict[str, Callable[[Cell], tuple[Any, ...]]] = {
    "dataset, model, seq_len and budget": attrgetter("dataset", "model", "seq_len", "budget"),
    "model and budget": attrgetter("model", "budget"),
    "model": lambda cell: (cell.model,),
    "study": lambda cell: (),
}
UNKNOWN = ("", "NA")  # of a column
# Behind a likeness: how the measured cells differ.
OTHER_THREADS = ", with other threads"
OTHER_ADAPTERS = ", with other adapters or none"
WHOLE = "all weights"  # in place of a kind of adapter, where none is at work
ANY_ADAPTERS = "any adapters"


@dataclass(frozen=True)
class Prediction:
    """Foretold seconds of one part of a cell.

    Attributes:
        seconds: of computing; starting a process and waiting for GPUs are not in it.
        refined_by: settings in common with the measured cells that scaled it; None without any.
        cells: how many those were.
    """

    seconds: float
    refined_by: str | None
    cells: int


@dataclass
class _Ratios:
    """Measured over modelled seconds of some cells, as logarithms."""

    # Sum and count of each cell, all its seeds together.
    by_cell: dict[Cell, tuple[float, int]] = field(default_factory=dict)
    total: float = 0.0
    count: int = 0

    def add(self, cell: Cell, ratio: float) -> None:
        total, count = self._of(cell)
        self.by_cell[replace(cell, seed=0)] = total + ratio, count + 1
        self.total += ratio
        self.count += 1

    def scale(self, without: Cell | None) -> tuple[float, int]:
        """Return the geometric mean of ratios and their count, a cell's seeds left out."""
        total, count = (0.0, 0) if without is None else self._of(without)
        left = self.count - count
        return (math.exp((self.total - total) / left), left) if left else (1.0, 0)

    def _of(self, cell: Cell) -> tuple[float, int]:
        return self.by_cell.get(replace(cell, seed=0), (0.0, 0))


@dataclass(frozen=True)
class _Way:
    """How a cell computes: its path of attention and its kind of adapters."""

    path: str
    adapters: str


# By kind, likeness, what is alike, and whether they were measured with other threads.
Ratios = dict[tuple[str, str, tuple[Any, ...], bool], _Ratios]
# In this order measured cells are asked: with other threads or not, with other adapters or not.
NEARNESS = (
    (False, False, ""),
    (False, True, OTHER_ADAPTERS),
    (True, False, OTHER_THREADS),
    (True, True, OTHER_THREADS + OTHER_ADAPTERS),
)


def _most_alike(
    ratios: Ratios, kind: str, cell: Cell, way: _Way, without: Cell | None
) -> tuple[float, str | None, int]:
    """Return the mean ratio of the cells most like one, their likeness and their count.

    A speed by one path of attention says nothing of another's. Cells that were measured with other
    threads, or with other adapters, count only where there are no others.
    """
    for other_threads, other_adapters, said in NEARNESS if ratios else ():
        adapters = ANY_ADAPTERS if other_adapters else way.adapters
        for likeness, of in LIKENESS.items():
            key = (kind, likeness, (*of(cell), way.path, adapters), other_threads)
            mean, count = ratios.get(key, _Ratios()).scale(without)
            if count:
                return mean, likeness + said, count
    return 1.0, None, 0


@dataclass
class RuntimeModel:
    """Predict the seconds of every training and prediction of a study.

    A summary measured with other settings than now misleads until it is made anew. It only changes
    the order of jobs.

    Args:
        study: as `longwatt.config.studies.read_study` reads it.
        cells: its cells by name.
        configs: each model's configuration as far as its checkpoint says it.
        facts: dataset.json of each dataset, empty where it is not there yet.
        summary: path of the study's summary.csv, or of that of its finished cells.
        points: the inference points of each cell; None if every cell has all of the study.
        left_out: cells whose rows of the summary do not count.
        threads: threads that each process of a cell on the CPU will have, by cell; none if that is
            not known.
    """

    study: Mapping[str, Any]
    cells: Mapping[str, Cell]
    configs: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Mapping[str, Any]]
    summary: Path
    points: Mapping[str, Sequence[str]] | None = None
    left_out: frozenset[str] = frozenset()
    threads: Mapping[str, int] = field(default_factory=dict)
    _modelled: dict[tuple[Any, ...], float] = field(default_factory=dict, repr=False)
    _settings: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict, repr=False)
    _probed: dict[str, int | None] = field(default_factory=dict, repr=False)
    _paths: dict[tuple[str, int], str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        study: Mapping[str, Any],
        cells: Mapping[str, Cell],
        configs: Mapping[str, Mapping[str, Any]],
        results: str,
        points: Mapping[str, Sequence[str]] | None = None,
    ) -> RuntimeModel:
        """Make the model of a study whose files are where the rules put them."""
        used = {cell.dataset for cell in cells.values()}
        folder = Path("resources/datasets")
        paths = {name: folder / settings.dataset_key(study, name) / "dataset.json" for name in used}
        facts = {name: read_object(path) for name, path in paths.items()}
        return cls(study, cells, configs, facts, newest_summary(Path(results)), points)

    def points_of(self, name: str) -> Sequence[str]:
        """List the inference points of a cell."""
        return list(self.study["inference"]) if self.points is None else self.points[name]

    def records(self, name: str) -> bool:
        """Check whether a cell's exits are recorded: two or more, whose thresholds are compared."""
        return len(self.shapes[self.cells[name].model].exits) > 1

    def predict(self, name: str, part: str, without: str | None = None) -> Prediction:
        """Predict the seconds of one part of a cell, of a training the median.

        Args:
            name: the cell.
            part: "finetune", "predict/{inference}" or "exits".
            without: a cell whose own measurements, of all seeds, are left out, to see how well
                others foretell it.
        """
        out = None if without is None else self.cells[without]
        modelled = self.modelled(name, part, self.measured_depth(name, part, without))
        return self._scaled(modelled, ANY_POINT if part == RECORD else part, self.cells[name], out)

    def _scaled(self, seconds: float, kind: str, cell: Cell, out: Cell | None = None) -> Prediction:
        """Scale modelled seconds by the ratio of the measured cells most like this one."""
        way = self._way(cell, kind)
        scale, likeness, count = _most_alike(self._ratios, kind, cell, way, out)
        return Prediction(seconds * scale, likeness, count)

    def measured_depth(self, name: str, part: str, without: str | None = None) -> float | None:
        """Return the share of layers that a mean example ran in similar cells.

        Args:
            name: the cell.
            part: "predict/{inference}".
            without: as `predict`.

        Returns:
            None where none was measured, or examples run through all layers.
        """
        cell, out = self.cells[name], None if without is None else self.cells[without]
        share, _, count = _most_alike(self._depths, part, cell, self._way(cell, part), out)
        return share if count else None

    def mean(self, name: str) -> Prediction:
        """Predict the mean seconds of a training, scaled as its median (`predict`)."""
        found = self.predict(name, FINETUNE)
        ratio = self.work(name, mean_steps).seconds / self.work(name).seconds
        return replace(found, seconds=found.seconds * ratio)

    def at_most(self, name: str, part: str = FINETUNE) -> Prediction:
        """Predict the most seconds of a part: no early stop, and no example leaves early.

        They are scaled by the pace of the measured cells most like it.
        """
        cell = self.cells[name]
        if part == FINETUNE:
            return self._scaled(self.work(name, most_steps).seconds, PACE, cell)
        kind = ANY_POINT if part == RECORD else part
        return self._scaled(self.modelled(name, part, depth=1.0), kind, cell)

    def work(self, name: str, steps: Steps = median_steps) -> Work:
        """Foretell a training's work by its operations alone."""
        cell = self.cells[name]
        shape, data = self.shapes[cell.model], self.data[cell.dataset]
        return training_work(self._chosen(cell, FINETUNE), shape, data, steps)

    def trained(self, name: str) -> Work | None:
        """Return the work and seconds of a training as measured, or None."""
        if name not in self._trained:
            return None
        row, made = self._trained[name], self._as_made(name)
        steps_s, validation_s = map(positive, (row.get("train_steps_s"), row.get("validation_s")))
        if steps_s is None or validation_s is None:
            return made
        each, check = steps_s / made.steps, validation_s / made.validations
        return replace(made, step_s=each, validation_s=check)

    def _as_made(self, name: str) -> Work:
        """Take the steps and validations of a measured training, with modelled seconds."""
        steps, validations = (float(self._trained[name][key]) for key in ("steps", "validations"))
        return replace(self.work(name), steps=steps, validations=int(validations))

    def modelled(self, name: str, part: str, depth: float | None = None) -> float:
        """Foretell the seconds of a part by its operations alone, alike for all seeds.

        Args:
            name: the cell.
            part: as `predict`.
            depth: of a prediction, as `predict_seconds`.
        """
        cell = self.cells[name]
        key = (cell.dataset, cell.model, cell.seq_len, cell.budget, cell.protocol, part, depth)
        if key not in self._modelled:
            self._modelled[key] = max(SHORTEST_S, self._seconds(name, part, depth))
        return self._modelled[key]

    def _seconds(self, name: str, part: str, depth: float | None) -> float:
        cell = self.cells[name]
        shape, data = self.shapes[cell.model], self.data[cell.dataset]
        if part == RECORD:
            return foreseen.record_seconds(self._recording(name), shape, data)
        chosen = self._chosen(cell, part)
        if part == FINETUNE:
            return training_work(chosen, shape, data).seconds
        both = [(chosen, shape, depth), *self._answers_first(cell, part)]
        return sum(foreseen.predict_seconds(one, shape, data, run) for one, shape, run in both)

    def _answers_first(self, cell: Cell, part: str) -> list[tuple[dict[str, Any], AnyShape, None]]:
        """List what answers first at a point that is a cascade, nothing elsewhere.

        How many examples go on to the last cell is known once a threshold is fitted. Until then
        all are planned to.
        """
        point = part.removeprefix(PREDICT)
        cascade = cascade_of(self.study["inference"][point])
        if not cascade:
            return []
        first = first_cell(self.cells, cell, cascade, f"inference.{point}.{CASCADE}")
        return [(self._chosen(first, part), self.shapes[first.model], None)]

    def recorded_examples(self, name: str) -> int:
        """Count the recorded examples of a cell: of its calibration's split and its points'."""
        return foreseen.recorded(self._recording(name), self.data[self.cells[name].dataset])

    def _recording(self, name: str) -> dict[str, Any]:
        cell = self.cells[name]
        points = [self._chosen(cell, PREDICT + point) for point in self.points_of(name)]
        splits = [chosen["inference"]["split"] for chosen in points]
        return settings.record_settings(self.study, cell, splits)

    def chosen(self, name: str, part: str) -> dict[str, Any]:
        """Return the settings of a cell's training or prediction, with the batch that was found."""
        return self._chosen(self.cells[name], part)

    def _chosen(self, cell: Cell, part: str) -> dict[str, Any]:
        """Merge a part's settings. Cells share all but length and protocol, to save time."""
        key = (cell.dataset, cell.model, cell.budget, part)
        if key not in self._settings:
            self._settings[key] = (
                settings.finetune_settings(self.study, cell)
                if part == FINETUNE
                else settings.predict_settings(self.study, cell, part.removeprefix(PREDICT))
            )
        shared = self._settings[key]
        budget = {**shared["budget"], **grid.batch_settings(self.study, cell)}
        chosen = {**shared, "seq_len": cell.seq_len, "protocol": cell.protocol, "budget": budget}
        found = self._found(cell, chosen) if part == FINETUNE else None
        if found is not None:
            budget["per_device_batch_size"] = found
        return chosen

    def largest_batch(self, name: str) -> int | None:
        """Return the examples per device that a probe found to fit, or None."""
        cell = self.cells[name]
        return self._found(cell, settings.finetune_settings(self.study, cell))

    def _found(self, cell: Cell, chosen: Mapping[str, Any]) -> int | None:
        key = settings.probe_key(cell, chosen)
        if key is None:
            return None
        if key not in self._probed:
            known = read_object(Path("resources/batch_sizes") / key / "batch_size.json")
            self._probed[key] = known.get("per_device_batch_size")
        return self._probed[key]

    @cached_property
    def known_configs(self) -> dict[str, dict[str, Any]]:
        """Configuration of each model by its tokenizer, the hub, its checkpoint and the study."""
        known = {}
        for name in {cell.model for cell in self.cells.values()}:
            entry = self.study["models"][name]
            # A tokenizer says its vocabulary if it is made here.
            trained = self.study["tokenizers"][entry["tokenizer"]]
            published = HUB_CONFIGS.get(str(entry.get("repository")), {})
            own, given = self.configs.get(name, {}), entry.get("config") or {}
            known[name] = {**trained, **published, **own, **given}
        return known

    @cached_property
    def shapes(self) -> dict[str, AnyShape]:
        """Shape of each model."""
        models = self.study["models"]
        return {
            name: shape_of(
                models[name]["family"],
                known,
                models[name].get("exits"),
                settings.attention(self.study, name),
                lora_of(models[name]),
            )
            for name, known in self.known_configs.items()
        }

    @cached_property
    def data(self) -> dict[str, Data]:
        """Sizes and lengths of each dataset as far as they are known."""
        entries = self.study["datasets"]
        found = {}
        for name in {cell.dataset for cell in self.cells.values()}:
            source, options = entries[name]["source"], entries[name].get("options", {})
            labelled = grid.classifies(self.study, name)
            found[name] = data_of(source, options, self.facts.get(name, {}), labelled)
        return found

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """Rows of the summary that count."""
        return [row for row in csv_rows(self.summary) if row.get("cell") not in self.left_out]

    def attention(self, cell: Cell) -> str:
        """Name the path of attention that a cell takes.

        It is the chosen one, unless that choice had another path for this model and length.
        """
        key = cell.model, cell.seq_len
        if key not in self._paths:
            asked = settings.attention(self.study, cell.model)
            taken = self._taken.get((*map(str, key), asked), {asked})
            self._paths[key] = asked if asked in taken else min(taken)
        return self._paths[key]

    @cached_property
    def _taken(self) -> dict[tuple[str, ...], set[str]]:
        """Measured paths of attention by model, length and the path that was asked for."""
        found: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for row in self.rows:
            key = tuple(row.get(name, "") for name in ("model", "seq_len", "attention_asked"))
            found[key].add(_path_of(row, "attention"))
        return found

    def _takes(self, row: Mapping[str, str], column: str) -> bool:
        """Check whether a row was measured by the path that its cell takes now."""
        return _path_of(row, column) == self.attention(self.cells[row["cell"]])

    @cached_property
    def measured(self) -> dict[tuple[str, str], float]:
        """Measured seconds by cell and part, empty before there is a summary.

        The speed of one path of attention says nothing of the other's.
        """
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            name, point = row.get("cell", ""), row.get("inference", "")
            if name not in self.cells:
                continue
            seconds = positive(row.get("train_runtime_s"))
            if seconds and self._takes(row, "attention"):
                found[name, FINETUNE] = seconds
            seconds = positive(row.get("inference_runtime_s"))
            known = seconds and self._takes(row, "inference_attention")
            if seconds and known and point in self.points_of(name):
                found[name, PREDICT + point] = seconds
        return found

    @cached_property
    def _ran(self) -> dict[tuple[str, str], float]:
        """Measured share of layers of a mean example, by cell and part, with several exits."""
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            name, layers = row.get("cell", ""), positive(row.get("mean_layers"))
            if name in self.cells and layers and self.records(name):
                built = self.shapes[self.cells[name].model].encoder_layers
                found[name, PREDICT + row.get("inference", "")] = min(1.0, layers / built)
        return found

    @cached_property
    def _depths(self) -> Ratios:
        shares: Ratios = defaultdict(_Ratios)
        for (name, part), share in self._ran.items():
            self._add(shares, name, part, share)
        return shares

    @cached_property
    def _ratios(self) -> Ratios:
        ratios: Ratios = defaultdict(_Ratios)
        for (name, part), seconds in self.measured.items():
            ratio = seconds / self.modelled(name, part, self._ran.get((name, part)))
            other = (name, part) in self._other_threads
            self._add(ratios, name, part, ratio, other)
            if part != FINETUNE:
                self._add(ratios, name, ANY_POINT, ratio, other)
        for (name, part), seconds in self.measured.items():
            if part == FINETUNE and name in self._trained:
                made_s = max(SHORTEST_S, self._as_made(name).seconds)
                other = (name, part) in self._other_threads
                self._add(ratios, name, PACE, seconds / made_s, other)
        return ratios

    def _add(
        self, ratios: Ratios, name: str, part: str, ratio: float, other_threads: bool = False
    ) -> None:
        cell = self.cells[name]
        way = self._way(cell, part)
        for likeness, of in LIKENESS.items():
            for adapters in (way.adapters, ANY_ADAPTERS):
                key = (part, likeness, (*of(cell), way.path, adapters), other_threads)
                ratios[key].add(cell, math.log(ratio))

    def _way(self, cell: Cell, kind: str) -> _Way:
        """Say how a cell trains or predicts, which it does alone where adapters are merged."""
        entry, trains = self.study["models"][cell.model], kind in (FINETUNE, PACE)
        at_work = lora_of(entry) if trains or keeps_adapters(entry) else None
        return _Way(self.attention(cell), WHOLE if at_work is None else str(at_work["kind"]))

    @cached_property
    def _other_threads(self) -> set[tuple[str, str]]:
        """Parts of cells that were measured with other threads than they will have."""
        found = set()
        for row in self.rows:
            name, point = row.get("cell", ""), row.get("inference", "")
            wanted = self.threads.get(name)
            for part, column in ((FINETUNE, "threads"), (PREDICT + point, f"{INFERENCE}threads")):
                if has_other_threads(row, column, wanted):
                    found.add((name, part))
        return found

    @cached_property
    def _trained(self) -> dict[str, dict[str, str]]:
        """Rows of measured trainings that say how many steps and validations they made."""
        made = [r for r in self.rows if positive(r.get("steps")) and positive(r.get("validations"))]
        return {
            row["cell"]: row
            for row in made
            if row.get("cell") in self.cells and self._takes(row, "attention")
        }


def has_other_threads(row: Mapping[str, str], column: str, wanted: int | None) -> bool:
    """Check whether a row of a summary was measured with other threads than are wanted.

    Args:
        row: the row.
        column: of its threads.
        wanted: threads of each process; None or what a row does not say differs from none.
    """
    said = row.get(column, "")
    return bool(wanted) and said not in UNKNOWN and positive(said) != wanted


def _path_of(row: Mapping[str, str], column: str) -> str:
    """Return a measured path of attention, the stock one where results do not say it."""
    known = row.get(column, NA)
    return STOCK if known in ("", NA) else known
