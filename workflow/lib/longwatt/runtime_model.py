"""How long trainings and predictions will take: from their floating-point operations, then from what was measured.

Good enough to order jobs (longest first) and to say roughly what a study will take; not a measurement, and never
reported as one. The operations follow from the settings. How fast a device works through them, how long answers are,
when early stopping strikes and how early examples leave a model with exits are assumptions, each stated where it
stands. Once the study has a summary.csv, predictions are scaled by how long its measured cells really took.

Read at parse time: the standard library only, and one small file per dataset and probe.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from longwatt import cells as grid
from longwatt import settings
from longwatt.cells import FINETUNE, PREDICT, RECORD, Cell
from longwatt.data_sizes import TOKENS_PER_WORD, Data, data_of
from longwatt.provenance import read_object
from longwatt.shapes import HUB_CONFIGS, Shape, shape_of

# Operations a device gets through in a second of training, by precision: what frameworks reach, not data sheets.
CPU_FLOPS = 5.0e10  # a few cores
GPU_FLOPS = {"fp32": 1.0e13, "tf32": 4.0e13, "bf16": 8.0e13, "fp16": 8.0e13}  # a data-centre GPU of 2020
# What one layer takes in a forward pass whatever the work: small batches and token-by-token generation wait for it.
CPU_LAYER_S = 1e-3
GPU_LAYER_S = 1e-3
TRAINING_PASSES = 3  # a forward pass and a backward one of twice its operations
RECOMPUTED_PASSES = 4  # activation checkpointing repeats the forward pass
LABEL_TOKENS = 1  # a label instead of a text, which nothing decodes
LARGEST_BATCH = 8  # examples per device where the batch is the largest that fits, and not known yet
SHORTEST_S = 1e-3  # so that a split of unknown size still gives a ratio


@dataclass(frozen=True)
class Device:
    """What a job computes on.

    Attributes:
        count: devices that share the work.
        flops: operations per second of each.
        layer_s: seconds of a layer's forward pass beside its operations.
    """

    count: int
    flops: float
    layer_s: float

    @classmethod
    def of(cls, budget: Mapping[str, Any]) -> Device:
        """The devices of a budget: its GPUs, or the processes that share the CPU."""
        if not budget["gpus"]:
            processes = grid.devices(budget)
            return cls(processes, CPU_FLOPS / processes, CPU_LAYER_S)
        return cls(int(budget["gpus"]), GPU_FLOPS.get(budget["precision"], GPU_FLOPS["fp32"]), GPU_LAYER_S)


@dataclass(frozen=True)
class Work:
    """What a training does.

    Attributes:
        steps: optimiser steps.
        validations: every so many steps, and after the last.
        step_s: seconds of a step.
        validation_s: seconds of a validation.
    """

    steps: float
    validations: int
    step_s: float
    validation_s: float

    @property
    def seconds(self) -> float:
        """Of all steps and validations."""
        return self.steps * self.step_s + self.validations * self.validation_s

    @property
    def validation_share(self) -> float:
        """Part of the time that validations take, 0 to 1."""
        return self.validations * self.validation_s / self.seconds if self.seconds else 0.0


def median_steps(chosen: Mapping[str, Any], data: Data) -> float:
    """Optimiser steps by which half of the trainings that may stop early have stopped.

    Assumed: between the first possible stop and the last step, each doubling of the steps is as likely to see the stop
    as any other (a log-uniform distribution), so half have stopped at the geometric mean.

    Args:
        chosen: as `longwatt.settings.finetune_settings`.
        data: of its dataset.
    """
    first, last = _stops(chosen, data)
    return math.sqrt(first * last)


def mean_steps(chosen: Mapping[str, Any], data: Data) -> float:
    """Mean optimiser steps of trainings that may stop early, which is what bills add up to.

    It is the mean of the distribution of `median_steps`, and greater than that; arguments as there.
    """
    first, last = _stops(chosen, data)
    return (last - first) / math.log(last / first) if first < last else last


def most_steps(chosen: Mapping[str, Any], data: Data) -> float:
    """Optimiser steps of a training that never stops early; arguments as `median_steps`."""
    training = chosen["training"]
    per_epoch = math.ceil(data.rows.get("train", 0) / _effective_batch(chosen["budget"])) or 1
    last: float = training["max_steps"] or training["max_epochs"] * per_epoch
    return last


def _stops(chosen: Mapping[str, Any], data: Data) -> tuple[float, float]:
    """The first step at which a training can stop, and its last."""
    validation, last = chosen["training"]["validation"], most_steps(chosen, data)
    return min(last, (validation["patience"] + 1) * validation["every_steps"]), last


Steps = Callable[[Mapping[str, Any], Data], float]


def training_work(chosen: Mapping[str, Any], shape: Shape, data: Data, steps: Steps = median_steps) -> Work:
    """What a training does and how long each part of it takes.

    Args:
        chosen: as `longwatt.settings.finetune_settings`.
        shape: of its model.
        data: of its dataset.
        steps: how many it makes: the median, the mean or the most.
    """
    validation = chosen["training"]["validation"]
    done = steps(chosen, data)
    references = chosen.get("comparison", settings.COMPARISON_DEFAULTS)["references"]
    examples = data.predictions(validation["split"], validation["max_examples"], references)
    each = _prediction_seconds(chosen, shape, data, examples, validation)
    validations = math.ceil(done / int(validation["every_steps"]))
    return Work(done, validations, _step_seconds(chosen, shape, data), each)


def finetune_seconds(chosen: Mapping[str, Any], shape: Shape, data: Data) -> float:
    """Seconds of a training with its validations, of the median one; arguments as `training_work`."""
    return training_work(chosen, shape, data).seconds


def predict_seconds(chosen: Mapping[str, Any], shape: Shape, data: Data, depth: float | None = None) -> float:
    """Seconds of one inference point.

    Args:
        chosen: as `longwatt.settings.predict_settings`.
        shape: of its model.
        data: of its dataset.
        depth: the share of its layers that a mean example runs through; None as `Shape.depth` assumes it.
    """
    point = chosen["inference"]
    references = chosen.get("references", settings.COMPARISON_DEFAULTS["references"])
    examples = data.predictions(point["split"], point["max_examples"], references)
    return _prediction_seconds(chosen, shape, data, examples, point, depth)


def record_seconds(chosen: Mapping[str, Any], shape: Shape, data: Data) -> float:
    """Seconds of recording what every exit says of every example, each of which runs through all layers.

    Args:
        chosen: as `longwatt.settings.record_settings`.
        shape: of its model.
        data: of its dataset.
    """
    return _prediction_seconds(chosen, shape, data, _recorded(chosen, data), {"batch_size": chosen["batch_size"]})


def _recorded(chosen: Mapping[str, Any], data: Data) -> int:
    return sum(data.inputs(split) for split in chosen["splits"])


def _per_device_batch(budget: Mapping[str, Any]) -> int:
    batch = budget["per_device_batch_size"]
    return batch if isinstance(batch, int) else LARGEST_BATCH


def _effective_batch(budget: Mapping[str, Any]) -> int:
    return grid.step_batch(_per_device_batch(budget), budget).effective


def _step_seconds(chosen: Mapping[str, Any], shape: Shape, data: Data) -> float:
    """One optimiser step. Devices work at the same time; what they tell each other is left out."""
    training, budget, device = chosen["training"], chosen["budget"], Device.of(chosen["budget"])
    passes = RECOMPUTED_PASSES if training["activation_checkpointing"] else TRAINING_PASSES
    length, targets = _input_tokens(chosen, data), min(_words(data), training.get("max_target_tokens", LABEL_TOKENS))
    step = grid.step_batch(_per_device_batch(budget), budget)
    examples = step.effective / step.accumulation / device.count  # of a mean micro-batch
    work = examples * (shape.encode(length) + shape.decode(targets, length))
    layers = shape.encoder_layers + shape.decoder_layers
    return step.accumulation * passes * _pass_seconds(device, work, layers)


def _input_tokens(chosen: Mapping[str, Any], data: Data) -> float:
    """Tokens of a mean input as a batch holds it."""
    padding = chosen.get("padding") or chosen["training"]["padding"]
    whole = math.inf if padding == "max_length" else data.words_in * TOKENS_PER_WORD
    return float(min(chosen["seq_len"], whole))


def _words(data: Data) -> float:
    """Tokens of a mean reference."""
    return max(1.0, data.words_out * TOKENS_PER_WORD)


def _prediction_seconds(
    chosen: Mapping[str, Any],
    shape: Shape,
    data: Data,
    examples: int,
    how: Mapping[str, Any],
    depth: float | None = None,
) -> float:
    """Predicting `examples`, shared among the devices: labels, one pass over gold targets, or token by token.

    Args:
        chosen: settings of a training or an inference point, whose lengths, protocol, generation and budget count.
        shape: of the model.
        data: of the dataset.
        examples: how many.
        how: `batch_size`, and of labels the rule by which examples `exit` and `regroup_batches`.
        depth: as `predict_seconds`.
    """
    device, length, batch = Device.of(chosen["budget"]), _input_tokens(chosen, data), int(how["batch_size"])
    batches = math.ceil(examples / batch / device.count)
    if not shape.decoder_layers:
        return batches * _label_seconds(device, shape, length, how, depth)
    encoding = _pass_seconds(device, batch * shape.encode(length), shape.encoder_layers)
    if chosen["protocol"] == "teacher_forced":
        targets = min(_words(data), _most_targets(chosen))
        return batches * (encoding + _pass_seconds(device, batch * shape.decode(targets, length), shape.decoder_layers))
    generation = chosen["generation"]
    tokens: float = max(min(_words(data), generation["max_new_tokens"]), generation["min_new_tokens"])
    work = batch * int(generation["num_beams"]) * shape.decode(tokens, length)
    # Every token is a pass of its own through all layers of the decoder.
    return batches * (encoding + _pass_seconds(device, work, tokens * shape.decoder_layers))


def _label_seconds(device: Device, shape: Shape, length: float, how: Mapping[str, Any], depth: float | None) -> float:
    """A batch of labels; without regrouping its layers are waited for as long as one of its examples is unfinished."""
    share = shape.depth(how.get("exit")) if depth is None else depth
    gains = how["batch_size"] == 1 or int(how.get("regroup_batches", 1)) > 1
    layers = shape.encoder_layers * (share if gains else 1.0)
    return _pass_seconds(device, how["batch_size"] * share * shape.encode(length), layers)


def _most_targets(chosen: Mapping[str, Any]) -> int:
    """Most tokens of a gold target, as the settings of a training or of an inference point have it."""
    return int((chosen.get("training") or chosen)["max_target_tokens"])


def _pass_seconds(device: Device, work: float, layers: float) -> float:
    """Seconds of `work` operations in `layers` layers; what a GPU does of both at once is left out."""
    return work / device.flops + layers * device.layer_s


PACE = "finetune, step by step"  # measured over modelled seconds of the steps that were made, however many those were
ANY_POINT = "predict"  # measured over modelled seconds of inference points, whichever they are
MEASURED_SECONDS = {"finetune": "train_runtime_s", "predict": "inference_runtime_s"}  # columns of summary.csv
# Measured cells that a prediction is scaled by: those most like it that there are.
LIKENESS: dict[str, Callable[[Cell], tuple[Any, ...]]] = {
    "dataset, model, seq_len and budget": lambda cell: (cell.dataset, cell.model, cell.seq_len, cell.budget),
    "model and budget": lambda cell: (cell.model, cell.budget),
    "model": lambda cell: (cell.model,),
    "study": lambda cell: (),
}


@dataclass(frozen=True)
class Prediction:
    """How long one part of a cell will probably take.

    Attributes:
        seconds: of computing; starting a process and waiting for GPUs are not in it.
        refined_by: what it has in common with the measured cells that scaled it; None without any.
        cells: how many those were.
    """

    seconds: float
    refined_by: str | None
    cells: int


@dataclass
class _Ratios:
    """Measured over modelled seconds of some cells, as logarithms."""

    by_cell: dict[Cell, tuple[float, int]] = field(default_factory=dict)  # sum and count, all seeds of a cell together
    total: float = 0.0
    count: int = 0

    def add(self, cell: Cell, ratio: float) -> None:
        total, count = self.by_cell.get(_seedless(cell), (0.0, 0))
        self.by_cell[_seedless(cell)] = total + ratio, count + 1
        self.total += ratio
        self.count += 1

    def scale(self, without: Cell | None) -> tuple[float, int]:
        """The geometric mean of the cells' ratios, one left out with all its seeds, and how many those are."""
        total, count = (0.0, 0) if without is None else self.by_cell.get(_seedless(without), (0.0, 0))
        left = self.count - count
        return (math.exp((self.total - total) / left), left) if left else (1.0, 0)


def _seedless(cell: Cell) -> Cell:
    return replace(cell, seed=0)


@dataclass
class RuntimeModel:
    """Predicts every training and prediction of a study.

    A summary measured with other settings than now misleads until it is made anew; it only changes the order of jobs.

    Args:
        study: as `longwatt.study.read_study` reads it.
        cells: its cells by name.
        configs: what is known of each model's configuration from its checkpoint.
        facts: dataset.json of each dataset, empty where it is not there yet.
        summary: the study's summary.csv, or that of its finished cells; whether it is there or not.
        points: the inference points of each cell; None if every cell has all of the study.
        left_out: cells whose rows of the summary do not count.
    """

    study: Mapping[str, Any]
    cells: Mapping[str, Cell]
    configs: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Mapping[str, Any]]
    summary: Path
    points: Mapping[str, Sequence[str]] | None = None
    left_out: frozenset[str] = frozenset()
    _modelled: dict[tuple[Any, ...], float] = field(default_factory=dict, repr=False)
    _settings: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict, repr=False)
    _probed: dict[str, int | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        study: Mapping[str, Any],
        cells: Mapping[str, Cell],
        configs: Mapping[str, Mapping[str, Any]],
        results: str,
        points: Mapping[str, Sequence[str]] | None = None,
    ) -> RuntimeModel:
        """The model of a study whose files are where the rules put them."""
        used = {cell.dataset for cell in cells.values()}
        folder = Path("resources/datasets")
        paths = {name: folder / settings.dataset_key(study, name) / "dataset.json" for name in used}
        facts = {name: read_object(path) for name, path in paths.items()}
        return cls(study, cells, configs, facts, newest_summary(Path(results)), points)

    def points_of(self, name: str) -> Sequence[str]:
        """The inference points of a cell."""
        return list(self.study["inference"]) if self.points is None else self.points[name]

    def records(self, name: str) -> bool:
        """Whether what a cell's exits say is recorded: of two or more, to fit temperatures and compare thresholds."""
        return len(self.shapes[self.cells[name].model].exits) > 1

    def predict(self, name: str, part: str, without: str | None = None) -> Prediction:
        """Seconds of one part of a cell, of trainings the median, scaled by the cells most like it that were measured.

        Args:
            name: the cell.
            part: "finetune", "predict/{inference}" or "exits".
            without: a cell whose own measurements, of all seeds, are left out, to see how well others foretell it.
        """
        out = None if without is None else self.cells[without]
        modelled = self.modelled(name, part, self.measured_depth(name, part, without))
        return self._scaled(modelled, ANY_POINT if part == RECORD else part, self.cells[name], out)

    def _scaled(self, seconds: float, kind: str, cell: Cell, out: Cell | None = None) -> Prediction:
        """Modelled seconds times the ratio that the measured cells most like this one had."""
        for likeness, of in LIKENESS.items():
            scale, count = self._ratios.get((kind, likeness, of(cell)), _Ratios()).scale(out)
            if count:
                return Prediction(seconds * scale, likeness, count)
        return Prediction(seconds, None, 0)

    def measured_depth(self, name: str, part: str, without: str | None = None) -> float | None:
        """The share of its layers that a mean example ran through at an inference point of the cells most like one.

        Args:
            name: the cell.
            part: "predict/{inference}".
            without: as `predict`.

        Returns:
            None where none was measured, or examples run through all layers.
        """
        if not self._depths:
            return None
        cell, out = self.cells[name], None if without is None else self.cells[without]
        for likeness, of in LIKENESS.items():
            share, count = self._depths.get((part, likeness, of(cell)), _Ratios()).scale(out)
            if count:
                return share
        return None

    def mean(self, name: str) -> Prediction:
        """Mean seconds of a training over when it may stop early; scaled as its median, which `predict` gives."""
        found = self.predict(name, FINETUNE)
        ratio = self.work(name, mean_steps).seconds / self.work(name).seconds
        return replace(found, seconds=found.seconds * ratio)

    def at_most(self, name: str, part: str = FINETUNE) -> Prediction:
        """Seconds of a training that never stops early, or a prediction in which every example runs all layers.

        Scaled by the pace of the measured cells most like it.
        """
        cell = self.cells[name]
        if part == FINETUNE:
            return self._scaled(self.work(name, most_steps).seconds, PACE, cell)
        return self._scaled(self.modelled(name, part, depth=1.0), ANY_POINT if part == RECORD else part, cell)

    def work(self, name: str, steps: Steps = median_steps) -> Work:
        """What a cell's training of so many steps does, by its operations alone."""
        cell = self.cells[name]
        shape, data, chosen = self.shapes[cell.model], self.data[cell.dataset], self._chosen(cell, FINETUNE)
        return training_work(chosen, shape, data, steps)

    def trained(self, name: str) -> Work | None:
        """What a measured training did, with measured seconds; None if it was not measured."""
        if name not in self._trained:
            return None
        row = self._trained[name]
        made = self._as_made(name)
        steps_s, validation_s = positive(row.get("train_steps_s")), positive(row.get("validation_s"))
        if steps_s is None or validation_s is None:
            return made
        return replace(made, step_s=steps_s / made.steps, validation_s=validation_s / made.validations)

    def _as_made(self, name: str) -> Work:
        """The steps and validations that a measured training made, with modelled seconds."""
        row = self._trained[name]
        return replace(self.work(name), steps=float(row["steps"]), validations=int(float(row["validations"])))

    def modelled(self, name: str, part: str, depth: float | None = None) -> float:
        """Seconds of one part of a cell by its operations alone; cells that differ only by seed share one figure.

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
            return record_seconds(self._recording(name), shape, data)
        chosen = self._chosen(cell, part)
        if part == FINETUNE:
            return finetune_seconds(chosen, shape, data)
        return predict_seconds(chosen, shape, data, depth)

    def recorded_examples(self, name: str) -> int:
        """Examples of which a cell's exits are recorded: of the split of its calibration and those of its points."""
        return _recorded(self._recording(name), self.data[self.cells[name].dataset])

    def _recording(self, name: str) -> dict[str, Any]:
        cell = self.cells[name]
        splits = [self._chosen(cell, PREDICT + point)["inference"]["split"] for point in self.points_of(name)]
        return settings.record_settings(self.study, cell, splits)

    def _chosen(self, cell: Cell, part: str) -> dict[str, Any]:
        """A part's settings. Merging them takes a while, so cells that differ by length or protocol share the rest."""
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
        return chosen if found is None else {**chosen, "budget": {**budget, "per_device_batch_size": found}}

    def largest_batch(self, name: str) -> int | None:
        """Examples per device that a probe has found to fit for a cell; None if it has not, or is not asked to."""
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
        """What is known of each model's configuration: from its tokenizer, the hub, its checkpoint and the study."""
        known = {}
        for name in {cell.model for cell in self.cells.values()}:
            entry = self.study["models"][name]
            trained = self.study["tokenizers"][entry["tokenizer"]]  # its vocabulary, if it is made here
            published = HUB_CONFIGS.get(str(entry.get("repository")), {})
            known[name] = {**trained, **published, **self.configs.get(name, {}), **(entry.get("config") or {})}
        return known

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each model."""
        models = self.study["models"]
        return {
            name: shape_of(models[name]["family"], known, models[name].get("exits"))
            for name, known in self.known_configs.items()
        }

    @cached_property
    def data(self) -> dict[str, Data]:
        """What is known of each dataset."""
        entries = self.study["datasets"]
        return {
            name: data_of(
                entries[name]["source"],
                entries[name].get("options", {}),
                self.facts.get(name, {}),
                labelled=grid.classifies(self.study, name),
            )
            for name in {cell.dataset for cell in self.cells.values()}
        }

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the summary that count."""
        return [row for row in csv_rows(self.summary) if row.get("cell") not in self.left_out]

    @cached_property
    def measured(self) -> dict[tuple[str, str], float]:
        """Measured seconds by cell and part, of cells of this study; empty before it has a summary."""
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            name, point = row.get("cell", ""), row.get("inference", "")
            for part, column in ((FINETUNE, "finetune"), (PREDICT + point, "predict")):
                seconds = positive(row.get(MEASURED_SECONDS[column]))
                if name in self.cells and seconds and (part == FINETUNE or point in self.points_of(name)):
                    found[name, part] = seconds
        return found

    @cached_property
    def _ran(self) -> dict[tuple[str, str], float]:
        """The share of its layers that a mean example ran through, by cell and part, of models with several exits."""
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            name, layers = row.get("cell", ""), positive(row.get("mean_layers"))
            if name in self.cells and layers and self.records(name):
                built = self.shapes[self.cells[name].model].encoder_layers
                found[name, PREDICT + row.get("inference", "")] = min(1.0, layers / built)
        return found

    @cached_property
    def _depths(self) -> dict[tuple[str, str, tuple[Any, ...]], _Ratios]:
        shares: dict[tuple[str, str, tuple[Any, ...]], _Ratios] = defaultdict(_Ratios)
        for (name, part), share in self._ran.items():
            self._add(shares, name, part, share)
        return shares

    @cached_property
    def _ratios(self) -> dict[tuple[str, str, tuple[Any, ...]], _Ratios]:
        ratios: dict[tuple[str, str, tuple[Any, ...]], _Ratios] = defaultdict(_Ratios)
        for (name, part), seconds in self.measured.items():
            ratio = seconds / self.modelled(name, part, self._ran.get((name, part)))
            self._add(ratios, name, part, ratio)
            if part != FINETUNE:
                self._add(ratios, name, ANY_POINT, ratio)
        for (name, part), seconds in self.measured.items():
            if part == FINETUNE and name in self._trained:
                self._add(ratios, name, PACE, seconds / max(SHORTEST_S, self._as_made(name).seconds))
        return ratios

    def _add(self, ratios: dict[tuple[str, str, tuple[Any, ...]], _Ratios], name: str, part: str, ratio: float) -> None:
        for likeness, of in LIKENESS.items():
            ratios[part, likeness, of(self.cells[name])].add(self.cells[name], math.log(ratio))

    @cached_property
    def _trained(self) -> dict[str, dict[str, str]]:
        """The rows of measured trainings that say how many steps and validations they made."""
        return {
            row["cell"]: row
            for row in self.rows
            if row.get("cell") in self.cells and positive(row.get("steps")) and positive(row.get("validations"))
        }


def newest_summary(results: Path) -> Path:
    """The newer of a study's summary.csv and that of its finished cells (`snakemake partial`).

    Args:
        results: results/{study}.

    Returns:
        The path of the first where neither is there.
    """
    whole, partial = results / "summary.csv", results / "partial" / "summary.csv"
    there = [path for path in (whole, partial) if path.is_file()]
    return max(there, key=lambda path: path.stat().st_mtime, default=whole)


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where it is missing or cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error):
        return []


def positive(text: str | None) -> float | None:
    """A positive number; None for NA and whatever else stands there."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
