"""Choose a model's exit threshold from a study's results.

longwatt exits choose --study NAME --max-drop 0.5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt import command_line
from longwatt.config.documents import parse_changes
from longwatt.config.errors import StudyError
from longwatt.files import read_object
from longwatt.jobs.endings import DIVERGED
from longwatt.layout.wording import NA, beside_energy, interval
from longwatt.provenance.artefacts import Damaged
from longwatt.results import standing
from longwatt.results.differences import unlike_machines
from longwatt.results.standing import NothingFits
from longwatt.spelling import nearest
from longwatt.study.cells import CELL_PATTERN

# One of exits.json's: a cell with exits on one split at one batch size.
ComparedCell = Mapping[str, Any]
ExitPoint = Mapping[str, Any]
UNUSED = "whose accuracy had no part in the choice"


@dataclass(frozen=True)
class Wanted:
    """The aim that was asked for, exactly one of these.

    Attributes:
        max_drop: points of accuracy that may be lost.
        min_speedup: how many times as fast as the standard baseline.
        max_joules: per example.
    """

    max_drop: float | None = None
    min_speedup: float | None = None
    max_joules: float | None = None


def read_comparisons(results: Path, study: str) -> list[ComparedCell]:
    """Read the comparisons of a study's exits.json.

    Raises:
        NothingFits: the study has no results, is not finished, or has no model with exits.
    """
    folder = standing.results_of(results, study)
    if found := read_object(folder / "exits" / "exits.json").get("comparisons"):
        return list(found)
    trained = folder.glob("*/" * (CELL_PATTERN.count("/") + 1) + "finetune/training.json")
    kinds = {read_object(path).get("exit_kind") for path in trained}
    if (folder / "summary.csv").exists() and "early_exit" not in kinds:
        raise NothingFits(f"{folder} has no model with exits, so there is no threshold to choose")
    raise NothingFits(f"{folder} has no exits/exits.json yet: run the study to its end first")


def check_results(folder: Path, changes: Mapping[str, Any]) -> str | None:
    """Refuse to choose from results that the study as it is would not give.

    As `longwatt.results.standing.refuse_outdated`, of exits.json.
    """
    compared = folder / "exits" / "exits.json"
    return standing.refuse_outdated(folder, changes, compared, lambda jobs: jobs.compare_exits())


def held_out(comparisons: Sequence[ComparedCell], batch_size: int) -> list[ComparedCell]:
    """Return one comparison per cell at a batch size.

    Its split is one that temperatures were not fitted on, where there is one.

    Raises:
        NothingFits: nothing was measured at this batch size.
    """
    there = [one for one in comparisons if one["batch_size"] == batch_size]
    if not there:
        sizes = ", ".join(map(str, sorted({one["batch_size"] for one in comparisons})))
        raise NothingFits(f"nothing was measured at batch size {batch_size}; there is {sizes}")
    by_cell: dict[str, ComparedCell] = {}
    for one in sorted(there, key=lambda one: one["split"] == one["calibration_split"]):
        by_cell.setdefault(one["cell"], one)
    return list(by_cell.values())


def choose_point(comparison: ComparedCell, wanted: Wanted) -> ExitPoint:
    """Return the measured point that meets what was asked for.

    With `max_drop` it is the fastest point whose accuracy on the calibration split is at most so
    far below the reference's there. With the others it is the most accurate there that is as fast,
    or takes as little.

    Raises:
        NothingFits: none does. The message names the nearest.
    """
    # A rule with a value is one that a user sets.
    needed = ("value", "calibration_accuracy")
    points = [one for one in comparison["points"] if None not in [one[name] for name in needed]]
    if not points:
        raise NothingFits(
            "no threshold or patience was measured, or no logits of the calibration split are "
            "recorded"
        )
    if wanted.max_drop is not None:
        return _fastest(comparison, points, wanted.max_drop)
    if wanted.min_speedup is not None:
        asked = f"is {wanted.min_speedup:g} times as fast"
        return _best(points, lambda one: speedup(comparison, one), wanted.min_speedup, asked)
    assert wanted.max_joules is not None, "one of the three is asked for"
    asked = f"takes at most {wanted.max_joules:g} joules per example"
    return _best(points, lambda one: one["joules_per_example"], wanted.max_joules, asked, better=-1)


def speedup(comparison: ComparedCell, point: ExitPoint) -> float | None:
    """Return how many times as fast a point is as the standard baseline.

    Without one it is compared with the model's own last classifier.
    """
    if point["relative_time"] is not None:
        return float(1 / point["relative_time"])
    last, seconds = last_of(comparison), point["seconds_per_example"]
    return None if last is None else float(last["seconds_per_example"] / seconds)


def last_of(comparison: ComparedCell) -> ExitPoint | None:
    """Find the point of a model at which its last classifier answers all examples."""
    return next((one for one in comparison["points"] if one["rule"] == "last"), None)


def reference(comparison: ComparedCell) -> tuple[float | None, str]:
    """Return the calibration split's accuracy that drops are counted from, and whose it is."""
    standard = (comparison["standard"] or {}).get("calibration_accuracy")
    if standard is not None:
        return standard, f"the standard baseline's{_lost(comparison)}"
    missing = "was not measured there" if comparison["standard"] else "is not in the study"
    whose = f"its own last classifier's (a standard baseline {missing})"
    return comparison["last_calibration_accuracy"], whose


def _fastest(comparison: ComparedCell, points: Sequence[ExitPoint], most: float) -> ExitPoint:
    whole, whose = reference(comparison)
    assert whole is not None, "the points' own accuracies are from the same logits"
    drops = [(whole - one["calibration_accuracy"], one) for one in points]
    # Drops are differences of percentages, so 0.5 may be 0.5000000000000001.
    fitting = [one for drop, one in drops if drop <= most + 1e-9]
    if fitting:
        return min(fitting, key=lambda p: (p["seconds_per_example"], -p["calibration_accuracy"]))
    drop, closest = min(drops, key=lambda pair: pair[0])
    raise NothingFits(
        f"no exit rule stays within {most:g} points of {whose} accuracy; nearest is "
        f"{point_words(closest)}, {drop:.2f} points below"
    )


def _best(
    points: Sequence[ExitPoint],
    measure: Callable[[ExitPoint], float | None],
    bound: float,
    asked: str,
    better: int = 1,
) -> ExitPoint:
    """Return the most accurate point at or above the bound (`better` -1: below)."""
    known = [(value, one) for one in points if (value := measure(one)) is not None]
    if not known:
        raise NothingFits(
            f"it is not known of any exit rule whether it {asked}: that was not measured"
        )
    fitting = [one for value, one in known if better * (value - bound) >= 0]
    if fitting:
        return max(fitting, key=lambda p: (p["calibration_accuracy"], -p["seconds_per_example"]))
    value, closest = max(known, key=lambda pair: better * pair[0])
    raise NothingFits(f"no exit rule {asked}; nearest is {point_words(closest)} with {value:.3g}")


def point_words(point: ExitPoint) -> str:
    """Write an exit rule: threshold 0.9."""
    return f"{point['rule']} {point['value']:g}"


def choice_page(comparison: ComparedCell, point: ExitPoint, folder: Path) -> str:
    """Return the text that is printed of a choice.

    Args:
        comparison: the choice is made from.
        point: the chosen one.
        folder: results/{study}.
    """
    time = f"{1000 * point['seconds_per_example']:.3g} ms per example"
    there, (whole, whose) = f"{point['calibration_accuracy']:.1f} % there", reference(comparison)
    beside = "" if whole is None else f", {whose} is {whole:.1f} %"
    also = comparison["split"] == comparison["calibration_split"]
    part = "which it was also chosen on: expect rather less elsewhere" if also else UNUSED
    lines = {
        "use": point_words(point),
        "accuracy": _accuracy(comparison, point),
        "speed-up": _speed(comparison, point),
        "time": f"{time} at batch size {point['batch_size']}",
        "energy": _energy(point),
        "layers": f"{point['mean_layers']:.2f} of {comparison['encoder_layers']} on average",
        "chosen on": f"the split {comparison['calibration_split']}: {there}{beside}",
        "measured on": f"the split {comparison['split']}, {part}",
        "in brackets": f"{comparison['confidence']:.0%} intervals",
    }
    model = folder / comparison["cell"] / "calibrate" / "model"
    shown = [
        comparison["cell"] + (f" ({DIVERGED})" if comparison.get("diverged") else ""),
        *(f"  {name:<12} {text}" for name, text in lines.items()),
        "",
        "    from longwatt.exits import load_classifier",
        f"    classifier = load_classifier({str(model)!r})",
        f'    print(classifier.predict(["a text"], {point["rule"]}={point["value"]:g}))',
        "",
    ]
    return "\n".join(shown)


def _accuracy(comparison: ComparedCell, point: ExitPoint) -> str:
    ends = _range(point["accuracy_ci_low"], point["accuracy_ci_high"], 1)
    beside = ""
    if standard := comparison["standard"]:
        beside = f"; the standard baseline has {standard['accuracy']:.1f} %{_lost(comparison)}"
    return f"{point['accuracy']:.1f} %{ends} of {point['examples']} examples{beside}"


def _speed(comparison: ComparedCell, point: ExitPoint) -> str:
    value = speedup(comparison, point)
    if value is None:
        return f"{NA}: neither a standard baseline nor the last classifier was timed"
    if point["relative_time"] is None:
        both = ((one or {}).get("machine") or {} for one in (point, last_of(comparison)))
        beside = _elsewhere(unlike_machines(*both), "the last classifier")
        whose = "its own last classifier's speed (the study has no standard baseline)"
        return f"{value:.2f} times {whose}{beside}"
    ends = (point[f"relative_time_ci_{end}"] for end in ("high", "low"))
    low, high = (end and 1 / end for end in ends)
    beside = _elsewhere(point.get("relative_time_across"), "the baseline")
    return f"{value:.2f} times the standard baseline's{_range(low, high, 2)}{beside}"


def _energy(point: ExitPoint) -> str:
    if point["joules_per_example"] is None:
        return f"{NA}: nothing metered it"
    said = beside_energy(not point["energy_measured"], point.get("energy_flags") or ())
    return f"{point['joules_per_example']:.3g} J per example{said}"


def _lost(comparison: ComparedCell) -> str:
    """Say of the standard baseline if its training diverged: little is needed to equal it."""
    lost = (comparison.get("diverged_baselines") or "").split()
    return f" ({DIVERGED})" if "standard" in lost else ""


def _elsewhere(across: str | None, whose: str) -> str:
    """Say behind a speed-up if its two sides were measured on different machines."""
    return f"; not the model's alone: {whose} was measured with {across}" if across else ""


def _range(low: float | None, high: float | None, digits: int) -> str:
    return "" if low is None or high is None else f" ({interval(low, high, f'.{digits}f')})"


def run_choice(given: argparse.Namespace) -> int:
    """Print a choice for every model with exits that was asked for.

    Returns:
        0 if there is any, else 1.
    """
    comparisons: Sequence[ComparedCell] = read_comparisons(given.results, given.study)
    folder = given.results / given.study
    unknown = check_results(folder, parse_changes(given.config))
    for axis in ("dataset", "model"):
        comparisons = _only(comparisons, axis, getattr(given, axis))
    wanted = Wanted(given.max_drop, given.min_speedup, given.max_joules)
    chosen = 0
    for comparison in held_out(comparisons, given.batch_size):
        try:
            print(choice_page(comparison, choose_point(comparison, wanted), folder))
            chosen += 1
        except NothingFits as error:
            print(f"{comparison['cell']}: {error}", file=sys.stderr)
    if chosen and unknown:
        print(unknown, file=sys.stderr)
    return 0 if chosen else 1


def _only(
    comparisons: Sequence[ComparedCell], axis: str, name: str | None
) -> Sequence[ComparedCell]:
    if name is None:
        return comparisons
    found = [one for one in comparisons if one[axis] == name]
    if not found:
        known = sorted({one[axis] for one in comparisons})
        raise NothingFits(
            f"the study has no model with exits of the {axis} {name!r}{nearest(name, known)}; "
            f"it has {', '.join(known)}"
        )
    return found


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(prog="longwatt exits", description=__doc__)
    add, shown = made.add_argument, "the folder that holds them (results)"
    add("command", choices=["choose"], help="print the threshold to use")
    add("--study", required=True, metavar="NAME", help="whose results to choose from")
    add("--results", type=Path, default=Path("results"), help=shown)
    aim = made.add_mutually_exclusive_group(required=True).add_argument
    lost = "of accuracy that may be lost; below 0: gained"
    aim("--max-drop", type=command_line.finite, metavar="POINTS", help=lost)
    aim(
        "--min-speedup",
        type=command_line.positive_number,
        metavar="X",
        help="times as fast as the standard baseline",
    )
    aim("--max-joules", type=command_line.positive_number, metavar="J", help="per example")
    add("--dataset", help="only this one")
    add("--model", help="only this one")
    add("--batch-size", type=int, default=1, help="as measured (1)")
    add("--config", nargs="*", default=[], metavar="KEY=VALUE", help="as given to Snakemake")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        return run_choice(parser().parse_args(arguments))
    except (NothingFits, StudyError, Damaged) as error:
        print(f"longwatt.exits: {error}", file=sys.stderr)
        return 1
