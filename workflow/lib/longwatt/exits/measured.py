"""Read every inference point of cells that classify: answers, seconds and joules."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.energy import flags
from longwatt.exits.logits import LogitArray, Recorded, read_logits
from longwatt.exits.replay import rule_of
from longwatt.models.exits.rules import LAST
from longwatt.provenance.artefacts import check_beside, json_rows, read_artefact, read_from
from longwatt.results.differences import machine_of
from longwatt.results.example_scores import DOCUMENT

MeasuredFacts = Mapping[str, Any]
EARLY_EXIT_KIND, STANDARD_KIND, EFFICIENT_KIND = "early_exit", "standard", "efficient"
TRAINING_FACTS = ("exit_kind", "exit_layers", "encoder", "encoder_layers", "ended_by")
# Cells that differ in none of these differ only in where their classifiers stand.
SAME = ("dataset", "encoder", "seq_len", "budget", "protocol", "seed")
SCORE_FACTS = (
    "accuracy", "accuracy_ci_low", "accuracy_ci_high",
    "macro_f1", "macro_f1_ci_low", "macro_f1_ci_high", "examples",
)  # fmt: skip
INFERENCE_FACTS = ("mean_layers", "left_after_layers", "regroup_batches")


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
        machine: what it was measured on (`longwatt.results.differences.machine_of`).
        trained_on: what the cell was trained on.
        documents: of the examples, by id, where examples share some; empty otherwise.
    """

    cell: MeasuredFacts
    name: str
    split: str
    batch_size: int
    rule: str
    value: float | None
    ids: tuple[str, ...]
    right: LogitArray
    seconds: LogitArray
    batches: LogitArray
    facts: MeasuredFacts
    train_seconds_per_sample: float
    machine: MeasuredFacts = field(default_factory=dict)
    trained_on: MeasuredFacts = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its cell's kind: early_exit, standard or efficient."""
        return str(self.cell["exit_kind"])

    @property
    def key(self) -> tuple[str, str]:
        """The cell and the point."""
        return self.cell["cell"], self.name

    @cached_property
    def accuracy(self) -> float:
        """Percentage of right answers."""
        return float(self.right.mean())

    @cached_property
    def seconds_per_example(self) -> float:
        """Mean over examples of the measured window."""
        return float(self.batches[:, 0].sum() / self.batches[:, 1].sum())

    @property
    def compared_with(self) -> tuple[Any, ...]:
        """A key that is equal for points that may be set side by side."""
        return (*(self.cell[key] for key in SAME), self.split, self.batch_size)

    def in_order(self, ids: tuple[str, ...]) -> tuple[LogitArray, LogitArray] | None:
        """Return these examples' rightness and seconds, or None if it predicted others."""
        places = {id_: place for place, id_ in enumerate(self.ids)}
        if len(ids) != len(places) or any(id_ not in places for id_ in ids):
            return None
        order = [places[id_] for id_ in ids]
        return self.right[order], self.seconds[order]


@dataclass(frozen=True)
class CellResults:
    """Results of one cell that classifies.

    Attributes:
        cell: what is known of it, FROM_TRAINING included.
        points: its inference points.
        recorded: logits by split; none of a baseline, which has one classifier.
        calibration: calibration.json; empty for a baseline.
        validation_score: the best of its training; None if that says none.
    """

    cell: MeasuredFacts
    points: Sequence[Measured]
    recorded: Mapping[str, Recorded]
    calibration: MeasuredFacts
    validation_score: float | None

    @property
    def splits(self) -> list[str]:
        """The splits of its points."""
        return list(dict.fromkeys(point.split for point in self.points))


def read_cell(results: Path, cell: MeasuredFacts) -> CellResults | None:
    """Read a cell's folder, or return None if its model has no classifiers.

    Args:
        results: results/{study}.
        cell: cell, the axes, and `points`: inference settings by name.
    """
    folder = results / cell["cell"]
    training = read_artefact(folder / "finetune" / "training.json")
    if "exit_kind" not in training:
        return None
    known = {**cell, **{name: training[name] for name in TRAINING_FACTS if name in training}}
    points = [
        _measured(folder / "predict" / name, known, settings, training)
        for name, settings in cell["points"].items()
    ]
    recorded: Mapping[str, Recorded] = {}
    calibration: MeasuredFacts = {}
    if known["exit_kind"] == EARLY_EXIT_KIND:
        recorded = read_logits(folder / "exits" / "logits.jsonl")
        calibration = read_artefact(folder / "calibrate" / "calibration.json")
    return CellResults(known, points, recorded, calibration, training.get("best_score"))


def _measured(
    folder: Path, cell: MeasuredFacts, known: MeasuredFacts, training: MeasuredFacts
) -> Measured:
    """Read an inference point's folder, with the study's settings where it says none."""
    check_beside(folder / "inference.json", folder / "predictions.jsonl")
    check_beside(folder / "scores.json", folder / "examples.csv")
    with read_from(folder / "predictions.jsonl"):
        rows = {row["id"]: row for row in json_rows(folder / "predictions.jsonl")}
    path = folder / "examples.csv"
    with read_from(path), path.open(encoding="utf-8", newline="") as stream:
        scored = {row["id"]: row for row in csv.DictReader(stream)}
        right = {id_: float(row["accuracy"]) for id_, row in scored.items()}
        documents = {id_: row[DOCUMENT] for id_, row in scored.items() if DOCUMENT in row}
    inference = read_artefact(folder / "inference.json")
    # The settings are the artefact's, or the study's where it has none.
    stamped = (inference.get("provenance") or {}).get("settings") or {}
    settings = stamped.get("inference") or known
    rule, value = rule_of(settings.get("exit"))
    counts = Counter(row["batch"] for row in rows.values())
    times = {row["batch"]: row["batch_seconds"] for row in rows.values()}
    own = [rows[id_]["batch"] for id_ in right]
    return Measured(
        cell=cell,
        name=folder.name,
        split=settings["split"],
        batch_size=settings["batch_size"],
        # An only classifier answers whatever the rule.
        rule=rule if len(cell["exit_layers"]) > 1 else LAST,
        value=value,
        ids=tuple(right),
        right=np.array(list(right.values())),
        seconds=np.array([times[batch] / counts[batch] for batch in own]),
        batches=np.array([(times[batch], count) for batch, count in counts.items()]),
        facts=_facts(folder, inference),
        train_seconds_per_sample=training["train_s"] / training["samples"],
        machine=machine_of(inference),
        trained_on=machine_of(training),
        documents=documents,
    )


def _facts(folder: Path, inference: MeasuredFacts) -> dict[str, Any]:
    scores, energy = (read_artefact(folder / name) for name in ("scores.json", "energy.json"))
    joules = energy.get("energy_j")
    return {
        **{name: scores.get(name) for name in (*SCORE_FACTS, "majority")},
        **{name: inference.get(name) for name in INFERENCE_FACTS},
        "joules_per_example": None if joules is None else joules / inference["samples"],
        "energy_source": energy.get("energy_source"),
        "energy_measured": energy.get("measured"),
        "energy_flags": flags.of_energy(energy, inference.get("inference_runtime_s")),
    }
