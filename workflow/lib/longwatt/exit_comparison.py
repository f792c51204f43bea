"""Models with exits beside their baselines: relative time and joules, speed-up at equal accuracy, what exits gain.

Everything follows from what was measured; what cannot be known is None, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from longwatt import flags, search
from longwatt.artefacts import digests
from longwatt.differences import unlike_machines
from longwatt.endings import diverged
from longwatt.exit_measured import (
    EARLY_EXIT,
    EFFICIENT,
    FROM_INFERENCE,
    FROM_SCORES,
    SAME,
    STANDARD,
    CellResults,
    Measured,
    read_cell,
)
from longwatt.exit_points import LAST, Rule, leave
from longwatt.exit_statistics import (
    Draws,
    Estimate,
    Settings,
    accuracy_over_efficient,
    relative_time,
    speedup_at_equal_accuracy,
)
from longwatt.exit_tables import write_curve, write_difficulty
from longwatt.provenance import write_json

ENERGY = ("joules_per_example", "energy_source", "energy_measured", "energy_flags")
CHOSEN = ("threshold", "patience")  # rules with a value that a user sets
ECE = ("ece_before", "ece_after", "ece_drop", "ece_drop_ci_low", "ece_drop_ci_high")
NO_STANDARD = "the study has no standard baseline (one classifier, on the last layer) of this encoder, length and seed"
NO_EFFICIENT = (
    "the study has no efficient baseline (one classifier below the last layer) of this encoder"
)

Columns = dict[str, Any]


@dataclass(frozen=True)
class Group:
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
    """All that is compared.

    Attributes:
        points: of every chosen cell.
        relative: time and joules over the standard's, by cell and point, of all cells.
        across: in what the standard's machine was another one, by cell and point; None where in nothing.
        settings: of the comparison.
    """

    points: Sequence[Measured]
    relative: Mapping[tuple[str, str], tuple[Estimate, float | None]]
    across: Mapping[tuple[str, str], str | None]
    settings: Settings

    @classmethod
    def of(
        cls, found: Sequence[CellResults], chosen: Sequence[CellResults], settings: Settings
    ) -> Everything:
        """Set every point beside its standard baseline, which is chosen."""
        points = [point for cell in chosen for point in cell.points]
        everyone = [point for cell in found for point in cell.points]
        relative = {
            point.key: _relative(point, standard_of(point, points), settings) for point in everyone
        }
        across = {point.key: _across(point, standard_of(point, points)) for point in everyone}
        return cls(points, relative, across, settings)


def compare(
    results: Path,
    cells: Sequence[Mapping[str, Any]],
    settings: Settings,
    target: Path,
    curve: Path,
    difficulty: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write exits.json (`rows` for the summary, `comparisons` for figures), curve.csv and difficulty.csv.

    Of models that a search made (`variant_of` the same entry) only the best on validation is compared or compared with;
    the others have rows, whose times are over the chosen standard's.

    Args:
        results: results/{study}.
        cells: cell, the axes of the grid, `points`: inference settings by name; `variant_of`, where a search made it.
        settings: equal_accuracy_points, bootstrap_resamples, confidence, seed.
        target: exits.json.
        curve: what every threshold would give, from recorded logits.
        difficulty: confidence and exit by label, length and gold-label confidence.
        provenance: the stamp of exits.json.
    """
    found = [read for cell in cells if (read := read_cell(results, cell))]
    chosen = best_variants(found)
    with_exits = [cell for cell in chosen if cell.cell["exit_kind"] == EARLY_EXIT]
    study = Everything.of(found, chosen, settings)
    comparisons = [_comparison(group, study) for group in _groups(with_exits, study.points)]
    rows = {cell.cell["cell"]: _rows_of(cell, study, comparisons) for cell in found}
    write_curve(curve, with_exits)
    write_difficulty(difficulty, with_exits)
    lost = sorted({str(cell.cell["model"]) for cell in chosen if diverged(cell.cell)})
    facts = {"rows": rows, "comparisons": comparisons, "diverged": lost}
    written = digests(target.parent, (curve, difficulty))
    write_json(target, {**facts, "sha256": written, "provenance": provenance})


def best_variants(cells: Sequence[CellResults]) -> list[CellResults]:
    """The cells but for those of a search that are not the best on validation; see `longwatt.search`."""
    counting = search.chosen((cell.cell, cell.validation_score) for cell in cells)
    return [cell for cell in cells if cell.cell["cell"] in counting]


def standard_of(point: Measured, points: Sequence[Measured]) -> Measured | None:
    """The standard baseline that a point is set beside; of several the most accurate, the hardest to beat."""
    found = _baselines(point, points, STANDARD)
    return max(found, key=lambda one: one.accuracy, default=None)


def _baselines(point: Measured, points: Sequence[Measured], kind: str) -> list[Measured]:
    """A point of every baseline of a kind that a point may be set beside: the first of each cell."""
    there = [one for one in points if one.kind == kind and one.compared_with == point.compared_with]
    return [next(own) for _, own in groupby(there, key=lambda one: one.cell["cell"])]


def _groups(cells: Sequence[CellResults], points: Sequence[Measured]) -> Iterator[Group]:
    for cell in cells:
        for key in dict.fromkeys(point.compared_with for point in cell.points):
            own = [point for point in cell.points if point.compared_with == key]
            yield Group(
                cell=cell,
                ours=[point for point in own if point.rule in (*CHOSEN, LAST)],
                oracle=[point for point in own if point.rule == "oracle"],
                standard=standard_of(own[0], points),
                efficient=_baselines(own[0], points, EFFICIENT),
            )


def _comparison(group: Group, study: Everything) -> Columns:
    """What exits.json says of one group."""
    settings = study.settings
    speedup, gain = _speedup(group, settings), _gain(group, settings)
    parts = {
        name: [_point(point, group, study) for point in chosen]
        for name, chosen in (
            ("points", group.ours),
            ("efficient", group.efficient),
            ("oracle", group.oracle),
        )
    }
    standard = group.standard and _point(group.standard, group, study)
    first, calibration = group.first, group.cell.calibration
    return {
        **{
            name: first.cell[name]
            for name in ("cell", "model", *SAME, "exit_layers", "encoder_layers")
        },
        "diverged": diverged(first.cell),
        **{
            "split": first.split,
            "batch_size": first.batch_size,
            "majority": first.facts["majority"],
        },
        **{"calibration_split": calibration["split"], "temperatures": calibration["temperatures"]},
        "last_calibration_accuracy": _recorded_accuracy(None, group.cell),
        "confidence": settings["confidence"],
        "equal_accuracy_points": settings["equal_accuracy_points"],
        "standard": standard or None,
        **parts,
        **speedup.columns("speedup_at_equal_accuracy"),
        "speedup_across": _speedup_across(group, study),
        **gain.columns("accuracy_over_efficient"),
        "efficient_across": _efficient_across(group),
        "diverged_baselines": _diverged_baselines(group.standard, group.efficient),
        **_calibrated(group.cell, first.split),
        **_training_beside(first, group.standard),
        "reasons": _reasons(
            speedup, gain, *(study.relative[p.key][0] for p in (*group.ours, *group.oracle))
        ),
    }


def _reasons(*estimates: Estimate) -> list[str]:
    """Why they are not known, each reason once."""
    return list(dict.fromkeys(one.reason for one in estimates if one.reason))


def _point(point: Measured, group: Group, study: Everything) -> Columns:
    """What exits.json says of one point."""
    time, joules = study.relative[point.key]
    return {
        **{
            "point": point.name,
            **{name: point.cell[name] for name in ("cell", "model", "exit_kind", "exit_layers")},
        },
        **{
            "rule": point.rule,
            "value": point.value,
            "split": point.split,
            "batch_size": point.batch_size,
        },
        **{name: point.facts[name] for name in (*FROM_SCORES, *FROM_INFERENCE)},
        "seconds_per_example": point.seconds_per_example,
        **time.columns("relative_time"),
        **{name: point.facts[name] for name in ENERGY},
        "relative_time_across": study.across[point.key],
        "machine": dict(point.machine),
        "relative_joules": joules,
        "calibration_accuracy": _calibration_accuracy(point, group.cell, study.points),
    }


def _relative(
    point: Measured, standard: Measured | None, settings: Settings
) -> tuple[Estimate, float | None]:
    """Time and joules over the standard's."""
    if standard is None:
        return Estimate(reason=NO_STANDARD), None
    joules, of_standard = (one.facts["joules_per_example"] for one in (point, standard))
    return relative_time(
        point, standard, settings
    ), joules / of_standard if joules and of_standard else None


def _relative_flags(point: Measured, standard: Measured | None) -> str | None:
    """The flags of both energies of a ratio."""
    return flags.joined(
        flag for one in (point, standard) if one for flag in one.facts["energy_flags"]
    )


def _across(point: Measured, standard: Measured | None) -> str | None:
    """Say in what the machine that measured a point was another one than its standard's."""
    return None if standard is None else unlike_machines(point.machine, standard.machine)


def _speedup_across(group: Group, study: Everything) -> str | None:
    """Say in what the machines of the points that a speed-up is chosen from differ from the standard's."""
    said = [words for point in group.chosen if (words := study.across[point.key])]
    return ", ".join(dict.fromkeys(word for words in said for word in words.split(", "))) or None


def _efficient_across(group: Group) -> str | None:
    """Say in what the machines of the efficient baselines differ from those of the points set beside them."""
    pairs = ((one, other) for one in group.ours for other in group.efficient)
    said = [words for one, other in pairs if (words := unlike_machines(one.machine, other.machine))]
    return ", ".join(dict.fromkeys(word for words in said for word in words.split(", "))) or None


def _diverged_baselines(standard: Measured | None, efficient: Sequence[Measured]) -> str | None:
    """Name the kinds of baselines of which a training diverged; None where none did."""
    baselines = [*([standard] if standard else []), *efficient]
    return " ".join(dict.fromkeys(one.kind for one in baselines if diverged(one.cell))) or None


def _speedup(group: Group, settings: Settings) -> Estimate:
    if group.standard is None:
        return Estimate(reason=NO_STANDARD)
    ours = _same_examples(group.chosen, group.standard)
    if not ours:
        return Estimate(
            reason="no threshold or patience was measured on the standard baseline's examples"
        )
    return speedup_at_equal_accuracy(Draws.of([group.standard, *ours], settings), settings)


def _gain(group: Group, settings: Settings) -> Estimate:
    if not group.efficient:
        return Estimate(reason=NO_EFFICIENT)
    efficient = _same_examples(group.efficient, group.first)
    ours = _same_examples(group.ours, group.first)
    if not (efficient and ours):
        return Estimate(
            reason="no efficient baseline was measured on the examples of the model with exits"
        )
    return accuracy_over_efficient(
        Draws.of([*efficient, *ours], settings), len(efficient), settings
    )


def _same_examples(points: Sequence[Measured], other: Measured) -> list[Measured]:
    return [point for point in points if point.in_order(other.ids)]


def _calibration_accuracy(
    point: Measured, ours: CellResults, points: Sequence[Measured]
) -> float | None:
    """Accuracy on the split that the temperatures were fitted on: from recorded logits, or from a point there."""
    if point.cell["cell"] == ours.cell["cell"]:
        return _recorded_accuracy(_rule(point), ours)
    split = ours.calibration["split"]
    recorded = ours.recorded.get(split)
    there = (one for one in points if one.cell["cell"] == point.cell["cell"] and one.split == split)
    # Of other examples it could not be set beside ours.
    return next(
        (one.accuracy for one in there if recorded and set(one.ids) == set(recorded.ids)), None
    )


def _rule(point: Measured) -> Rule:
    if point.rule == LAST:
        return None
    return {point.rule: True if point.value is None else point.value}


def _recorded_accuracy(rule: Rule, cell: CellResults) -> float | None:
    """What an exit rule gives on the calibration split; None if no logits of it are recorded."""
    recorded = cell.recorded.get(cell.calibration["split"])
    if recorded is None:
        return None
    _, predicted, _ = leave(recorded.logits, cell.calibration["temperatures"], rule, recorded.gold)
    return 100 * float((predicted == recorded.gold).mean())


def _calibrated(cell: CellResults, split: str) -> Columns:
    found = cell.calibration.get("mean", {}).get(split, {})
    return {name: found.get(name) for name in ECE}


def _train_time(point: Measured, standard: Measured | None) -> float | None:
    """Seconds of the training steps per sample, over the standard's."""
    return point.train_seconds_per_sample / standard.train_seconds_per_sample if standard else None


def _rows_of(
    cell: CellResults, study: Everything, comparisons: Sequence[Columns]
) -> dict[str, Columns]:
    """The summary's columns of every point of a cell."""
    return {point.name: _row(point, cell, study, comparisons) for point in cell.points}


def _row(
    point: Measured, cell: CellResults, study: Everything, comparisons: Sequence[Columns]
) -> Columns:
    time, joules = study.relative[point.key]
    standard = standard_of(point, study.points)
    return {
        **time.columns("relative_time"),
        "relative_joules": joules,
        "relative_joules_flags": _relative_flags(point, standard) if joules is not None else None,
        "relative_time_across": study.across[point.key],
        "diverged_baselines": _diverged_baselines(
            standard, _baselines(point, study.points, EFFICIENT)
        ),
        **_of_group(point, comparisons),
        **_calibrated(cell, point.split),
        **_training_beside(point, standard),
    }


def _training_beside(point: Measured, standard: Measured | None) -> Columns:
    """A cell's training beside the standard's: its time, and in what the machine was another one."""
    across = None if standard is None else unlike_machines(point.trained_on, standard.trained_on)
    return {"train_time_over_standard": _train_time(point, standard), "train_time_across": across}


def _of_group(point: Measured, comparisons: Sequence[Columns]) -> Columns:
    """What holds for all points of a cell at a batch size, repeated on those whose rule a user sets."""
    names = [
        f"{name}{end}"
        for name in ("speedup_at_equal_accuracy", "accuracy_over_efficient")
        for end in ("", "_ci_low", "_ci_high")
    ]
    names += ["speedup_across", "efficient_across"]
    own = {"cell": point.cell["cell"], "split": point.split, "batch_size": point.batch_size}
    found = (one for one in comparisons if point.rule in CHOSEN and own.items() <= one.items())
    group = next(found, {})
    return {name: group.get(name) for name in names}
