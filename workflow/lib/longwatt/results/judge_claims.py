"""Judge a study's claims by its summary.

Each claim gets its numbers with their intervals, and a verdict that names the evidence it lacks.
"""

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

from longwatt.energy import flags
from longwatt.jobs.endings import DIVERGED, diverged
from longwatt.layout.wording import RANDOM_WEIGHTS
from longwatt.metrics import score_intervals
from longwatt.metrics.resampling import Scores
from longwatt.metrics.score_intervals import (
    OVER_SEEDS,
    PairedEstimate,
    at_confidence,
    mean_of_scores,
)
from longwatt.metrics.seed_intervals import NORMAL_95, of_difference, over_seeds_of_scores
from longwatt.results import differences
from longwatt.results.claim_scores import ClaimScores
from longwatt.results.series import records
from longwatt.study import claims, summary_columns
from longwatt.study.claims import (
    GROUPED_TESTS,
    POINT_AXES,
    ClaimPoint,
    ClaimTest,
    Comparison,
    training_of,
)
from longwatt.study.summary_columns import ACCURACIES, BASELINES, EXACT, varies_with_inference

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decidable"
HOLDS, FAILS, UNCLEAR = "holds", "fails", "unclear"
# How the energy of a training is counted; claims without energy have one verdict, of WHOLE_RUN.
WHOLE_RUN, STEPS_ALONE = "whole run", "training steps alone"
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt,
}  # fmt: skip
FLOORS = ("at_least", "above")
OF_PAIRS = {
    "difference": score_intervals.paired_difference,
    "equivalent": score_intervals.paired_difference,
    "ratio": score_intervals.paired_ratio,
}
SPEARMAN_ERROR = math.sqrt(1.06)  # Fieller, Hartley and Pearson (1957), Biometrika 44
OVER_EXAMPLES, APART = "one cell's interval over examples", "two independent intervals"
FISHER = "Fisher's z"
WORST_FIRST = (CONTRADICTED, UNDECIDED, SUPPORTED)
CONFIDENCE_OF_SEEDS = 0.95  # of intervals of all but scores
UNSHOWN = "has no interval, and without one nothing is shown to be equivalent"
LEAST_CONFIDENCE = 0.1  # of an interval: without confidence it has no width
DECIDING_DIGITS = 9  # beyond these a difference is rounding, and decides nothing


@dataclass(frozen=True)
class Estimate:
    """Holds a number, its interval (None where unknown) and where that is from."""

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""

    @property
    def known(self) -> bool:
        """True if both ends of the interval are known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Finding:
    """One comparison's number and its status.

    Attributes:
        cells: the points, as labels.
        values: each point's values in its columns.
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
    """The summary's values for every cell that the grid names.

    All models that a search made have one name; only the chosen one counts.

    Args:
        summary: as `longwatt.results.summary.summarize`; rows may be missing.
        cells: as `longwatt.study.reported.report_settings.claim_cells`.
        scores: of the examples; None where they are not at hand.
    """

    def __init__(
        self,
        summary: pd.DataFrame,
        cells: Sequence[Mapping[str, Any]],
        scores: ClaimScores | None = None,
    ) -> None:
        self._scores = scores
        rows: list[Mapping[str, Any]] = [*records(summary)]
        beaten = {row["cell"] for row in rows if row.get("selected") in (False, "False")}
        points = {(cell["cell"], cell["inference"]): claims.point_of(cell) for cell in cells}
        self._expected = _by_point((claims.point_of(cell), cell) for cell in cells)
        self._rows = _by_point(
            (points.get((row["cell"], row["inference"]), claims.point_of(row)), row) for row in rows
        )
        self._unchosen = {
            point
            for point, own in self._expected.items()
            if beaten.issuperset(cell["cell"] for cell in own)
        }
        for found in (self._expected, self._rows):
            for point in found.keys() - self._unchosen:
                found[point] = [one for one in found[point] if one["cell"] not in beaten]
        self._trainings = _by_point((training_of(point), point) for point in sorted(self._expected))
        self.points = list(self._expected)
        self._shown = [
            axis for axis in POINT_AXES if len({getattr(p, axis) for p in self.points}) > 1
        ]

    def label(self, point: ClaimPoint, training: bool = False) -> str:
        """Name a point, or its training, by the axes in which the study's cells differ."""
        axes = self._shown or list(POINT_AXES)
        chosen = [axis for axis in axes if not (training and axis == "inference")]
        return "/".join(str(getattr(point, axis)) for axis in chosen or POINT_AXES[:-1])

    def rows(self, point: ClaimPoint, column: str) -> list[Mapping[str, Any]]:
        """Find the rows that hold a column's values at a point, one for each seed.

        A training's column is repeated on every row of its cell, so the first row that knows it
        counts.
        """
        if varies_with_inference(column):
            return self._rows.get(point, [])
        found: dict[str, Mapping[str, Any]] = {}
        for row in self._of_training(self._rows, point):
            if row["cell"] not in found or pd.isna(found[row["cell"]][column]):
                found[row["cell"]] = row
        return list(found.values())

    def _of_training(self, found: ByPoint, point: ClaimPoint) -> Iterator[Mapping[str, Any]]:
        """Gather the entries of all inference points of a point's training."""
        for own in self._trainings[training_of(point)]:
            yield from found.get(own, ())

    def lacks(self, point: ClaimPoint, column: str) -> list[str]:
        """Say in words which parts of a value are missing, or return an empty list."""
        values = {row["cell"]: row[column] for row in self.rows(point, column)}
        cells = self._expected[point]
        if not varies_with_inference(column):
            by_name = {cell["cell"]: cell for cell in self._of_training(self._expected, point)}
            cells = list(by_name.values())
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

    def scores(self, point: ClaimPoint, column: str) -> Scores | None:
        """Return the examples' scores at a point, or None where they are not at hand."""
        return self._scores.of(self.rows(point, column), column) if self._scores else None

    def paired(
        self, test: ClaimTest, wanted: Values, one_sided: bool = False
    ) -> PairedEstimate | None:
        """Pair both sides where they scored the same examples, else return None.

        Args:
            test: which number is made.
            wanted: the point and the column of each side.
            one_sided: as `estimate` has it.
        """
        if test.kind not in OF_PAIRS or len(wanted) != 2 or self._scores is None:
            return None
        first, second = (self.scores(*side) for side in wanted)
        if first is None or second is None:
            return None
        sides = [self._rows[point] for point, _ in wanted]
        if not self._scores.same([row for rows in sides for row in rows]):
            return None
        seeds, others = (sorted(row["seed"] for row in rows) for rows in sides)
        confidence = tails_apart(first.how.confidence) if one_sided else None
        return OF_PAIRS[test.kind](first, second, seeds == others, confidence)

    def estimate(self, point: ClaimPoint, column: str, one_sided: bool = False) -> Estimate:
        """Estimate the mean over seeds of a value that `lacks` nothing.

        Args:
            point: which cell.
            column: of the summary.
            one_sided: whether each end alone has the confidence of the interval, as two one-sided
                tests want it. An interval that only the summary knows stays as wide as it is.
        """
        rows = self.rows(point, column)
        values = [float(row[column]) for row in rows]
        mean = sum(values) / len(values)
        scores = self.scores(point, column)
        if column in EXACT and not (scores and column in BASELINES):
            return Estimate(mean, mean, mean)
        if one_sided and scores:
            scores = at_confidence(scores, tails_apart(scores.how.confidence))
        elif len(values) == 1 and (ends := _ends(rows[0], column)):
            return Estimate(mean, *ends, OVER_EXAMPLES)
        if scores:
            return Estimate(mean, *mean_of_scores(scores))
        if len(values) == 1:
            known = _ends(rows[0], column)
            return Estimate(mean, *known, OVER_EXAMPLES) if known else Estimate(mean)
        own = [_ends(row, column) or (math.nan, math.nan) for row in rows]
        lows, highs = zip(*own, strict=True)
        confidence = tails_apart(CONFIDENCE_OF_SEEDS) if one_sided else CONFIDENCE_OF_SEEDS
        return Estimate(mean, *over_seeds_of_scores(values, lows, highs, confidence), OVER_SEEDS)

    def notes(self, wanted: Values, apart: bool = False) -> list[str]:
        """List the caveats that a reader needs beside a number.

        Args:
            wanted: the values that make it, a point and a column each.
            apart: as `longwatt.results.differences.difference_notes`.
        """
        values = [(row, column) for point, column in wanted for row in self.rows(point, column)]
        regimes = {
            (row["model"], row["attention_regime"])
            for row, _ in values
            if not pd.isna(row["attention_regime"])
        }
        several = len(regimes) > len({model for model, _ in regimes})
        flagged = self.flags(wanted)
        named = ((row, summary_columns.energy_source(column)) for row, column in values)
        sources = {row[source] for row, source in named if source is not None}
        notes = {
            "estimated energy": "estimate" in sources,
            f"energy flagged: {', '.join(flagged)}": bool(flagged),
            RANDOM_WEIGHTS: any(_of_random_weights(*value) for value in values),
            DIVERGED: any(_of_diverged(*value) for value in values),
            "two attention regimes, so two models": several,
        }
        needed = [note for note, is_needed in notes.items() if is_needed]
        return [*needed, *differences.difference_notes(values, apart)]

    def flags(self, values: Values) -> tuple[str, ...]:
        """Return the flags of the energies among some values."""
        return flags.union(
            row.get(named)
            for point, column in values
            if (named := summary_columns.energy_flags(column))
            for row in self.rows(point, column)
        )


def _of_random_weights(row: Mapping[str, Any], column: str) -> bool:
    """Check whether a value is a score, or its interval's end, from random weights."""
    return summary_columns.number_of(column) in ACCURACIES and row["initialisation"] == "random"


def _of_diverged(row: Mapping[str, Any], column: str) -> bool:
    """Check whether a value rests on a diverged training: the cell's own or its baseline's."""
    if column in EXACT:
        return False
    lost = row.get("diverged_baselines")
    beside = summary_columns.BASELINE_KIND.get(summary_columns.number_of(column))
    return diverged(row) or (isinstance(lost, str) and beside in lost.split())


def _ends(row: Mapping[str, Any], column: str) -> tuple[float, float] | None:
    """Return the interval's ends in one seed's row, or None without an interval."""
    # The headline's interval stands under its own name too.
    for name in (column, *(["score"] if column == row["score_name"] else [])):
        low, high = (row.get(f"{name}_ci_{end}") for end in ("low", "high"))
        if low is not None and high is not None and not (pd.isna(low) or pd.isna(high)):
            return float(low), float(high)
    return None


Entry = TypeVar("Entry")
Values = Sequence[tuple[ClaimPoint, str]]  # the points and columns that values stand in
ByPoint = Mapping[ClaimPoint, list[Mapping[str, Any]]]


def _by_point(found: Iterable[tuple[ClaimPoint, Entry]]) -> dict[ClaimPoint, list[Entry]]:
    """Group entries by their point."""
    gathered: dict[ClaimPoint, list[Entry]] = {}
    for point, entry in found:
        gathered.setdefault(point, []).append(entry)
    return gathered


def judge(
    summary: pd.DataFrame, settings: Mapping[str, Any], results: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Judge every claim.

    Args:
        summary: as `longwatt.results.summary.summarize`.
        settings: as `longwatt.study.stages.Stages.judge_claims`.
        results: results/{study}, where examples' scores are; None to compare without them.

    Returns:
        The `statement`, `source`, `verdicts`, `notes` (of all its findings) and `tests` by claim
        id. A verdict stands under each way of counting energy: WHOLE_RUN and, for a claim about
        the energy of training, STEPS_ALONE. A test has its settings and, by way of counting,
        what `judge_test` returns (`judged`).
    """
    cells = settings["cells"]
    splits = {(cell["cell"], cell["inference"]): cell.get("split") for cell in cells}
    scores = ClaimScores(results, settings["scoring"], splits) if results else None
    evidence = Evidence(summary, cells, scores)
    return {name: _judge_claim(name, claim, evidence) for name, claim in settings["claims"].items()}


def _judge_claim(name: str, claim: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    tests = [_judge_ways(test, evidence) for test in claims.list_tests(name, claim)]
    about_energy = any(STEPS_ALONE in test["judged"] for test in tests)
    verdicts = {}
    for way in (WHOLE_RUN, STEPS_ALONE) if about_energy else (WHOLE_RUN,):
        found = [test["judged"].get(way, test["judged"][WHOLE_RUN])["verdict"] for test in tests]
        verdicts[way] = min(found, key=WORST_FIRST.index, default=SUPPORTED)
    findings = [f for test in tests for way in test["judged"].values() for f in way["findings"]]
    notes = sorted({note for finding in findings for note in finding["notes"]})
    facts = {"statement": claim["statement"], "source": claim.get("source")}
    return {**facts, "verdicts": verdicts, "notes": notes, "tests": tests}


def _judge_ways(test: ClaimTest, evidence: Evidence) -> dict[str, Any]:
    """Judge a test under every way of counting energy that changes its numbers."""
    judged = {WHOLE_RUN: judge_test(test, evidence)}
    if steps := test.of_steps_alone():
        judged[STEPS_ALONE] = judge_test(steps, evidence)
    return {"kind": test.kind, "given": test.given, "reason": test.reason or None, "judged": judged}


def judge_test(test: ClaimTest, evidence: Evidence) -> dict[str, Any]:
    """Judge one test, whatever its unclear comparisons would turn out to be.

    It is supported if enough comparisons hold, and contradicted if too few can still hold.

    Returns:
        The verdict, how many comparisons hold, fail and are unclear, how many must hold
        (`needed`), why some are unclear, the cells without a partner (`alone`) and the `findings`
        (fields of Finding).
    """
    comparisons = test.comparisons(evidence.points)
    findings = [_find(test, comparison, evidence) for comparison in comparisons]
    count = {
        status: sum(f.status == status for f in findings) for status in (HOLDS, FAILS, UNCLEAR)
    }
    needed = math.ceil(round(test.share * len(findings), DECIDING_DIGITS))
    verdict = UNDECIDED
    if count[HOLDS] >= needed:
        verdict = SUPPORTED
    elif count[HOLDS] + count[UNCLEAR] < needed:
        verdict = CONTRADICTED
    return {
        "columns": list(test.columns),
        "verdict": verdict,
        **count,
        "needed": needed,
        "unclear_because": list(dict.fromkeys(why for finding in findings for why in finding.why)),
        "alone": [evidence.label(point) for point in test.alone(evidence.points, comparisons)],
        "findings": [_as_json(finding) for finding in findings],
    }


def _find(test: ClaimTest, comparison: Comparison, evidence: Evidence) -> Finding:
    """Compute one comparison's number and judge it."""
    cells = _labels(test, comparison, evidence)
    sides = (comparison, test.columns)
    wanted = list(
        itertools.product(*sides) if test.kind in GROUPED_TESTS else zip(*sides, strict=True)
    )
    lacking = dict.fromkeys(why for value in wanted for why in evidence.lacks(*value))
    if lacking:
        return Finding(cells, [], None, UNCLEAR, list(lacking), [])
    values, estimate = _number(test, wanted, evidence)
    notes, name = evidence.notes(wanted, apart=test.kind in GROUPED_TESTS), name_of(cells)
    status, why = UNCLEAR, ""
    if doubt := _doubt(test, notes, evidence.flags(wanted)):
        why = f"{name}: {doubt}"
    elif estimate is None:
        why = f"{name} give no number: a division by 0, or values that are all alike"
    elif test.kind == "equivalent":
        _, narrow = _number(test, wanted, evidence, one_sided=True)
        assert narrow is not None, "there is a number with the wider interval"
        status, why = _equivalence(test, estimate, narrow, name)
        estimate = narrow
    elif (status := verdict_against(test.bounds, estimate)) == UNCLEAR:
        why = f"the interval of {name} reaches across the threshold"
    return Finding(cells, values, estimate, status, [why] if why else [], notes)


def _number(
    test: ClaimTest, wanted: Values, evidence: Evidence, one_sided: bool = False
) -> tuple[list[float], Estimate | None]:
    """Return a comparison's values and their number, paired where possible."""
    found = [evidence.estimate(*value, one_sided) for value in wanted]
    estimate = NUMBERS_OF[test.kind](test, found)
    values = [one.value for one in found]
    if estimate is None or not (pair := evidence.paired(test, wanted, one_sided)):
        return values, estimate
    if not pair.is_part:  # the summary's rounded scores are those that are printed everywhere
        return values, Estimate(estimate.value, pair.low, pair.high, pair.method)
    return list(pair.sides), Estimate(pair.value, pair.low, pair.high, pair.method)


def tails_apart(confidence: float) -> float:
    """Return the confidence of an interval of which each end alone has this confidence.

    A confidence of little above a half or less is not taken at its word, but a wider interval.
    """
    return max(LEAST_CONFIDENCE, round(2 * confidence - 1, DECIDING_DIGITS))


def _equivalence(
    test: ClaimTest, estimate: Estimate, narrow: Estimate, name: str
) -> tuple[str, str]:
    """Judge two one-sided tests (Schuirmann, 1987), and say what leaves them unclear.

    Args:
        test: with the margin.
        estimate: with the study's interval. Numbers differ if it lies beyond the margin.
        narrow: with the interval of `tails_apart`. Numbers are equivalent if it lies within.
        name: of the comparison.
    """
    if not narrow.known:
        return UNCLEAR, f"{name} {UNSHOWN}"
    if verdict_against(test.bounds, narrow) == HOLDS:
        return HOLDS, ""
    if verdict_against(test.bounds, estimate) == FAILS:
        return FAILS, ""
    return UNCLEAR, f"the interval of {name} lies neither within the margin nor beyond it"


def _labels(test: ClaimTest, comparison: Comparison, evidence: Evidence) -> list[str]:
    """Name the points of a comparison, without inference where only their trainings count."""
    trainings = [not varies_with_inference(column) for column in test.columns]
    if test.kind in GROUPED_TESTS:
        trainings = [all(trainings)] * len(comparison)
    return [evidence.label(*side) for side in zip(comparison, trainings, strict=True)]


def _doubt(test: ClaimTest, notes: Sequence[str], flagged: Sequence[str]) -> str:
    """Say why a comparison decides nothing whatever its number, or return ''."""
    if disclaimed := [flag for flag in flagged if flag in flags.DISCLAIMED]:
        words = (f"an energy {flags.DISCLAIMED[flag]} (flag {flag})" for flag in disclaimed)
        return f"{'; '.join(words)}, of which nothing is claimed"
    if DIVERGED in notes:
        return f"{DIVERGED}, so neither costs nor scores are a whole training's"
    if RANDOM_WEIGHTS in notes and not test.random_weights:
        return "random weights, whose scores say nothing of the model"
    return ""


def name_of(cells: Sequence[str]) -> str:
    """Name a pair by both its labels, or a group by the axes in common."""
    if len(cells) <= 2:
        return " against ".join(cells)
    axes = zip(*(cell.split("/") for cell in cells), strict=True)
    common = "/".join(parts[0] for parts in axes if len(set(parts)) == 1)
    return f"{common} ({len(cells)} cells)".strip()


def verdict_against(bounds: Mapping[str, float], estimate: Estimate) -> str:
    """Compare a number and the ends of its interval with the thresholds.

    A number without an interval decides by itself.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        low = high = estimate.value
    low, high = _rounded(low), _rounded(high)
    if all(COMPARE[name](end, bound) for name, bound in bounds.items() for end in (low, high)):
        return HOLDS
    best = {name: high if name in FLOORS else low for name in bounds}
    fails = any(not COMPARE[name](best[name], bound) for name, bound in bounds.items())
    return FAILS if fails else UNCLEAR


def _difference(test: ClaimTest, found: Sequence[Estimate]) -> Estimate:
    one, other = _pair(test, found)
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    ends = of_difference((one.value, one.low, one.high), (other.value, other.low, other.high))
    methods = [side.method for side in (one, other) if side.method]  # what is exact has none
    return Estimate(value, *ends, APART if len(methods) > 1 else "".join(methods))


def _ratio(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """Divide the first value by the second, with the interval of a difference of logarithms.

    An end that may be 0 or less leaves the interval open.
    """
    one, other = (_logarithm(part) for part in _pair(test, found))
    if one is None or other is None:
        return None
    logs = _difference(test, [one, other])
    if logs.low is None or logs.high is None:
        return Estimate(math.exp(logs.value))
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.method)


def _logarithm(found: Estimate) -> Estimate | None:
    if found.value <= 0:
        return None
    low, high = (
        None if end is None else math.log(end) if end > 0 else -math.inf
        for end in (found.low, found.high)
    )
    return replace(found, value=math.log(found.value), low=low, high=high)


def _pair(test: ClaimTest, found: Sequence[Estimate]) -> tuple[Estimate, Estimate]:
    if len(found) == 2:
        return found[0], found[1]
    value = float(test.given["to"]["value"])
    return found[0], Estimate(value, value, value)


def _variation(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """Return the coefficient of variation, the standard deviation divided by the mean."""
    values = np.array([one.value for one in found])
    mean = abs(float(values.mean()))
    return Estimate(float(values.std(ddof=1)) / mean) if mean else None


def _correlation(test: ClaimTest, found: Sequence[Estimate]) -> Estimate | None:
    """Correlate two columns over cells, with Fisher's interval."""
    pairs = pd.DataFrame({side: [one.value for one in found[side::2]] for side in (0, 1)})
    spearman = test.given.get("method", "spearman") == "spearman"
    table = pairs.rank() if spearman else pairs  # equal values share a rank, as Spearman's do
    if (table.nunique() == 1).any():
        return None
    value = _rounded(float(np.corrcoef(table[0], table[1])[0, 1]))
    return Estimate(value, *_fisher(value, len(table), spearman), FISHER)


def _fisher(value: float, cells: int, spearman: bool) -> tuple[float, float]:
    """Return the 95 % interval of a correlation over four cells or more.

    A perfect correlation's Fisher interval has no width, however few the cells. The end nearer to 0
    is therefore at most that of the strongest correlation short of a perfect one. For ranks this is
    the correlation in which two neighbours have changed places; ties may come nearer to 1, but say
    no more. For values it is the last correlation that rounding tells from 1.
    """
    half = NORMAL_95 * (SPEARMAN_ERROR if spearman else 1) / math.sqrt(cells - 3)
    strongest = 1 - 12 / (cells**3 - cells) if spearman else 1 - 10**-DECIDING_DIGITS
    inner = math.tanh(math.atanh(min(abs(value), strongest)) - half)
    outer = math.tanh(math.atanh(abs(value)) + half) if abs(value) < 1 else 1.0
    return (inner, outer) if value >= 0 else (-outer, -inner)


NUMBERS_OF: dict[str, Callable[[ClaimTest, Sequence[Estimate]], Estimate | None]] = {
    "difference": _difference,
    "equivalent": _difference,
    "ratio": _ratio,
    "value": lambda test, found: found[0],
    "variation": _variation,
    "correlation": _correlation,
}


def _rounded(value: float) -> float:
    return float(f"{value:.{DECIDING_DIGITS}g}")


def _as_json(finding: Finding) -> dict[str, Any]:
    """Convert a finding for JSON, with null for an open end of its interval."""
    facts = asdict(finding)
    del facts["estimate"]
    estimate = finding.estimate
    facts |= {"number": estimate and estimate.value, "interval": None, "method": None}
    if estimate is not None and estimate.known:
        ends = (estimate.low, estimate.high)
        facts["interval"] = [
            end if end is not None and math.isfinite(end) else None for end in ends
        ]
        facts["method"] = estimate.method or None
    return facts
