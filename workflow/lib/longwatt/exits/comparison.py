"""Compare models with exits with their baselines: relative time and joules, speed-ups, gains.

Everything follows from measurements. An unknown number is None, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from longwatt.energy import flags
from longwatt.exits import measured, statistics
from longwatt.exits.measured import EARLY_EXIT_KIND, EFFICIENT_KIND, CellResults, Measured
from longwatt.exits.replay import Rule, leave
from longwatt.exits.statistics import Draws, GainEstimate, ResamplingSettings
from longwatt.exits.tables import write_curve, write_difficulty
from longwatt.jobs.endings import diverged
from longwatt.models.exits.rules import LAST
from longwatt.provenance.artefacts import digests
from longwatt.provenance.stamps import write_json
from longwatt.results import search
from longwatt.results.differences import unlike_machines

ENERGY_FACTS = ("joules_per_example", "energy_source", "energy_measured", "energy_flags")
CHOSEN = ("threshold", "patience")  # rules with a value that a user sets
ECE = ("ece_before", "ece_after", "ece_drop", "ece_drop_ci_low", "ece_drop_ci_high")
SPEEDUP, GAIN = "speedup_at_equal_accuracy", "accuracy_over_efficient"
# Columns that hold for all points of a cell at a batch size.
OF_GROUP = (
    *(f"{name}{end}" for name in (SPEEDUP, GAIN) for end in ("", "_ci_low", "_ci_high")),
    "speedup_across",
    "efficient_across",
)
NO_STANDARD = GainEstimate(
    reason="the study has no standard baseline (one classifier, on the last layer) of this "
    "encoder, length and seed"
)
NO_EFFICIENT = GainEstimate(
    reason="the study has no efficient baseline (one classifier below the last layer) of this "
    "encoder"
)
OTHER_STANDARD = "no threshold or patience was measured on the standard baseline's examples"
OTHER_EFFICIENT = "no efficient baseline was measured on the examples of the model with exits"

Columns = dict[str, Any]


@dataclass(frozen=True)
class EncoderGroup:
    """One cell with exits on one split at one batch size, and its baselines there.

    Attributes:
        cell: with exits.
        ours: its points by threshold, patience and last classifier.
        oracle: its oracle's points.
        standard: the most accurate standard baseline; None if there is none.
        efficient: a point of every efficient baseline.
    """

    cell: CellResults
    ours: Sequence[Measured]
    oracle: Sequence[Measured]
    standard: Measured | None
    efficient: Sequence[Measured]

    @property
    def first(self) -> Measured:
        """One of the points, which says what they have in common."""
        return [*self.ours, *self.oracle][0]

    @property
    def chosen(self) -> list[Measured]:
        """The points whose rule a user sets."""
        return [point for point in self.ours if point.rule in CHOSEN]


@dataclass(frozen=True)
class Everything:
    """All points that are compared, each beside its standard baseline.

    Attributes:
        points: of every chosen cell.
        standards: a standard baseline of the chosen cells, by cell and point of all cells.
        relative: time and joules over the standard's, by cell and point of all cells.
        settings: of the comparison.
    """

    points: Sequence[Measured]
    standards: Mapping[tuple[str, str], Measured | None]
    relative: Mapping[tuple[str, str], tuple[GainEstimate, float | None]]
    settings: ResamplingSettings

    @classmethod
    def of(
        cls,
        found: Sequence[CellResults],
        chosen: Sequence[CellResults],
        settings: ResamplingSettings,
    ) -> Everything:
        """Set every point beside its standard baseline, which is chosen."""
        points = [point for cell in chosen for point in cell.points]
        everyone = [point for cell in found for point in cell.points]
        standards = {point.key: standard_of(point, points) for point in everyone}
        relative = {one.key: _relative(one, standards[one.key], settings) for one in everyone}
        return cls(points, standards, relative, settings)

    def across(self, point: Measured) -> str | None:
        """Say how the machine that measured a point differs from its standard's."""
        standard = self.standards[point.key]
        return None if standard is None else unlike_machines(point.machine, standard.machine)


def compare_exits(
    results: Path,
    cells: Sequence[Mapping[str, Any]],
    settings: ResamplingSettings,
    target: Path,
    curve: Path,
    difficulty: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write exits.json, curve.csv and difficulty.csv.

    exits.json holds `rows` for the summary and `comparisons` for figures. Only the best on
    validation of a search's models (`variant_of` the same entry) is compared or compared with. The
    others have rows, whose times are over the chosen standard's.

    Args:
        results: results/{study}.
        cells: cell, the axes of the grid, `points`: inference settings by name; `variant_of`,
            where a search made it.
        settings: equal_accuracy_points, bootstrap_resamples, confidence, seed.
        target: exits.json.
        curve: scores at every threshold, from recorded logits.
        difficulty: confidence and exit by label, length and gold-label confidence.
        provenance: the stamp of exits.json.
    """
    found = [read for cell in cells if (read := measured.read_cell(results, cell))]
    # Only the best of a search counts: see `longwatt.results.search`.
    best = search.chosen((cell.cell, cell.validation_score) for cell in found)
    chosen = [cell for cell in found if cell.cell["cell"] in best]
    with_exits = [cell for cell in chosen if cell.cell["exit_kind"] == EARLY_EXIT_KIND]
    study = Everything.of(found, chosen, settings)
    comparisons = [_comparison(group, study) for group in _groups(with_exits, study)]
    rows = {
        cell.cell["cell"]: {one.name: _row(one, cell, study, comparisons) for one in cell.points}
        for cell in found
    }
    write_curve(curve, with_exits)
    write_difficulty(difficulty, with_exits)
    lost = sorted({str(cell.cell["model"]) for cell in chosen if diverged(cell.cell)})
    facts = {"rows": rows, "comparisons": comparisons, "diverged": lost}
    written = digests(target.parent, (curve, difficulty))
    write_json(target, {**facts, "sha256": written, "provenance": provenance})


def standard_of(point: Measured, points: Sequence[Measured]) -> Measured | None:
    """Return the standard baseline beside a point: the most accurate, the hardest to beat."""
    found = _baselines(point, points, measured.STANDARD_KIND)
    return max(found, key=lambda one: one.accuracy, default=None)


def _baselines(point: Measured, points: Sequence[Measured], kind: str) -> list[Measured]:
    """Return the first point of every comparable baseline of a kind."""
    there = [one for one in points if one.kind == kind and one.compared_with == point.compared_with]
    return [next(own) for _, own in groupby(there, key=lambda one: one.cell["cell"])]


def _groups(cells: Sequence[CellResults], study: Everything) -> Iterator[EncoderGroup]:
    for cell in cells:
        for key in dict.fromkeys(point.compared_with for point in cell.points):
            own = [point for point in cell.points if point.compared_with == key]
            yield EncoderGroup(
                cell=cell,
                ours=[point for point in own if point.rule in (*CHOSEN, LAST)],
                oracle=[point for point in own if point.rule == "oracle"],
                standard=study.standards[own[0].key],
                efficient=_baselines(own[0], study.points, EFFICIENT_KIND),
            )


def _comparison(group: EncoderGroup, study: Everything) -> Columns:
    """Return the entry of exits.json for one group."""
    settings, standard = study.settings, group.standard
    speedup, gain = _speedup(group, settings), _gain(group, settings)
    first, calibration = group.first, group.cell.calibration
    own = ("cell", "model", *measured.SAME, "exit_layers", "encoder_layers")
    times = [study.relative[one.key][0] for one in (*group.ours, *group.oracle)]
    # A speed-up is chosen from these points.
    machines = map(study.across, group.chosen)
    pairs = ((one.machine, other.machine) for one in group.ours for other in group.efficient)
    return {
        **{name: first.cell[name] for name in own},
        "diverged": diverged(first.cell),
        "split": first.split,
        "batch_size": first.batch_size,
        "majority": first.facts["majority"],
        "calibration_split": calibration["split"],
        "temperatures": calibration["temperatures"],
        "last_calibration_accuracy": _recorded_accuracy(None, group.cell),
        "confidence": settings["confidence"],
        "equal_accuracy_points": settings["equal_accuracy_points"],
        "standard": standard and _point(standard, group, study),
        "points": [_point(point, group, study) for point in group.ours],
        "efficient": [_point(point, group, study) for point in group.efficient],
        "oracle": [_point(point, group, study) for point in group.oracle],
        **speedup.columns(SPEEDUP),
        "speedup_across": _each_word(machines),
        **gain.columns(GAIN),
        "efficient_across": _each_word(unlike_machines(*pair) for pair in pairs),
        "diverged_baselines": _diverged_baselines(standard, group.efficient),
        **_calibrated(group.cell, first.split),
        **_training_beside(first, standard),
        # Each reason why a number is not known, once.
        "reasons": list(dict.fromkeys(e.reason for e in (speedup, gain, *times) if e.reason)),
    }


def _point(point: Measured, group: EncoderGroup, study: Everything) -> Columns:
    """Return the entry of exits.json for one point."""
    time, joules = study.relative[point.key]
    return {
        "point": point.name,
        **{name: point.cell[name] for name in ("cell", "model", "exit_kind", "exit_layers")},
        "rule": point.rule,
        "value": point.value,
        "split": point.split,
        "batch_size": point.batch_size,
        **{name: point.facts[name] for name in (*measured.SCORE_FACTS, *measured.INFERENCE_FACTS)},
        "seconds_per_example": point.seconds_per_example,
        **time.columns("relative_time"),
        **{name: point.facts[name] for name in ENERGY_FACTS},
        "relative_time_across": study.across(point),
        "machine": dict(point.machine),
        "relative_joules": joules,
        "calibration_accuracy": _calibration_accuracy(point, group.cell, study.points),
    }


def _relative(
    point: Measured, standard: Measured | None, settings: ResamplingSettings
) -> tuple[GainEstimate, float | None]:
    """Divide a point's time and joules by the standard's."""
    if standard is None:
        return NO_STANDARD, None
    own, other = (one.facts["joules_per_example"] for one in (point, standard))
    time = statistics.relative_time(point, standard, settings)
    return time, own / other if own and other else None


def _each_word(across: Iterable[str | None]) -> str | None:
    """Join the words of several differences of machines, each once."""
    said = [words.split(", ") for words in across if words]
    return ", ".join(dict.fromkeys(word for words in said for word in words)) or None


def _diverged_baselines(standard: Measured | None, efficient: Sequence[Measured]) -> str | None:
    """Name the kinds of baselines with a training that diverged, if any."""
    baselines = [*([standard] if standard else []), *efficient]
    return " ".join(dict.fromkeys(one.kind for one in baselines if diverged(one.cell))) or None


def _speedup(group: EncoderGroup, settings: ResamplingSettings) -> GainEstimate:
    if group.standard is None:
        return NO_STANDARD
    ours = _same_examples(group.chosen, group.standard)
    if not ours:
        return GainEstimate(reason=OTHER_STANDARD)
    draws = Draws.of([group.standard, *ours], settings)
    return statistics.speedup_at_equal_accuracy(draws, settings)


def _gain(group: EncoderGroup, settings: ResamplingSettings) -> GainEstimate:
    if not group.efficient:
        return NO_EFFICIENT
    efficient = _same_examples(group.efficient, group.first)
    ours = _same_examples(group.ours, group.first)
    if not (efficient and ours):
        return GainEstimate(reason=OTHER_EFFICIENT)
    draws = Draws.of([*efficient, *ours], settings)
    return statistics.accuracy_over_efficient(draws, len(efficient), settings)


def _same_examples(points: Sequence[Measured], other: Measured) -> list[Measured]:
    return [point for point in points if point.in_order(other.ids)]


def _calibration_accuracy(
    point: Measured, ours: CellResults, points: Sequence[Measured]
) -> float | None:
    """Return the accuracy on the split of the temperatures, from logits or a point there."""
    if point.cell["cell"] == ours.cell["cell"]:
        rule = {point.rule: True if point.value is None else point.value}
        return _recorded_accuracy(None if point.rule == LAST else rule, ours)
    split = ours.calibration["split"]
    recorded = ours.recorded.get(split)
    if recorded is None:
        return None
    there = (one for one in points if one.cell["cell"] == point.cell["cell"] and one.split == split)
    # An accuracy on other examples could not be set beside ours.
    return next((one.accuracy for one in there if set(one.ids) == set(recorded.ids)), None)


def _recorded_accuracy(rule: Rule, cell: CellResults) -> float | None:
    """Return an exit rule's accuracy on the calibration split, None without logits of it."""
    recorded = cell.recorded.get(cell.calibration["split"])
    if recorded is None:
        return None
    _, predicted, _ = leave(recorded.logits, cell.calibration["temperatures"], rule, recorded.gold)
    return 100 * float((predicted == recorded.gold).mean())


def _calibrated(cell: CellResults, split: str) -> Columns:
    found = cell.calibration.get("mean", {}).get(split, {})
    return {name: found.get(name) for name in ECE}


def _row(
    point: Measured, cell: CellResults, study: Everything, comparisons: Sequence[Columns]
) -> Columns:
    """Return the summary's columns of a point.

    A comparison's columns are repeated on its points whose rule a user sets.
    """
    (time, joules), standard = study.relative[point.key], study.standards[point.key]
    both = [one.facts["energy_flags"] for one in (point, standard) if one]
    efficient = _baselines(point, study.points, EFFICIENT_KIND)
    own = {"cell": point.cell["cell"], "split": point.split, "batch_size": point.batch_size}
    found = (one for one in comparisons if point.rule in CHOSEN and own.items() <= one.items())
    group = next(found, {})
    return {
        **time.columns("relative_time"),
        "relative_joules": joules,
        "relative_joules_flags": None if joules is None else flags.joined_flags(chain(*both)),
        "relative_time_across": study.across(point),
        "diverged_baselines": _diverged_baselines(standard, efficient),
        **{name: group.get(name) for name in OF_GROUP},
        **_calibrated(cell, point.split),
        **_training_beside(point, standard),
    }


def _training_beside(point: Measured, standard: Measured | None) -> Columns:
    """Compare a cell's training with the standard's: seconds per sample of its steps, machines."""
    time, across = None, None
    if standard is not None:
        time = point.train_seconds_per_sample / standard.train_seconds_per_sample
        across = unlike_machines(point.trained_on, standard.trained_on)
    return {"train_time_over_standard": time, "train_time_across": across}
