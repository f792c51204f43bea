"""What was measured of every inference point of cells that classify: answers, seconds and joules."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt import flags
from longwatt.artefacts import check_beside, json_rows, read_artefact, read_from
from longwatt.differences import machine_of
from longwatt.exit_logits import Recorded, read_logits
from longwatt.exit_points import LAST, rule_of

Array = NDArray[Any]
EARLY_EXIT, STANDARD, EFFICIENT = "early_exit", "standard", "efficient"
FROM_TRAINING = ("exit_kind", "exit_layers", "encoder", "encoder_layers", "ended_by")
# Cells that differ in none of these differ only in where their classifiers stand.
SAME = ("dataset", "encoder", "seq_len", "budget", "protocol", "seed")
FROM_SCORES = (
    "accuracy", "accuracy_ci_low", "accuracy_ci_high", "macro_f1", "macro_f1_ci_low", "macro_f1_ci_high", "examples",
)  # fmt: skip
FROM_INFERENCE = ("mean_layers", "left_after_layers", "regroup_batches")


@dataclass(frozen=True)
class Measured:
    """One inference point of one cell.

    Attributes:
        cell: what is known of the cell, FROM_TRAINING included.
        name: of the point.
        split: whose examples were predicted.
        batch_size: rows of a forward pass.
        rule: threshold, patience, oracle or last.
        value: of the threshold or patience.
        ids: of the examples, in the order of examples.csv.
        right: 100 or 0 (examples).
        seconds: each example's; of a batch with several, an equal share (examples).
        batches: seconds and examples of every batch (batches, 2).
        facts: of its scores, its inference and its energy, by column.
        train_seconds_per_sample: of the cell's training steps.
        machine: what it was measured on (`longwatt.differences.machine_of`).
        trained_on: what the cell was trained on.
    """

    cell: Mapping[str, Any]
    name: str
    split: str
    batch_size: int
    rule: str
    value: float | None
    ids: tuple[str, ...]
    right: Array
    seconds: Array
    batches: Array
    facts: Mapping[str, Any]
    train_seconds_per_sample: float
    machine: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """early_exit, standard or efficient."""
        return str(self.cell["exit_kind"])

    @property
    def key(self) -> tuple[str, str]:
        """The cell and the point."""
        return self.cell["cell"], self.name

    @cached_property
    def accuracy(self) -> float:
        """In percent."""
        return float(self.right.mean())

    @cached_property
    def seconds_per_example(self) -> float:
        """Mean over examples of the measured window."""
        return float(self.batches[:, 0].sum() / self.batches[:, 1].sum())

    @property
    def compared_with(self) -> tuple[Any, ...]:
        """Equal for points that may be set side by side."""
        return (*(self.cell[key] for key in SAME), self.split, self.batch_size)

    def in_order(self, ids: tuple[str, ...]) -> tuple[Array, Array] | None:
        """Rightness and seconds of these examples, in their order; None if it predicted others."""
        places = {id_: place for place, id_ in enumerate(self.ids)}
        if len(ids) != len(places) or any(id_ not in places for id_ in ids):
            return None
        order = [places[id_] for id_ in ids]
        return self.right[order], self.seconds[order]


@dataclass(frozen=True)
class CellResults:
    """What is there of one cell that classifies.

    Attributes:
        cell: what is known of it, FROM_TRAINING included.
        points: its inference points.
        recorded: logits by split; none of a baseline, which has one classifier.
        calibration: calibration.json; empty for a baseline.
        validation_score: the best of its training; None if that says none.
    """

    cell: Mapping[str, Any]
    points: Sequence[Measured]
    recorded: Mapping[str, Recorded]
    calibration: Mapping[str, Any]
    validation_score: float | None

    @property
    def splits(self) -> list[str]:
        """Those of its points."""
        return list(dict.fromkeys(point.split for point in self.points))


def read_cell(results: Path, cell: Mapping[str, Any]) -> CellResults | None:
    """What a cell's folder holds; None if its model has no classifiers.

    Args:
        results: results/{study}.
        cell: cell, the axes, and `points`: inference settings by name.
    """
    folder = results / cell["cell"]
    training = read(folder / "finetune" / "training.json")
    if "exit_kind" not in training:
        return None
    known = {**cell, **{name: training[name] for name in FROM_TRAINING if name in training}}
    points = [
        _measured(folder / "predict" / name, name, known, settings, training)
        for name, settings in cell["points"].items()
    ]
    recorded: Mapping[str, Recorded] = {}
    calibration: Mapping[str, Any] = {}
    if known["exit_kind"] == EARLY_EXIT:
        recorded = read_logits(folder / "exits" / "logits.jsonl")
        calibration = read(folder / "calibrate" / "calibration.json")
    return CellResults(known, points, recorded, calibration, training.get("best_score"))


def read(path: Path) -> dict[str, Any]:
    """Read a JSON artefact.

    Raises:
        longwatt.artefacts.Damaged: it is not what was written.
    """
    return read_artefact(path)


def _measured(
    folder: Path,
    name: str,
    cell: Mapping[str, Any],
    known: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Measured:
    check_beside(folder / "inference.json", folder / "predictions.jsonl")
    check_beside(folder / "scores.json", folder / "examples.csv")
    with read_from(folder / "predictions.jsonl"):
        rows = {row["id"]: row for row in json_rows(folder / "predictions.jsonl")}
    with read_from(folder / "examples.csv"):
        right = dict(_examples(folder / "examples.csv"))
    inference = read(folder / "inference.json")
    settings = predicted_with(inference, known)
    rule, value = rule_of(settings.get("exit"))
    batches = _batches(rows)
    return Measured(
        cell=cell,
        name=name,
        split=settings["split"],
        batch_size=settings["batch_size"],
        rule=rule
        if len(cell["exit_layers"]) > 1
        else LAST,  # an only classifier answers whatever the rule
        value=value,
        ids=tuple(right),
        right=np.array(list(right.values())),
        seconds=np.array(
            [batches[rows[id_]["batch"]][0] / batches[rows[id_]["batch"]][1] for id_ in right]
        ),
        batches=np.array(list(batches.values())),
        facts=_facts(folder),
        train_seconds_per_sample=training["train_s"] / training["samples"],
        machine=machine_of(inference),
        trained_on=machine_of(training),
    )


def predicted_with(inference: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the settings of an inference point from its artefact, or from the study where that does not say.

    Args:
        inference: inference.json.
        known: what the study says of the point.
    """
    block = inference.get("provenance") or {}
    made: Mapping[str, Any] = (block.get("settings") or {}).get("inference") or known
    return made


def _examples(path: Path) -> Iterator[tuple[str, float]]:
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield row["id"], float(row["accuracy"])


def _batches(rows: Mapping[str, Mapping[str, Any]]) -> dict[int, tuple[float, int]]:
    """Seconds and number of examples by batch."""
    found: dict[int, tuple[float, int]] = {}
    for row in rows.values():
        found[row["batch"]] = (row["batch_seconds"], found.get(row["batch"], (0.0, 0))[1] + 1)
    return found


def _facts(folder: Path) -> dict[str, Any]:
    scores, inference, energy = (
        read(folder / f"{name}.json") for name in ("scores", "inference", "energy")
    )
    joules = energy.get("energy_j")
    return {
        **{name: scores.get(name) for name in (*FROM_SCORES, "majority")},
        **{name: inference.get(name) for name in FROM_INFERENCE},
        "joules_per_example": None if joules is None else joules / inference["samples"],
        "energy_source": energy.get("energy_source"),
        "energy_measured": energy.get("measured"),
        "energy_flags": flags.of_energy(energy, inference.get("inference_runtime_s")),
    }
