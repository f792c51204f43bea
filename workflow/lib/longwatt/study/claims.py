"""Claims as a study states them: their tests, and the cells that each compares.

Every Snakemake process checks claims before anything runs, so this module imports nothing heavy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from longwatt.config.documents import check_name
from longwatt.config.errors import StudyError
from longwatt.study import summary_columns
from longwatt.study.cells import Cell, as_list, excluded_by, expand
from longwatt.study.summary_columns import ANY_METRIC, OF_EXAMPLES, varies_with_inference

BOUNDS = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
# Input lengths of `to` by the length of `of`.
LENGTH_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "longer": lambda length, of: length > of,
    "shorter": lambda length, of: length < of,
    "next": lambda length, of: length > of,  # and no other cell's between them
}
PLURALS = {"dataset": "datasets", "model": "models", "budget": "budgets", "inference": "inference"}
GROUPED_TESTS = ("correlation", "variation")
PAIRED_TESTS = ("difference", "equivalent", "ratio")
LEAST_POINTS = 4  # an interval of a correlation needs as many


class ClaimPoint(NamedTuple):
    """A cell at one inference point, all its seeds together."""

    dataset: str
    model: str
    seq_len: int
    budget: str
    protocol: str
    inference: str
    # Facts about its model: the path of attention that it chooses, and what it shares with a model
    # that differs from it in nothing else (no axis, and unknown to users).
    attention: str = ""
    alike: str = ""
    initial: bool = False  # whether the model before training predicts, which no training is behind


POINT_AXES = ClaimPoint._fields[:6]  # of the grid; the model decides the others
CHOSEN_BY = (*POINT_AXES, "attention")  # what users select cells by
# The points that one number is made from: a pair, a single one, or a group.
Comparison = tuple[ClaimPoint, ...]
# The points of each training, by its axes.
Trainings = Mapping[tuple[Any, ...], Sequence[ClaimPoint]]
Points = Collection[ClaimPoint]
Claims = Mapping[str, Mapping[str, Any]]  # by id


@dataclass(frozen=True)
class ClaimTest:
    """One test of a claim.

    Attributes:
        where: its key in the study file.
        kind: difference, equivalent, ratio, value, correlation or variation.
        given: what the study says of it.
        reason: why its threshold is what it is.
        random_weights: whether it is about scores of models from random weights, which else decide
            nothing.
    """

    where: str
    kind: str
    given: Mapping[str, Any]
    reason: str = ""
    random_weights: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read: one per point of a pair, or all per point."""
        if self.kind == "correlation":
            return tuple(self.given["between"])
        column = self.given["column"]
        if self.kind not in PAIRED_TESTS or "value" in self.given["to"]:
            return (column,)
        return (column, self.given["to"].get("column", column))

    @property
    def bounds(self) -> dict[str, float]:
        """The thresholds by their names in BOUNDS."""
        if self.kind == "equivalent":
            return {"at_least": -self.given["within"], "at_most": self.given["within"]}
        return {name: self.given[name] for name in BOUNDS if name in self.given}

    @property
    def share(self) -> float:
        """The smallest share of the comparisons that must hold."""
        return float(self.given.get("share", 1))

    def of_steps_alone(self) -> ClaimTest | None:
        """Return the test on the energy of training steps alone, None without such energy."""
        if not any(column in summary_columns.ENERGY_OF_STEPS for column in self.columns):
            return None
        names = {**summary_columns.ENERGY_OF_STEPS, **summary_columns.TIME_OF_STEPS}
        return replace(self, given=_renamed(self.given, names))

    def comparisons(self, points: Iterable[ClaimPoint]) -> list[Comparison]:
        """List the comparisons among the cells that a study's grid names.

        A training is the same for all its inference points. A column of the training therefore
        counts every cell once, at the first of its inference points.
        """
        known = sorted(self._usable(set(points)))
        chosen = [point for point in known if matches(point, self.selector)]
        if self.kind in GROUPED_TESTS:
            return self._grouped(chosen)
        firsts = chosen if self._vary[0] else first_points(chosen)
        if len(self._vary) == 1:
            return [(point,) for point in firsts]
        lengths = sorted({point.seq_len for point in known})
        there: dict[tuple[Any, ...], list[ClaimPoint]] = {}
        models: dict[str, dict[str, None]] = {}
        for point in known:
            there.setdefault(_place(training_of(point)), []).append(point)
            models.setdefault(point.alike, {})[point.model] = None
        twins = {alike: list(names) for alike, names in models.items()}
        return [
            (one, other)
            for one in firsts
            for other in self._partners(one, there, lengths, twins[one.alike])
        ]

    def alone(
        self, points: Iterable[ClaimPoint], compared: Iterable[Comparison]
    ) -> list[ClaimPoint]:
        """List the selected cells that lack a partner in the grid.

        A cell that is itself the partner named by `to` lacks nothing, nor does the longest of a
        dataset's input lengths.
        """
        if self.kind in ("value", "correlation") or "value" in self.given.get("to", {}):
            return []
        known, pairs = self._usable(points), self.kind != "variation"
        counted = {
            self._counted(point) for group in compared for point in (group[:1] if pairs else group)
        }
        lengths: dict[str, set[int]] = {}
        for point in known:
            lengths.setdefault(point.dataset, set()).add(point.seq_len)
        chosen = [point for point in known if matches(point, self.selector)]
        chosen = sorted(chosen) if self._vary[0] else first_points(chosen)
        left = (point for point in chosen if self._counted(point) not in counted)
        return [point for point in left if self._lacks_partner(point, lengths[point.dataset])]

    def _usable(self, points: Iterable[ClaimPoint]) -> list[ClaimPoint]:
        """List the points that can have all columns: no training is behind initial weights."""
        return [point for point in points if all(self._vary) or not point.initial]

    def _grouped(self, chosen: Iterable[ClaimPoint]) -> list[Comparison]:
        """Group the points that a correlation or a variation makes one number from."""
        within = self.given.get("within", ())
        varying = VARIES_WITH.get(self.given.get("across", ""), (self.given.get("across"),))
        axes = [axis for axis in ClaimPoint._fields if axis not in varying]
        if self.kind == "correlation":
            axes = [
                axis for axis in ClaimPoint._fields if axis in (*within, "protocol", "inference")
            ]
        if not any(self._vary) and "inference" not in within:
            chosen, axes = first_points(chosen), [axis for axis in axes if axis != "inference"]

        def key(point: ClaimPoint) -> tuple[Any, ...]:
            return tuple(getattr(point, axis) for axis in axes)

        groups = [tuple(group) for _, group in itertools.groupby(sorted(chosen, key=key), key)]
        return groups if self.kind == "correlation" else [one for one in groups if len(one) > 1]

    @property
    def selector(self) -> Mapping[str, Any]:
        """The axes and values that select the test's cells."""
        chosen: Mapping[str, Any] = self.given.get("of", self.given.get("cells", {}))
        return chosen

    @cached_property
    def target(self) -> dict[str, Any]:
        """The axes in which the second cell of a pair differs from the first."""
        to = self.given.get("to", {})
        return {axis: wanted for axis, wanted in to.items() if axis in CHOSEN_BY}

    @cached_property
    def _vary(self) -> tuple[bool, ...]:
        """The answer of `varies_with_inference` for each of the test's columns."""
        return tuple(varies_with_inference(column) for column in self.columns)

    def _counted(self, point: ClaimPoint) -> ClaimPoint:
        """Return the point as the first column counts it, with or without its inference."""
        return point if self._vary[0] else training_of(point)

    def _lacks_partner(self, point: ClaimPoint, lengths: Iterable[int]) -> bool:
        """Check whether the grid should hold a partner for a point."""
        relation = self.target.get("seq_len")
        if isinstance(relation, str):
            return any(LENGTH_RELATIONS[relation](length, point.seq_len) for length in lengths)
        return not self.target or not matches(point, self.target)

    def _partners(
        self, point: ClaimPoint, there: Trainings, lengths: Sequence[int], twins: Sequence[str]
    ) -> list[ClaimPoint]:
        """List the cells that differ from a point as `to` says, and in nothing else.

        `twins` are the models that differ from the point's in their path of attention alone.
        """
        wanted = {axis: self.target.get(axis, getattr(point, axis)) for axis in POINT_AXES}
        wanted["inference"] = ""
        if "attention" in self.target and "model" not in self.target:
            wanted["model"] = twins
        relation = wanted["seq_len"]
        if not isinstance(relation, str):
            return self._found(point, wanted, there)
        related = [
            length for length in lengths if LENGTH_RELATIONS[relation](length, point.seq_len)
        ]
        if relation != "next":
            return self._found(point, {**wanted, "seq_len": related}, there)
        found = (self._found(point, {**wanted, "seq_len": length}, there) for length in related)
        return next(filter(None, found), [])

    def _found(
        self, point: ClaimPoint, wanted: Mapping[str, Any], there: Trainings
    ) -> list[ClaimPoint]:
        """Look up the points of trainings with these axes, as the second column counts them."""
        names = self._inference_of_partners(point)
        paths = as_list(self.target.get("attention", []))
        found: list[ClaimPoint] = []
        for axes in itertools.product(*map(as_list, wanted.values())):
            known = [p for p in there.get(axes, ()) if not paths or p.attention in paths]
            points = [p for p in known if names is None or p.inference in names]
            found += points if self._vary[1] else points[:1]
        if len(set(self.columns)) > 1:
            return found
        if any(self._vary):
            return [other for other in found if other != point]
        return [other for other in found if training_of(other) != training_of(point)]

    def _inference_of_partners(self, point: ClaimPoint) -> list[str] | None:
        """Name the inference points that a partner may have, or None for any."""
        if "inference" in self.target:
            return as_list(self.target["inference"])
        first, second = self._vary
        if first and second:
            return [point.inference]
        # A training has no inference of its own that its partner would have to share.
        if second and "inference" in self.selector:
            return as_list(self.selector["inference"])
        return None


# Axis of a variation -> what varies with it.
VARIES_WITH = {
    "model": ("model", "attention", "alike"),
    "attention": ("model", "attention"),
}


def _place(point: ClaimPoint) -> tuple[Any, ...]:
    """Return a point's values on the axes of the grid."""
    return tuple(getattr(point, axis) for axis in POINT_AXES)


def training_of(point: ClaimPoint) -> ClaimPoint:
    """Remove the inference from a point, so that all points of one training are equal."""
    return point._replace(inference="")


def first_points(points: Iterable[ClaimPoint]) -> list[ClaimPoint]:
    """Keep the first inference point of every training."""
    found: dict[ClaimPoint, ClaimPoint] = {}
    for point in sorted(points):
        found.setdefault(training_of(point), point)
    return list(found.values())


def matches(point: ClaimPoint, selector: Mapping[str, Any]) -> bool:
    """Check whether a selector (one value or a list by axis) matches a point."""
    return all(getattr(point, axis) in as_list(wanted) for axis, wanted in selector.items())


def point_of(cell: Any) -> ClaimPoint:
    """Return the point of a summary's row, or of a row of the grid.

    Only the latter knows the facts about the model.
    """
    named = ("attention", "alike", "initial")
    facts = {name: cell[name] for name in named if "alike" in cell and name in cell}
    return ClaimPoint(*(cell[axis] for axis in POINT_AXES), **facts)


def left_out(study: Mapping[str, Any]) -> dict[str, tuple[Cell, str]]:
    """Find the cells that `exclude` removes from a study's grid, each with the reason."""
    exclusions: Sequence[Mapping[str, Any]] = study.get("exclude", [])
    found: dict[str, tuple[Cell, str]] = {}
    for name, cell in expand({**study, "exclude": []}).items() if exclusions else ():
        for exclusion in exclusions:
            if excluded_by(cell, exclusion):
                found.setdefault(name, (cell, exclusion["reason"]))
    return found


def claims_of(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return a study's claims by id, without those that an extending study sets to null."""
    return {name: claim for name, claim in study.get("claims", {}).items() if claim is not None}


def list_tests(name: str, claim: Mapping[str, Any]) -> list[ClaimTest]:
    """List the tests of one claim that `check_claims` has passed."""
    found = []
    for number, test in enumerate(claim["tests"]):
        for kind in test.keys() - {"reason"}:
            where, reason = f"claims.{name}.tests[{number}].{kind}", test.get("reason", "")
            random = claim.get("random_weights", False)
            found.append(ClaimTest(where, kind, test[kind], reason, random))
    return found


def scored_rows(claims: Claims, cells: Collection[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """List the cells and inference points whose examples' scores claims are judged by.

    Args:
        claims: as `claims_of`.
        cells: every row that the grid means; those that `exclude` takes away have no scores.
    """
    points = {point_of(cell) for cell in cells}
    tests = [test for name, claim in claims.items() for test in list_tests(name, claim)]
    wanted = {
        point
        for test in tests
        if test.kind not in GROUPED_TESTS and not set(OF_EXAMPLES).isdisjoint(test.columns)
        for comparison in test.comparisons(points)
        for point, column in zip(comparison, test.columns, strict=True)
        if column in OF_EXAMPLES
    }
    there = (cell for cell in cells if cell["left_out"] is None)
    return [(cell["cell"], cell["inference"]) for cell in there if point_of(cell) in wanted]


def check_claims(
    study: Mapping[str, Any], cells: Collection[Mapping[str, Any]], source: str
) -> None:
    """Refuse claims that cannot be judged, whatever the results.

    Args:
        study: a study that its schema has passed.
        cells: axes of every row that the grid means, those that `exclude` takes away among them.
        source: the study file.

    Raises:
        StudyError: names the test and its fault: a column or a value of an axis that does not
            exist, cells that the grid does not have, no threshold, a band that holds no number, or
            scores of several metrics in one number.
    """
    points = {point_of(cell) for cell in cells}
    for name, claim in claims_of(study).items():
        for number, given in enumerate(claim["tests"]):
            kinds = sorted(given.keys() - {"reason"})
            if len(kinds) != 1:
                raise StudyError(
                    f"{source}: claims.{name}.tests[{number}]: a test is one of difference, "
                    "equivalent, ratio, value, correlation and variation; this one has "
                    f"{', '.join(kinds) or 'none'}"
                )
        for test in list_tests(name, claim):
            _check_test(test, study, points, f"{source}: {test.where}")


def _check_test(test: ClaimTest, study: Mapping[str, Any], points: Points, where: str) -> None:
    if not test.bounds:
        bounds = ", ".join(BOUNDS)
        raise StudyError(f"{where}: no threshold is given; add {bounds} or two of them for a band")
    _check_band(test.bounds, where)
    for column in test.columns:
        check_name("column", column, summary_columns.COLUMNS, where)
        if column not in summary_columns.NUMBER_COLUMNS:
            raise StudyError(
                f"{where}: the column {column!r} holds no numbers; "
                f"columns that do: {', '.join(summary_columns.NUMBER_COLUMNS)}"
            )
    chosen = "cells" if "cells" in test.given else "of"
    for key, selector in ((chosen, test.selector), ("to", test.target)):
        for axis, value in _values(selector):
            known = {getattr(point, axis) for point in points}
            known |= set(study[PLURALS[axis]] if axis in PLURALS else ())
            check_name(axis, str(value), map(str, known), f"{where}.{key}.{axis}")
    _check_trained(test, points, where)
    found = test.comparisons(points)
    _check_found(test, points, found, where)
    metrics = {name: dataset["metric"] for name, dataset in study["datasets"].items()}
    _check_metrics(test, found, metrics, where)
    for group in found if test.kind == "correlation" else ():
        if len(group) < LEAST_POINTS:
            raise StudyError(
                f"{where}: a correlation needs {LEAST_POINTS} cells or more, but "
                f"{'/'.join(map(str, group[0]))} and those that `within` puts beside it are "
                f"{len(group)}; name fewer axes there, or the inference point that has them in "
                "`cells`"
            )


def _check_band(bounds: Mapping[str, float], where: str) -> None:
    """Refuse thresholds that no number can keep to."""
    for floor, ceiling in itertools.product(("at_least", "above"), ("at_most", "below")):
        if floor in bounds and ceiling in bounds:
            low, high = bounds[floor], bounds[ceiling]
            if low > high or (low == high and (floor, ceiling) != ("at_least", "at_most")):
                raise StudyError(
                    f"{where}: no number is {BOUNDS[floor]} {low:g} and {BOUNDS[ceiling]} {high:g};"
                    " exchange them for a band, or make two tests of them"
                )


def _check_metrics(
    test: ClaimTest, found: Sequence[Comparison], metrics: Mapping[str, str], where: str
) -> None:
    """Refuse a number made from headline scores in several metrics."""
    for datasets in {tuple(point.dataset for point in comparison) for comparison in found}:
        sides = (test.columns, datasets)
        read = itertools.product(*sides) if test.kind in GROUPED_TESTS else zip(*sides, strict=True)
        scored = sorted({dataset for column, dataset in read if column in ANY_METRIC})
        if len({metrics[dataset] for dataset in scored}) > 1:
            named = ", ".join(f"{dataset} in {metrics[dataset]}" for dataset in scored)
            raise StudyError(
                f"{where}: headline scores of several metrics make no number together ({named}); "
                "choose datasets of one metric, take them apart (`within` of a correlation), or "
                "name a column of one metric, such as f1"
            )


def _check_trained(test: ClaimTest, points: Points, where: str) -> None:
    """Refuse to ask for the training of points that predict before it."""
    names = {point.inference for point in points if point.initial}
    for column in test.columns:
        for selector in (test.selector, test.target):
            asked = as_list(selector.get("inference", []))
            before = [name for name in asked if name in names]
            if before and not varies_with_inference(column):
                raise StudyError(
                    f"{where}: {column} is of a training, but inference.{before[0]} predicts "
                    "before it (weights: initial); name another point or column"
                )


def _check_found(test: ClaimTest, points: Points, found: Sequence[Comparison], where: str) -> None:
    """Refuse selectors with a value that no cell, or no comparison, of the grid has."""
    advice = (
        "leave cells that the study does without in `grid` and name them in `exclude`, with the "
        "reason, or take the claim away (null)"
    )
    chosen = [point for point in points if matches(point, test.selector)]
    pairs = test.kind in PAIRED_TESTS
    firsts = _meant(test, 0, found, points) if pairs else chosen
    seconds = _meant(test, -1, found, points) if pairs else chosen
    sides = ((test.selector, chosen), (test.selector, firsts), (test.target, seconds))
    for selector, there in sides:
        for axis, value in _values(selector):
            if not any(getattr(point, axis) == value for point in there):
                what = "no cell" if there is chosen else "no two cells that can be compared"
                raise StudyError(
                    f"{where}: the grid has {what} with {axis} {value} as this test wants; {advice}"
                )
    if not found:
        raise StudyError(f"{where}: the grid has no cells that this test could compare; {advice}")


def _meant(
    test: ClaimTest, side: int, found: Sequence[Comparison], points: Points
) -> Collection[ClaimPoint]:
    """List the points on one side of the comparisons, or all of their trainings."""
    compared = {comparison[side] for comparison in found}
    if varies_with_inference(test.columns[side]):
        return compared
    trainings = {training_of(point) for point in compared}
    return {point for point in points if training_of(point) in trainings}


def _values(selector: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every value that a selector names outright, with its axis."""
    for axis, wanted in selector.items():
        yield from (
            (axis, value) for value in as_list(wanted) if wanted not in tuple(LENGTH_RELATIONS)
        )


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Replace the columns in a test's settings."""
    if isinstance(value, Mapping):
        return {
            key: item if key in CHOSEN_BY else _renamed(item, names) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
