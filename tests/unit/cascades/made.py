"""Answers of made-up cells, whose scores and confidences are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from longwatt.cascades.members import Answered
from longwatt.cascades.points import AnsweredPoint, CascadeGroup, Member
from longwatt.metrics.resampling import Resampling, Sample
from longwatt.study.cascades import MEAN

HOW = Resampling(200, 0.95, 0)
CHEAP, MIDDLE, DEAR = "d/m/64/b/generated/seed1", "d/m/128/b/generated/seed1", "d/m/256/b/x/seed1"


def ids(count: int) -> list[str]:
    return [f"e{number:04}" for number in range(count)]


def sample(values: Any) -> Sample:
    """Scores of examples (examples) or (examples, metrics)."""
    found = np.asarray(values, float)
    return Sample.of(ids(len(found)), found[:, None] if found.ndim == 1 else found)


def answers(
    values: Any, sure: Sequence[float | None] | None = None, texts: Sequence[str] | None = None
) -> Answered:
    own = sample(values)
    sure = [0.0] * len(own.ids) if sure is None else sure
    said = texts or [f"{value}" for value in np.asarray(values).tolist()]
    facts = tuple({MEAN: one} for one in sure)
    return Answered(own, tuple(said), facts, "f1")


def point(cell: str, answered: Answered, joules: float | None, **more: Any) -> AnsweredPoint:
    known = {"cell": cell, "inference": "test", "split": "test", "random_weights": False}
    known |= {name: more.pop(name) for name in ("inference", "split") if name in more}
    common = {"dataset": "d", "protocol": "generated", "seed": 1, "kind": "k"}
    own = {"estimated": False, "energy_flags": (), "machine": {}, "cascade": {}, **more}
    milliseconds = own.pop("milliseconds", 5.0)
    return AnsweredPoint({**common, **known}, answered, joules, milliseconds, **own)


def member(cell: str, joules: float | None, stated: Answered, fitted: Answered | None = None):
    return Member(point(cell, stated, joules), fitted or stated, stated)


def group(*members: Member, unit: str = "J", cascades: Sequence[AnsweredPoint] = ()):
    alone = {one.point.cell: {"test": one.point} for one in members}
    common = {"dataset": "d", "protocol": "generated", "seed": 1, "kind": "k"}
    splits = ("validation", "test")
    return CascadeGroup(common, members, unit, False, splits, alone, cascades)
