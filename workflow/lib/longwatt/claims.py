"""Judge a study's claims by its summary: numbers, intervals, and a verdict that says what it lacks."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from longwatt import differences
from longwatt.claim_settings import ClaimTest, Comparison, Point, list_tests, point_of
from longwatt.columns import ACCURACIES, EXACT, energy_source
from longwatt.intervals import NORMAL_95, of_difference, over_seeds

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
RANDOM_WEIGHTS = "random weights"
SPEARMAN_ERROR = math.sqrt(1.06)  # Fieller, Hartley and Pearson (1957), Biometrika 44
DIGITS = 9  # beyond these a difference is rounding, and decides nothing


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where the interval is unknown."""

    value: float
    low: float | None = None
    high: float | None = None

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
        cells: as `longwatt.stages.Stages.claim_cells`.

    Of the models that a search made, all called by one name, only the chosen one speaks.
    """

    def __init__(self, summary: pd.DataFrame, cells: Sequence[Mapping[str, Any]]) -> None:
        rows = [{str(name): value for name, value in row.items()} for row in summary.to_dict("records")]
        beaten = {row["cell"] for row in rows if row.get("selected") in (False, "False")}
        points = {(cell["cell"], cell["inference"]): point_of(cell) for cell in cells}
        self._expected: dict[Point, list[Mapping[str, Any]]] = {}
        for cell in (cell for cell in cells if cell["cell"] not in beaten):
            self._expected.setdefault(point_of(cell), []).append(cell)
        self._rows: dict[Point, list[Mapping[str, Any]]] = {}
        for row in (row for row in rows if row["cell"] not in beaten):
            point = points.get((row["cell"], row["inference"]), point_of(row))
            self._rows.setdefault(point, []).append(row)
        self.points = list(self._expected)
        self._shown = [axis for axis in Point._fields if len({getattr(p, axis) for p in self.points}) > 1]

    def label(self, point: Point) -> str:
        """A point by the axes in which the study's cells differ."""
        return "/".join(str(getattr(point, axis)) for axis in self._shown or Point._fields)

    def lacks(self, point: Point, column: str) -> list[str]:
        """What is missing of a value, in words; nothing if it is there."""
        values = {row["cell"]: row[column] for row in self._rows.get(point, ())}
        words = []
        for cell in self._expected[point]:
            name = cell["cell"]
            if cell["left_out"] is not None:
                words.append(f"{name} is left out of the study ({cell['left_out']})")
            elif name not in values:
                words.append(f"{name} is not finished")
            elif pd.isna(values[name]):
                words.append(f"{column} of {name} is NA")
        return words

    def estimate(self, point: Point, column: str) -> Estimate:
        """The mean over seeds of a value that `lacks` nothing."""
        rows = self._rows[point]
        values = pd.Series([float(row[column]) for row in rows])
        mean = float(values.mean())
        if column in EXACT:
            return Estimate(mean, mean, mean)
        if len(values) > 1:
            return Estimate(mean, *over_seeds(values))
        low, high = (rows[0].get(f"{column}_ci_{end}") for end in ("low", "high"))
        if low is not None and high is not None and not (pd.isna(low) or pd.isna(high)):
            return Estimate(mean, float(low), float(high))
        # Of examples the bootstrap knows; of everything else one seed says nothing.
        if column in ("score", rows[0]["score_name"]) and not pd.isna(rows[0]["score_ci_low"]):
            return Estimate(mean, float(rows[0]["score_ci_low"]), float(rows[0]["score_ci_high"]))
        return Estimate(mean)

    def notes(self, points: Sequence[Point], columns: Sequence[str]) -> list[str]:
        """What must be said beside a number that these columns of these points make."""
        rows = [row for point in dict.fromkeys(points) for row in self._rows[point]]
        sources = {source for column in columns if (source := energy_source(column))}
        regimes = {(row["model"], row["attention_regime"]) for row in rows if not pd.isna(row["attention_regime"])}
        notes = {
            "estimated energy": any(row[source] == "estimate" for row in rows for source in sources),
            "energy flagged": any(
                not pd.isna(row[source.replace("source", "flags")]) for row in rows for source in sources
            ),
            RANDOM_WEIGHTS: not set(columns).isdisjoint(ACCURACIES)
            and any(row["initialisation"] == "random" for row in rows),
            "two attention regimes, so two models": len(regimes) > len({model for model, _ in regimes}),
        }
        return [*(note for note, needed in notes.items() if needed), *differences.notes(rows, columns)]


def judge(summary: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Judge every claim.

    Returns:
        By claim id: `statement`, `source`, `verdicts` (by how energy is counted: WHOLE_RUN and, for a claim about the
        energy of training, STEPS_ALONE), `notes` (all that its findings have) and `tests`; of each test its settings
        and `judged`: for each way of counting the verdict, how many comparisons hold, fail and are unclear, how many
        must hold, the `findings` (fields of Finding) and what makes some unclear (`unclear_because`).
    """
    evidence = Evidence(summary, settings["cells"])
    return {name: _judge_claim(name, claim, evidence) for name, claim in settings["claims"].items()}


def _judge_claim(name: str, claim: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    tests = [_judge_ways(test, evidence) for test in list_tests(name, claim)]
    ways = [WHOLE_RUN, STEPS_ALONE] if any(STEPS_ALONE in test["judged"] for test in tests) else [WHOLE_RUN]
    verdicts = {
        way: _all_of([test["judged"].get(way, test["judged"][WHOLE_RUN])["verdict"] for test in tests]) for way in ways
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
    findings = [_find(test, comparison, evidence) for comparison in test.comparisons(evidence.points)]
    count = {status: sum(f.status == status for f in findings) for status in (HOLDS, FAILS, UNCLEAR)}
    needed = math.ceil(round(test.share * len(findings), DIGITS))
    verdict = UNDECIDED
    if count[HOLDS] >= needed:
        verdict = SUPPORTED
    elif count[HOLDS] + count[UNCLEAR] < needed:
        verdict = CONTRADICTED
    reasons = list(dict.fromkeys(why for finding in findings for why in finding.why))
    shown = {"columns": list(test.columns), "verdict": verdict, **count, "needed": needed, "unclear_because": reasons}
    return {**shown, "findings": [_as_json(finding) for finding in findings]}


def _find(test: ClaimTest, comparison: Comparison, evidence: Evidence) -> Finding:
    """What one comparison says."""
    cells = [evidence.label(point) for point in comparison]
    wanted = _wanted(test, comparison)
    lacking = list(dict.fromkeys(word for point, column in wanted for word in evidence.lacks(point, column)))
    if lacking:
        return Finding(cells, [], None, UNCLEAR, lacking, [])
    found = [evidence.estimate(point, column) for point, column in wanted]
    estimate = NUMBERS_OF[test.kind](test, found)
    status, why = UNCLEAR, [f"{name_of(cells)} give no number: a division by 0, or values that are all alike"]
    if estimate is not None:
        status = against(test.bounds, estimate)
        why = [f"the interval of {name_of(cells)} reaches across the threshold"] if status == UNCLEAR else []
    notes = evidence.notes(comparison, test.columns)
    if RANDOM_WEIGHTS in notes and not test.random_weights:
        status, why = UNCLEAR, [f"{name_of(cells)}: random weights, whose scores say nothing of the model"]
    return Finding(cells, [one.value for one in found], estimate, status, why, notes)


def name_of(cells: Sequence[str]) -> str:
    """What to call the cells of a comparison (labels): a pair by both, a group by what its cells have in common."""
    if len(cells) <= 2:
        return " against ".join(cells)
    axes = zip(*(cell.split("/") for cell in cells), strict=True)
    common = "/".join(parts[0] for parts in axes if len(set(parts)) == 1)
    return f"{common} ({len(cells)} cells)".strip()


def _wanted(test: ClaimTest, comparison: Comparison) -> list[tuple[Point, str]]:
    """The values that a comparison rests on."""
    if test.kind in ("correlation", "variation"):
        return list(itertools.product(comparison, test.columns))
    return list(zip(comparison, test.columns, strict=True))


def against(bounds: Mapping[str, float], estimate: Estimate) -> str:
    """Whether a number keeps to its thresholds with all of its interval, with none, or perhaps.

    A number without an interval decides by itself.
    """
    low, high = (estimate.low, estimate.high) if estimate.known else (estimate.value, estimate.value)
    assert low is not None and high is not None
    ends = _rounded(low), _rounded(high)
    if all(COMPARE[name](end, bound) for name, bound in bounds.items() for end in ends):
        return HOLDS
    if any(not COMPARE[name](ends[1] if name in FLOORS else ends[0], bound) for name, bound in bounds.items()):
        return FAILS
    return UNCLEAR


def _difference(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    one, other = _pair(test, found)
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    return Estimate(value, *of_difference((one.value, one.low, one.high), (other.value, other.low, other.high)))


def _ratio(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """First by second: as a difference of logarithms; an end that may be 0 or less leaves the interval open."""
    one, other = (_logarithm(part) for part in _pair(test, found))
    if one is None or other is None:
        return None
    logs = _difference(test, [one, other])
    assert logs is not None
    if logs.low is None or logs.high is None:
        return Estimate(math.exp(logs.value))
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def _logarithm(found: Estimate) -> Estimate | None:
    if found.value <= 0:
        return None
    ends = [None if end is None else math.log(end) if end > 0 else -math.inf for end in (found.low, found.high)]
    return Estimate(math.log(found.value), *ends)


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
    pairs = pd.DataFrame([[one.value, other.value] for one, other in zip(found[::2], found[1::2], strict=True)])
    spearman = test.given.get("method", "spearman") == "spearman"
    # Of equal values pandas' ranks are shared, as Spearman's are.
    table = pairs.rank() if spearman else pairs
    if (table.nunique() == 1).any():
        return None
    value = _rounded(float(np.corrcoef(table[0], table[1])[0, 1]))
    return Estimate(value, *_fisher(value, len(table), spearman))


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
        interval = [end if end is not None and math.isfinite(end) else None for end in (estimate.low, estimate.high)]
    return {**facts, "number": number, "interval": interval}
