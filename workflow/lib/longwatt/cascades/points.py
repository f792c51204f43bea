"""Read finished inference points, and group those that a cascade can join."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.cascades.members import Answered, read_answered
from longwatt.energy import flags
from longwatt.metrics.document_samples import documents_of
from longwatt.metrics.resampling import Sample
from longwatt.provenance.artefacts import read_artefact
from longwatt.results.differences import machine_of, unlike_words
from longwatt.study.cascades import CASCADE, answer_files
from longwatt.study.summary_columns import ENVIRONMENT

# What the points of a group have in common: they answer the same examples in the same way.
COMMON = ("dataset", "protocol", "seed", "kind")
FITTED_SPLIT, STATED_SPLIT = "validation", "test"  # where a group has both
J, MS = "J", "ms"  # units of a request's cost
KnownPoint = Mapping[str, Any]  # as `longwatt.study.reported.report_settings.answering`


@dataclass(frozen=True, eq=False)
class AnsweredPoint:
    """One inference point of one cell.

    Attributes:
        known: of the point beforehand.
        answered: by example.
        joules: of a request, None where unknown.
        milliseconds: of a request, batched as measured.
        estimated: whether the joules are an estimate.
        energy_flags: caveats of the joules.
        machine: what it was measured on.
        cascade: what inference.json says of a cascade, empty for one cell.
    """

    known: KnownPoint
    answered: Answered
    joules: float | None
    milliseconds: float
    estimated: bool
    energy_flags: Sequence[str]
    machine: Mapping[str, Any]
    cascade: Mapping[str, Any]

    @property
    def cell(self) -> str:
        """The cell's name."""
        return str(self.known["cell"])

    def cost(self, unit: str) -> float:
        """Return the joules or milliseconds of a request."""
        found = self.joules if unit == J else self.milliseconds
        assert found is not None, "joules are asked for where all are known"
        return found


def read_point(results: Path, known: KnownPoint) -> AnsweredPoint:
    """Read an inference point's folder below results/{study}.

    Raises:
        longwatt.provenance.artefacts.Damaged: a file is not what was written.
    """
    folder = results / known["cell"] / "predict" / known["inference"]
    files = {kind: Path(path) for kind, path in answer_files(str(folder)).items()}
    inference = read_artefact(files["inference"])
    energy = read_artefact(folder / "energy.json")
    joules, seconds = energy.get("energy_j"), inference["inference_runtime_s"]
    return AnsweredPoint(
        known=known,
        answered=read_answered(**files),
        joules=None if joules is None else joules / inference["samples"],
        milliseconds=1000 * seconds / inference["samples"],
        estimated=joules is not None and not energy.get("measured"),
        energy_flags=flags.of_energy(energy, seconds),
        machine=machine_of(inference),
        cascade=inference.get(CASCADE, {}),
    )


@dataclass(frozen=True, eq=False)
class Member:
    """A cell of a group, its answers apart for fitting thresholds and for stating results.

    Attributes:
        point: whose requests cost what a result is stated with.
        fitted: answers on which thresholds are fitted.
        stated: answers to other examples.
    """

    point: AnsweredPoint
    fitted: Answered
    stated: Answered


@dataclass(frozen=True, eq=False)
class CascadeGroup:
    """Cells that answered the same examples in the same way.

    Attributes:
        common: of all its points (`COMMON`).
        members: by cost of a request, cheap first.
        unit: J, or ms where the joules of some are unknown.
        halved: whether one split was halved by example, for want of a second.
        splits: those of fitting and of stating.
        alone: all its points that are no cascades, by cell and split.
        cascades: points of these cells that ran as cascades.
    """

    common: Mapping[str, Any]
    members: Sequence[Member]
    unit: str
    halved: bool
    splits: tuple[str, str]
    alone: Mapping[str, Mapping[str, AnsweredPoint]]
    cascades: Sequence[AnsweredPoint]

    @property
    def estimated(self) -> bool:
        """True if some joules are estimates."""
        return self.unit == J and any(one.point.estimated for one in self.members)

    @property
    def across(self) -> str | None:
        """How the machines differ that costs were measured on, None if they do not."""
        machines = [one.point.machine for one in self.members]
        return ", ".join(unlike_words(machines, ENVIRONMENT)) or None


def groups_of(points: Sequence[AnsweredPoint]) -> list[CascadeGroup]:
    """Group points that cascades can join, of two cells or more."""
    by_common: dict[tuple[Any, ...], list[AnsweredPoint]] = {}
    for point in points:
        by_common.setdefault(tuple(point.known[name] for name in COMMON), []).append(point)
    found = (_group(dict(zip(COMMON, key, strict=True)), own) for key, own in by_common.items())
    return [group for group in found if group is not None]


def _group(common: Mapping[str, Any], points: Sequence[AnsweredPoint]) -> CascadeGroup | None:
    alone: dict[str, dict[str, AnsweredPoint]] = {}
    for point in _of_the_same_examples([one for one in points if not one.cascade]):
        alone.setdefault(point.cell, {}).setdefault(point.known["split"], point)
    shared = set.intersection(*map(set, alone.values())) if alone else set()
    if len(alone) < 2 or not shared:
        return None
    splits = _splits(shared)
    used = [own[splits[1]] for own in alone.values()]
    unit = J if all(point.joules is not None for point in used) else MS
    halved = splits[0] == splits[1]
    halves = _halves([point.answered.sample for point in used]) if halved else None
    if halves is not None and len(set(halves.values())) < 2:
        return None  # too few examples to part
    members = [_member(own, splits, halves) for own in alone.values()]
    members.sort(key=lambda one: one.point.cost(unit))
    cascades = [point for point in points if point.cascade]
    return CascadeGroup(common, members, unit, halved, splits, alone, cascades)


def _of_the_same_examples(points: Sequence[AnsweredPoint]) -> list[AnsweredPoint]:
    """Keep of each split the points with those examples that most cells answered."""
    answered: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for point in points:
        by_ids = answered.setdefault(point.known["split"], {})
        by_ids.setdefault(point.answered.sample.ids, set()).add(point.cell)
    kept = {
        split: max(by_ids, key=lambda ids: (len(by_ids[ids]), len(ids)))
        for split, by_ids in answered.items()
    }
    return [point for point in points if point.answered.sample.ids == kept[point.known["split"]]]


def _splits(shared: set[str]) -> tuple[str, str]:
    """Choose the splits of fitting and stating, one split twice if there is only one."""
    order = sorted(shared, key=lambda split: (split != FITTED_SPLIT, split))
    others = [split for split in order[1:] if split == STATED_SPLIT] or order[1:] or order
    return order[0], others[0]


def _member(
    own: Mapping[str, AnsweredPoint], splits: tuple[str, str], halves: Mapping[str, bool] | None
) -> Member:
    fitted, stated = (own[split] for split in splits)
    if halves is None:
        return Member(stated, fitted.answered, stated.answered)
    first = np.array([halves[id_] for id_ in stated.answered.sample.ids])
    parts = (np.flatnonzero(half) for half in (first, ~first))
    return Member(stated, *map(stated.answered.part, parts))


def _halves(samples: Sequence[Sample]) -> dict[str, bool]:
    """Say which examples are of the first half, documents whole.

    A digest of an id decides, of a document that of its first example. Results scored before
    documents were recorded take them from the others, so that all cells have the same halves.
    """
    halves: dict[str, bool] = {}
    for sample in sorted(samples, key=_documents):
        numbers = documents_of(sample) or range(len(sample.ids))
        first: dict[int, str] = {}
        for number, id_ in zip(numbers, sample.ids, strict=True):
            digest = hashlib.sha256(first.setdefault(number, id_).encode()).digest()
            halves.setdefault(id_, digest[0] % 2 == 0)
    return halves


def _documents(sample: Sample) -> int:
    return len(set(documents_of(sample) or sample.ids))
