"""Cascades of a study: which cell answers first, with which settings, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.config.errors import StudyError
from longwatt.study.cascades import CASCADE, MEAN
from longwatt.study.cells import AXES, TEACHER_FORCED, Cell

# `keep_score` is the share of the better cell's score that a threshold is to keep.
CASCADE_DEFAULTS: dict[str, Any] = {"confidence": MEAN, "keep_score": 0.99}
REGROUP_BATCHES = 8  # batches whose unsure examples go to the next cell together
# Axes on which both cells agree, since they answer the same examples of one study.
SHARED = ("dataset", "protocol", "seed")


def cascade_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cascade of an inference point with its defaults, empty where it is none."""
    return {**CASCADE_DEFAULTS, **point[CASCADE]} if CASCADE in point else {}


def first_cell(
    cells: Mapping[str, Cell], cell: Cell, cascade: Mapping[str, Any], where: str
) -> Cell:
    """Find the cell that answers first: this one but for what `first` names.

    Args:
        cells: of the study, by name.
        cell: answers last.
        cascade: as `cascade_of`.
        where: names the cascade in messages.

    Raises:
        StudyError: it is the same cell, or none of the study.
    """
    axes: dict[str, Any] = {axis: getattr(cell, axis) for axis in AXES} | cascade["first"]
    found = Cell(**axes)
    if found == cell:
        raise StudyError(
            f"{where}.first names {cell.name} itself; name the points of the cells that answer "
            "last in a block of the grid (`inference`), or another first cell"
        )
    if found.name not in cells:
        near = [name for name, one in cells.items() if _shares(one, cell) and one != cell]
        there = ", ".join(near) or "none"
        raise StudyError(
            f"{where}.first is, beside {cell.name}, {found.name}, which the grid does not have; "
            f"it has {there}"
        )
    return found


def _shares(one: Cell, other: Cell) -> bool:
    return all(getattr(one, axis) == getattr(other, axis) for axis in SHARED)


def with_first(
    chosen: Mapping[str, Any], first: Mapping[str, Any], name: str, cascade: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a prediction by two cells.

    Args:
        chosen: of the cell that answers last, as `longwatt.study.settings.predict_settings`.
        first: the same of the cell that answers first.
        name: of the cell that answers first.
        cascade: as `cascade_of`.
    """
    own = {"first": name, "confidence": cascade["confidence"]}
    point = {**chosen["inference"], CASCADE: own}
    point.setdefault("regroup_batches", REGROUP_BATCHES)
    if point["batch_size"] == 1:
        point["regroup_batches"] = 1  # nothing to regroup
    rest = {key: value for key, value in first["inference"].items() if key != CASCADE}
    alone = {**first, "inference": rest, "budget": chosen["budget"]}  # one job on one budget
    return {**chosen, "inference": point, "first": alone}


def check_cascade(
    name: str,
    cascade: Mapping[str, Any],
    points: Mapping[str, Mapping[str, Any]],
    firsts: Mapping[str, Mapping[str, Any]],
    where: str,
) -> None:
    """Refuse a cascade that cannot be fitted, or judged apart from its fit.

    Args:
        name: of its inference point.
        cascade: as `cascade_of`.
        points: of the cell that answers last: `longwatt.study.settings.predict_settings` by name.
        firsts: of the cell that answers first.
        where: names the point in messages.

    Raises:
        StudyError: names the key and what would do.
    """
    own, fitted = points[name], cascade["calibrate_on"]
    if "task" in own:
        raise StudyError(
            f"{where} is for generated texts; cascades of labels are only computed (snakemake "
            "cascade). A model with exits answers labels early in one model"
        )
    if own["protocol"] == TEACHER_FORCED:
        raise StudyError(f"{where}: a teacher-forced cell generates nothing to be sure of")
    if "weights" in own["inference"]:
        raise StudyError(
            f"{where}: a cascade is of trained cells, but {name} has `weights: "
            f"{own['inference']['weights']}`; leave `weights` out"
        )
    for what, held in (("cell that answers last", points), ("first cell", firsts)):
        if fitted not in held:
            raise StudyError(
                f"{where}.calibrate_on is {fitted}, which is no inference point of the {what}; it "
                f"has {', '.join(sorted(set(held) - {name})) or 'none'}"
            )
    split = points[fitted]["inference"]["split"]
    if split == own["inference"]["split"]:
        raise StudyError(
            f"{where}.calibrate_on: {fitted} is of the split {split}, as {name} itself; a "
            "threshold would be judged by the examples that it was fitted to. Choose a point of "
            "another split"
        )
    _check_alike(name, points, fitted, where)


def _check_alike(
    name: str, points: Mapping[str, Mapping[str, Any]], fitted: str, where: str
) -> None:
    """Refuse a threshold for answers that are made in another way."""
    own, other = points[name], points[fitted]
    if CASCADE in other["inference"] or "weights" in other["inference"]:
        raise StudyError(
            f"{where}.calibrate_on: {fitted} is itself a cascade, or has untrained weights; choose "
            "a plain point"
        )
    if own["generation"] != other["generation"]:
        raise StudyError(
            f"{where}.calibrate_on: {fitted} generates by other settings than {name}; give both "
            "the same `generation`"
        )
