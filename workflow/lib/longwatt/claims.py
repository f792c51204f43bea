"""Judge a study's claims by its summary: numbers, intervals, and a verdict that says what it lacks."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from longwatt import differences, flags
from longwatt.claim_scores import ClaimScores
from longwatt.claim_settings import (
    GROUPED,
    ClaimTest,
    Comparison,
    Point,
    list_tests,
    point_of,
    training_of,
)
from longwatt.columns import (
    ACCURACIES,
    BASELINE_KIND,
    BASELINES,
    EXACT,
    energy_flags,
    energy_source,
    number_of,
    varies_with_inference,
)  # fmt: skip
from longwatt.endings import DIVERGED, diverged
from longwatt.intervals import NORMAL_95, of_difference, over_seeds_of_scores
from longwatt.metrics.resampling import Interval, Scores
from longwatt.score_intervals import OVER_SEEDS, mean_of, paired_difference, paired_ratio
from longwatt.wording import RANDOM_WEIGHTS

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decidable"
HOLDS, FAILS, UNCLEAR = "holds", "fails", "unclear"
# How the energy of a training is counted; claims without energy have one verdict, of WHOLE_RUN.
WHOLE_RUN, STEPS_ALONE = "whole run", "training steps alone"
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}
FLOORS = ("at_least", "above")
SPEARMAN_ERROR = math.sqrt(1.06)  # Fieller, Hartley and Pearson (1957), Biometrika 44
OVER_EXAMPLES, APART, FISHER = (
    "one cell's interval over examples",
    "two independent intervals",
    "Fisher's z",
)
DIGITS = 9  # beyond these a difference is rounding, and decides nothing


@dataclass(frozen=True)
class Estimate:
    """Holds a number, its 95 % interval (None where unknown) and where that is from."""

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Finding:
    """One comparison's number and what it says.

    Attributes:
        cells: the points, as labels.
        values: of each point, its columns' values.
        estimate: the number that the test sets against its thresholds; None where it cannot be had.
        status: HOLDS, FAILS or UNCLEAR.
        why: what makes it unclear.
        notes: what a reader must know of the number: estimated, random weights, ...
    """

    cells: list[str]
    values: list[float]
    estimate: Estimate | None
    status: str
    why: list[str]
    notes: list[str]


class Evidence:
    """What the summary knows of every cell that the grid names.

    Args:
        summary: as `longwatt.summary.summarize`; rows may be missing.
        cells: as `longwatt.report_settings.claim_cells`.
        scores: of the examples; None where they are not at hand.

    Of the models that a search made, all called by one name, only the chosen one speaks.
    """

    def __init__(
        self,
        summary: pd.DataFrame,
        cells: Sequence[Mapping[str, Any]],
        scores: ClaimScores | None = None,
    ) -> None:
        self._scores = scores
        rows: list[Mapping[str, Any]] = [
            {str(name): value for name, value in row.items()} for row in summary.to_dict("records")
        ]
        beaten = {row["cell"] for row in rows if row.get("selected") in (False, "False")}
        points = {(cell["cell"], cell["inference"]): point_of(cell) for cell in cells}
        self._expected = _by_point((point_of(cell), cell) for cell in cells)
        self._rows = _by_point(
            (points.get((row["cell"], row["inference"]), point_of(row)), row) for row in rows
        )
        self._unchosen = {
            p
            for p, own in self._expected.items()
            if beaten.issuperset(cell["cell"] for cell in own)
        }
        for found in (self._expected, self._rows):
            for point in found.keys() - self._unchosen:
                found[point] = [one for one in found[point] if one["cell"] not in beaten]
        self._trainings = _by_point((training_of(point), point) for point in sorted(self._expected))
        self.points = list(self._expected)
        self._shown = [
            axis for axis in Point._fields if len({getattr(p, axis) for p in self.points}) > 1
        ]

    def label(self, point: Point, training: bool = False) -> str:
        """Name a point, or its training, by the axes in which the study's cells differ."""
        axes = self._shown or list(Point._fields)
        chosen = [axis for axis in axes if not (training and axis == "inference")]
        return "/".join(str(getattr(point, axis)) for axis in chosen or Point._fields[:-1])

    def rows(self, point: Point, column: str) -> list[Mapping[str, Any]]:
        """Find the rows that speak of a column at a point, one for each seed.

        A training's column stands on every row of its cell, so the first row that knows it counts.
        """
        if varies_with_inference(column):
            return self._rows.get(point, [])
        found: dict[str, Mapping[str, Any]] = {}
        for row in self._of_training(self._rows, point):
            if row["cell"] not in found or pd.isna(found[row["cell"]][column]):
                found[row["cell"]] = row
        return list(found.values())

    def _of_training(
        self, found: Mapping[Point, list[Mapping[str, Any]]], point: Point
    ) -> Iterator[Mapping[str, Any]]:
        """Gather the entries of all inference points of a point's training."""
        for own in self._trainings[training_of(point)]:
            yield from found.get(own, ())

    def lacks(self, point: Point, column: str) -> list[str]:
        """What is missing of a value, in words; nothing if it is there."""
        values = {row["cell"]: row[column] for row in self.rows(point, column)}
        cells = self._expected[point]
        if not varies_with_inference(column):
            cells = list(
                {cell["cell"]: cell for cell in self._of_training(self._expected, point)}.values()
            )
        if point in self._unchosen:
            names = ", ".join(cell["cell"] for cell in cells)
            return [f"of {names} none is chosen: a search needs the validation score of each"]
        words = []
        for cell in cells:
            name = cell["cell"]
            if cell["left_out"] is not None:
                words.append(f"{name} is left out of the study ({cell['left_out']})")
            elif name not in values:
                words.append(f"{name} is not finished")
            elif pd.isna(values[name]):
                words.append(f"{column} of {name} is NA")
        return words

    def scores(self, point: Point, column: str) -> Scores | None:
        """Look up the examples' scores of a point; None where they are not at hand."""
        return self._scores.of(self.rows(point, column), column) if self._scores else None

    def same_examples(self, first: Point, second: Point) -> bool:
        """Tell if two points predicted one split of one dataset."""
        rows = (self._rows[point] for point in (first, second))
        return self._scores is not None and self._scores.same(*rows)

    def seeds(self, point: Point) -> list[int]:
        """List the seeds of a point's rows, in order."""
        return sorted(row["seed"] for row in self._rows[point])

    def estimate(self, point: Point, column: str) -> Estimate:
        """The mean over seeds of a value that `lacks` nothing."""
        rows = self.rows(point, column)
        values = [float(row[column]) for row in rows]
        mean = sum(values) / len(values)
        scores = self.scores(point, column)
        if column in EXACT and not (scores and column in BASELINES):
            return Estimate(mean, mean, mean)
        if len(values) == 1 and (ends := _ends(rows[0], column)):
            return Estimate(mean, *ends, OVER_EXAMPLES)
        if scores:
            return Estimate(mean, *mean_of(scores))
        if len(values) == 1:
            return Estimate(mean)
        own = [_ends(row, column) or (math.nan, math.nan) for row in rows]
        lows, highs = zip(*own, strict=True)
        return Estimate(mean, *over_seeds_of_scores(values, lows, highs), OVER_SEEDS)

    def notes(self, wanted: Sequence[tuple[Point, str]], apart: bool = False) -> list[str]:
        """Say what a reader must know of a number.

        Args:
            wanted: the values that make it, a point and a column each.
            apart: as `longwatt.differences.notes`.
        """
        values = [(row, column) for point, column in wanted for row in self.rows(point, column)]
        regimes = {
            (row["model"], row["attention_regime"])
            for row, _ in values
            if not pd.isna(row["attention_regime"])
        }
        flagged = self.flags(wanted)
        notes = {
            "estimated energy": any(_is_estimated(*value) for value in values),
            f"energy flagged: {', '.join(flagged)}": bool(flagged),
            RANDOM_WEIGHTS: any(_of_random_weights(*value) for value in values),
            DIVERGED: any(_of_diverged(*value) for value in values),
            "two attention regimes, so two models": len(regimes)
            > len({model for model, _ in regimes}),
        }
        return [
            *(note for note, needed in notes.items() if needed),
            *differences.notes(values, apart),
        ]

    def flags(self, values: Iterable[tuple[Point, str]]) -> tuple[str, ...]:
        """Flags of the energies among some values."""
        return flags.union(
            row.get(named)
            for point, column in values
            if (named := energy_flags(column))
            for row in self.rows(point, column)
        )


def _is_estimated(row: Mapping[str, Any], column: str) -> bool:
    """Tell if a value is an energy that was not measured."""
    source = energy_source(column)
    return source is not None and row[source] == "estimate"


def _of_random_weights(row: Mapping[str, Any], column: str) -> bool:
    """Tell if a value is a score, or the end of one's interval, of a model from random weights."""
    return number_of(column) in ACCURACIES and row["initialisation"] == "random"


def _of_diverged(row: Mapping[str, Any], column: str) -> bool:
    """Tell if a value rests on a training that diverged: the cell's own, or that of a baseline it is relative to."""
    if column in EXACT:
        return False
    lost = row.get("diverged_baselines")
    beside = BASELINE_KIND.get(number_of(column))
    return diverged(row) or (isinstance(lost, str) and beside in lost.split())


def _ends(row: Mapping[str, Any], column: str) -> tuple[float, float] | None:
    """Find the interval that one seed's row holds; without it one seed says nothing."""
    # The headline's interval stands under its own name too.
    for name in (column, *(["score"] if column == row["score_name"] else [])):
        low, high = (row.get(f"{name}_ci_{end}") for end in ("low", "high"))
        if low is not None and high is not None and not (pd.isna(low) or pd.isna(high)):
            return float(low), float(high)
    return None


Entry = TypeVar("Entry")


def _by_point(found: Iterable[tuple[Point, Entry]]) -> dict[Point, list[Entry]]:
    """Gather what belongs to one point."""
    gathered: dict[Point, list[Entry]] = {}
    for point, entry in found:
        gathered.setdefault(point, []).append(entry)
    return gathered


def judge(
    summary: pd.DataFrame, settings: Mapping[str, Any], results: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Judge every claim.

    Args:
        summary: as `longwatt.summary.summarize`.
        settings: as `longwatt.stages.Stages.judge_claims`.
        results: results/{study}, where examples' scores are; None to compare without them.

    Returns:
        By claim id: `statement`, `source`, `verdicts` (by how energy is counted: WHOLE_RUN and, for a claim about the
        energy of training, STEPS_ALONE), `notes` (all that its findings have) and `tests`; of each test its settings
        and `judged`: for each way of counting the verdict, how many comparisons hold, fail and are unclear, how many
        must hold, the `findings` (fields of Finding) and what makes some unclear (`unclear_because`).
    """
    cells = settings["cells"]
    splits = {(cell["cell"], cell["inference"]): cell.get("split") for cell in cells}
    scores = ClaimScores(results, settings["scoring"], splits) if results else None
    evidence = Evidence(summary, cells, scores)
    return {name: _judge_claim(name, claim, evidence) for name, claim in settings["claims"].items()}


def _judge_claim(name: str, claim: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    tests = [_judge_ways(test, evidence) for test in list_tests(name, claim)]
    ways = (
        [WHOLE_RUN, STEPS_ALONE]
        if any(STEPS_ALONE in test["judged"] for test in tests)
        else [WHOLE_RUN]
    )
    verdicts = {
        way: _all_of(
            [test["judged"].get(way, test["judged"][WHOLE_RUN])["verdict"] for test in tests]
        )
        for way in ways
    }
    findings = [f for test in tests for way in test["judged"].values() for f in way["findings"]]
    notes = sorted({note for finding in findings for note in finding["notes"]})
    facts = {"statement": claim["statement"], "source": claim.get("source")}
    return {**facts, "verdicts": verdicts, "notes": notes, "tests": tests}


def _judge_ways(test: ClaimTest, evidence: Evidence) -> dict[str, Any]:
    """A test by every way of counting energy that makes a difference to it."""
    judged = {WHOLE_RUN: judge_test(test, evidence)}
    if steps := test.of_steps_alone():
        judged[STEPS_ALONE] = judge_test(steps, evidence)
    return {"kind": test.kind, "given": test.given, "reason": test.reason or None, "judged": judged}


def judge_test(test: ClaimTest, evidence: Evidence) -> dict[str, Any]:
    """Judge one test: supported if enough comparisons hold, contradicted if too few can, whatever the unclear ones."""
    comparisons = test.comparisons(evidence.points)
    findings = [_find(test, comparison, evidence) for comparison in comparisons]
    alone = [evidence.label(point) for point in test.alone(evidence.points, comparisons)]
    count = {
        status: sum(f.status == status for f in findings) for status in (HOLDS, FAILS, UNCLEAR)
    }
    needed = math.ceil(round(test.share * len(findings), DIGITS))
    verdict = UNDECIDED
    if count[HOLDS] >= needed:
        verdict = SUPPORTED
    elif count[HOLDS] + count[UNCLEAR] < needed:
        verdict = CONTRADICTED
    reasons = list(dict.fromkeys(why for finding in findings for why in finding.why))
    shown = {
        "columns": list(test.columns),
        "verdict": verdict,
        **count,
        "needed": needed,
        "unclear_because": reasons,
    }
    shown |= {"alone": alone}
    return {**shown, "findings": [_as_json(finding) for finding in findings]}


def _find(test: ClaimTest, comparison: Comparison, evidence: Evidence) -> Finding:
    """What one comparison says."""
    cells = _labels(test, comparison, evidence)
    wanted = _wanted(test, comparison)
    lacking = list(
        dict.fromkeys(word for point, column in wanted for word in evidence.lacks(point, column))
    )
    if lacking:
        return Finding(cells, [], None, UNCLEAR, lacking, [])
    found = [evidence.estimate(point, column) for point, column in wanted]
    estimate = NUMBERS_OF[test.kind](test, found)
    if estimate is not None and (pair := _paired(test, wanted, evidence)):
        estimate = replace(estimate, **pair._asdict())
    status, why = (
        UNCLEAR,
        [f"{name_of(cells)} give no number: a division by 0, or values that are all alike"],
    )
    if estimate is not None:
        status = against(test.bounds, estimate)
        why = (
            [f"the interval of {name_of(cells)} reaches across the threshold"]
            if status == UNCLEAR
            else []
        )
    notes = evidence.notes(wanted, apart=test.kind in GROUPED)
    if RANDOM_WEIGHTS in notes and not test.random_weights:
        status, why = (
            UNCLEAR,
            [f"{name_of(cells)}: random weights, whose scores say nothing of the model"],
        )
    if DIVERGED in notes:
        lost = f"{name_of(cells)}: {DIVERGED}, so neither costs nor scores are a whole training's"
        status, why = UNCLEAR, [lost]
    disclaimed = [flag for flag in evidence.flags(wanted) if flag in flags.DISCLAIMED]
    if disclaimed:
        words = "; ".join(
            f"an energy {flags.DISCLAIMED[flag]} (flag {flag})" for flag in disclaimed
        )
        status, why = UNCLEAR, [f"{name_of(cells)}: {words}, of which nothing is claimed"]
    return Finding(cells, [one.value for one in found], estimate, status, why, notes)


def _labels(test: ClaimTest, comparison: Comparison, evidence: Evidence) -> list[str]:
    """Name the points of a comparison, without an inference where only their trainings count."""
    trainings = [not varies_with_inference(column) for column in test.columns]
    if test.kind in GROUPED:
        trainings = [all(trainings)] * len(comparison)
    return [evidence.label(*side) for side in zip(comparison, trainings, strict=True)]


def _paired(
    test: ClaimTest, wanted: Sequence[tuple[Point, str]], evidence: Evidence
) -> Interval | None:
    """Find the interval of a pair whose cells scored the same examples; None of others."""
    if test.kind not in ("difference", "ratio") or len(wanted) != 2:
        return None
    (one, _), (other, _) = wanted
    first, second = (evidence.scores(*side) for side in wanted)
    if (
        first is None
        or second is None
        or first.ids != second.ids
        or not evidence.same_examples(one, other)
    ):
        return None
    make = paired_difference if test.kind == "difference" else paired_ratio
    return make(first, second, evidence.seeds(one) == evidence.seeds(other))


def name_of(cells: Sequence[str]) -> str:
    """What to call the cells of a comparison (labels): a pair by both, a group by what its cells have in common."""
    if len(cells) <= 2:
        return " against ".join(cells)
    axes = zip(*(cell.split("/") for cell in cells), strict=True)
    common = "/".join(parts[0] for parts in axes if len(set(parts)) == 1)
    return f"{common} ({len(cells)} cells)".strip()


def _wanted(test: ClaimTest, comparison: Comparison) -> list[tuple[Point, str]]:
    """The values that a comparison rests on."""
    if test.kind in GROUPED:
        return list(itertools.product(comparison, test.columns))
    return list(zip(comparison, test.columns, strict=True))


def against(bounds: Mapping[str, float], estimate: Estimate) -> str:
    """Whether a number keeps to its thresholds with all of its interval, with none, or perhaps.

    A number without an interval decides by itself.
    """
    low, high = (
        (estimate.low, estimate.high) if estimate.known else (estimate.value, estimate.value)
    )
    assert low is not None and high is not None
    ends = _rounded(low), _rounded(high)
    if all(COMPARE[name](end, bound) for name, bound in bounds.items() for end in ends):
        return HOLDS
    if any(
        not COMPARE[name](ends[1] if name in FLOORS else ends[0], bound)
        for name, bound in bounds.items()
    ):
        return FAILS
    return UNCLEAR


def _difference(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    one, other = _pair(test, found)
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    ends = of_difference((one.value, one.low, one.high), (other.value, other.low, other.high))
    methods = [side.method for side in (one, other) if side.method]  # what is exact has none
    return Estimate(value, *ends, APART if len(methods) > 1 else "".join(methods))


def _ratio(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """First by second: as a difference of logarithms; an end that may be 0 or less leaves the interval open."""
    one, other = (_logarithm(part) for part in _pair(test, found))
    if one is None or other is None:
        return None
    logs = _difference(test, [one, other])
    assert logs is not None
    if logs.low is None or logs.high is None:
        return Estimate(math.exp(logs.value))
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.method)


def _logarithm(found: Estimate) -> Estimate | None:
    if found.value <= 0:
        return None
    ends = [
        None if end is None else math.log(end) if end > 0 else -math.inf
        for end in (found.low, found.high)
    ]
    return replace(found, value=math.log(found.value), low=ends[0], high=ends[1])


def _pair(test: ClaimTest, found: Sequence[Estimate]) -> tuple[Estimate, Estimate]:
    if len(found) == 2:
        return found[0], found[1]
    value = float(test.given["to"]["value"])
    return found[0], Estimate(value, value, value)


def _itself(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    return found[0]


def _variation(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """Coefficient of variation: standard deviation by mean."""
    values = np.array([one.value for one in found])
    mean = abs(float(values.mean()))
    return Estimate(float(values.std(ddof=1)) / mean) if mean else None


def _correlation(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """Correlation of two columns over cells, with Fisher's interval."""
    pairs = pd.DataFrame(
        [[one.value, other.value] for one, other in zip(found[::2], found[1::2], strict=True)]
    )
    spearman = test.given.get("method", "spearman") == "spearman"
    # Of equal values pandas' ranks are shared, as Spearman's are.
    table = pairs.rank() if spearman else pairs
    if (table.nunique() == 1).any():
        return None
    value = _rounded(float(np.corrcoef(table[0], table[1])[0, 1]))
    return Estimate(value, *_fisher(value, len(table), spearman), FISHER)


def _fisher(value: float, cells: int, spearman: bool) -> tuple[float, float]:
    """95 % of a correlation over four cells or more.

    Fisher's interval of a perfect correlation has no width, however few the cells. So the end nearer to 0 is that of
    the strongest correlation short of it at most: for ranks the one in which two neighbours have changed places (ties
    may come nearer to 1, and say no more), for values the last that rounding tells from 1.
    """
    half = NORMAL_95 * (SPEARMAN_ERROR if spearman else 1) / math.sqrt(cells - 3)
    strongest = 1 - 12 / (cells**3 - cells) if spearman else 1 - 10**-DIGITS
    inner = math.tanh(math.atanh(min(abs(value), strongest)) - half)
    outer = math.tanh(math.atanh(abs(value)) + half) if abs(value) < 1 else 1.0
    return (inner, outer) if value >= 0 else (-outer, -inner)


NUMBERS_OF: dict[str, Callable[[ClaimTest, Sequence[Estimate]], Estimate | None]] = {
    "difference": _difference,
    "ratio": _ratio,
    "value": _itself,
    "variation": _variation,
    "correlation": _correlation,
}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _all_of(verdicts: Sequence[str]) -> str:
    """A claim's verdict by its tests'."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return UNDECIDED if UNDECIDED in verdicts else SUPPORTED


def _as_json(finding: Finding) -> dict[str, Any]:
    """A finding as JSON has it, where an open end of an interval is null."""
    estimate = finding.estimate
    facts = {name: value for name, value in asdict(finding).items() if name != "estimate"}
    number = None if estimate is None else estimate.value
    interval = None
    if estimate is not None and estimate.known:
        interval = [
            end if end is not None and math.isfinite(end) else None
            for end in (estimate.low, estimate.high)
        ]
    method = estimate.method if estimate is not None and estimate.known else ""
    return {**facts, "number": number, "interval": interval, "method": method or None}
