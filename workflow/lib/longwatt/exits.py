"""Use a model with early exits: choose its threshold from a study's results, and load it in plain Python.

python -m longwatt.exits choose --study NAME --max-drop 0.5
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longwatt import command_line
from longwatt.cells import CELL_PATTERN
from longwatt.differences import unlike_machines
from longwatt.endings import DIVERGED
from longwatt.provenance import read_object
from longwatt.spelling import nearest
from longwatt.study import StudyError, parse_changes
from longwatt.wording import NA, beside_energy, interval

if TYPE_CHECKING:
    from longwatt.models.exit_model import ExitClassifier

Comparison = Mapping[
    str, Any
]  # one of exits.json's: a cell with exits on one split at one batch size
Point = Mapping[str, Any]


class NothingFits(ValueError):
    """No exit rule meets what was asked for, or nothing could be looked at; says which comes nearest."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for: exactly one is given.

    Attributes:
        max_drop: points of accuracy that may be lost.
        min_speedup: how many times as fast as the standard baseline.
        max_joules: per example.
    """

    max_drop: float | None = None
    min_speedup: float | None = None
    max_joules: float | None = None


def load_classifier(
    folder: Path | str, device: str = "cpu", temperatures: Sequence[float] | None = None
) -> ExitClassifier:
    """Load a trained model with exits, to be used as `load_classifier(folder).predict(texts, threshold=0.9)`.

    Args:
        folder: results/{study}/{cell}/calibrate/model.
        device: "cpu", "cuda" or "cuda:1".
        temperatures: one per exit, instead of the folder's.
    """
    # torch is needed only here.
    from longwatt.models.exit_model import ExitClassifier

    return ExitClassifier.load(folder, device, temperatures)


def read_comparisons(results: Path, study: str) -> list[Comparison]:
    """What a study's exits.json compares.

    Raises:
        NothingFits: there is nothing of this study, it is not finished, or it has no model with exits.
    """
    folder = results / study
    if not folder.is_dir():
        known = sorted(path.name for path in results.glob("*/") if path.is_dir())
        raise NothingFits(
            f"{folder} does not exist{nearest(study, known)}; run the study first, or name another"
        )
    found = read_object(folder / "exits" / "exits.json").get("comparisons")
    if found:
        return list(found)
    raise NothingFits(_why_none(folder))


def check_current(folder: Path, changes: Mapping[str, Any]) -> str | None:
    """Refuse to choose from results that other settings or code made, or from others than those that are there.

    Args:
        folder: results/{study}.
        changes: of the machine's configuration, as given to Snakemake by `--config`.

    Returns:
        What is not known, should the study's file not be here.

    Raises:
        NothingFits: names the artefacts, and what to do.
        longwatt.study.StudyError: the study or the configuration is wrong.
    """
    # What a study says is needed only here, and not to load a model.
    from longwatt.in_force import find
    from longwatt.outdated import Files, message, outdated

    current, compared = find(folder, changes), folder / "exits" / "exits.json"
    if current is not None:
        jobs = [*current.stages.before_summary(), current.stages.compare_exits()]
        if found := outdated(current, folder, jobs):
            raise NothingFits(message(folder.name, found))
        return None
    if other := Files(folder).other_origin(compared):
        raise NothingFits(
            f"{compared} was made from another {other} than is there; run the study again"
        )
    return f"studies/{folder.name}.yaml is not here, so whether these are results of its settings is not known"


def _why_none(folder: Path) -> str:
    trained = folder.glob(
        "/".join("*" for _ in CELL_PATTERN.split("/")) + "/finetune/training.json"
    )
    kinds = {read_object(path).get("exit_kind") for path in trained}
    if (folder / "summary.csv").exists() and "early_exit" not in kinds:
        return f"{folder} has no model with exits, so there is no threshold to choose"
    return f"{folder} has no exits/exits.json yet: run the study to its end first"


def held_out(comparisons: Sequence[Comparison], batch_size: int) -> list[Comparison]:
    """One comparison per cell at a batch size, on a split that temperatures were not fitted on where there is one.

    Raises:
        NothingFits: nothing was measured at this batch size.
    """
    there = [one for one in comparisons if one["batch_size"] == batch_size]
    if not there:
        sizes = sorted({one["batch_size"] for one in comparisons})
        raise NothingFits(
            f"nothing was measured at batch size {batch_size}; there is {', '.join(map(str, sizes))}"
        )
    by_cell: dict[str, Comparison] = {}
    for one in sorted(there, key=lambda one: one["split"] == one["calibration_split"]):
        by_cell.setdefault(one["cell"], one)
    return list(by_cell.values())


def choose(comparison: Comparison, wanted: Wanted) -> Point:
    """The measured point that meets what was asked for.

    With `max_drop` the fastest whose accuracy on the calibration split is at most so far below the reference's there;
    with the others the most accurate there that is as fast, or takes as little.

    Raises:
        NothingFits: none does; names the nearest.
    """
    # A rule with a value is one that a user sets.
    points = [
        one
        for one in comparison["points"]
        if None not in (one["value"], one["calibration_accuracy"])
    ]
    if not points:
        raise NothingFits(
            "no threshold or patience was measured, or no logits of the calibration split are recorded"
        )
    if wanted.max_drop is not None:
        return _fastest(comparison, points, wanted.max_drop)
    if wanted.min_speedup is not None:
        asked = f"is {wanted.min_speedup:g} times as fast"
        return _best(points, lambda one: speedup(comparison, one), wanted.min_speedup, asked)
    assert wanted.max_joules is not None, "one of the three is asked for"
    asked = f"takes at most {wanted.max_joules:g} joules per example"
    return _best(points, lambda one: one["joules_per_example"], wanted.max_joules, asked, better=-1)


def speedup(comparison: Comparison, point: Point) -> float | None:
    """How many times as fast as the standard baseline, or without one as the model's own last classifier."""
    if point["relative_time"] is not None:
        return float(1 / point["relative_time"])
    last = last_of(comparison)
    return (
        None if last is None else float(last["seconds_per_example"] / point["seconds_per_example"])
    )


def last_of(comparison: Comparison) -> Point | None:
    """Find the point of a model at which its last classifier answers all examples."""
    return next((one for one in comparison["points"] if one["rule"] == "last"), None)


def reference(comparison: Comparison) -> tuple[float | None, str]:
    """The accuracy on the calibration split that a drop is counted from, and whose it is."""
    standard = (comparison["standard"] or {}).get("calibration_accuracy")
    if standard is not None:
        return standard, f"the standard baseline's{_lost(comparison)}"
    missing = "was not measured there" if comparison["standard"] else "is not in the study"
    return comparison[
        "last_calibration_accuracy"
    ], f"its own last classifier's (a standard baseline {missing})"


def _fastest(comparison: Comparison, points: Sequence[Point], most: float) -> Point:
    whole, whose = reference(comparison)
    assert whole is not None, "the points' own accuracies are from the same logits"
    drops = [(whole - one["calibration_accuracy"], one) for one in points]
    # Drops are differences of percentages, so 0.5 may be 0.5000000000000001.
    fitting = [one for drop, one in drops if drop <= most + 1e-9]
    if fitting:
        return min(
            fitting, key=lambda one: (one["seconds_per_example"], -one["calibration_accuracy"])
        )
    drop, closest = min(drops, key=lambda pair: pair[0])
    raise NothingFits(
        f"no exit rule stays within {most:g} points of {whose} accuracy; nearest is {said(closest)}, "
        f"{drop:.2f} points below"
    )


def _best(
    points: Sequence[Point],
    measure: Callable[[Point], float | None],
    bound: float,
    asked: str,
    better: int = 1,
) -> Point:
    """The most accurate whose measure is at least (`better` -1: at most) the bound."""
    known = [(value, one) for one in points if (value := measure(one)) is not None]
    if not known:
        raise NothingFits(
            f"it is not known of any exit rule whether it {asked}: that was not measured"
        )
    fitting = [one for value, one in known if better * (value - bound) >= 0]
    if fitting:
        return max(
            fitting, key=lambda one: (one["calibration_accuracy"], -one["seconds_per_example"])
        )
    value, closest = max(known, key=lambda pair: better * pair[0])
    raise NothingFits(f"no exit rule {asked}; nearest is {said(closest)} with {value:.3g}")


def said(point: Point) -> str:
    """An exit rule as it is written: threshold 0.9."""
    return f"{point['rule']} {point['value']:g}"


def page(comparison: Comparison, point: Point, folder: Path) -> str:
    """What is printed of a choice.

    Args:
        comparison: which it is made from.
        point: chosen.
        folder: results/{study}.
    """
    lines = {
        "use": said(point),
        "accuracy": _accuracy(comparison, point),
        "speed-up": _speed(comparison, point),
        "time": f"{1000 * point['seconds_per_example']:.3g} ms per example at batch size {point['batch_size']}",
        "energy": _energy(point),
        "layers": f"{point['mean_layers']:.2f} of {comparison['encoder_layers']} on average",
        "chosen on": _chosen_on(comparison, point),
        "measured on": _measured_on(comparison),
        "in brackets": f"{comparison['confidence']:.0%} intervals",
    }
    model = folder / comparison["cell"] / "calibrate" / "model"
    return "\n".join(
        [
            comparison["cell"] + (f" ({DIVERGED})" if comparison.get("diverged") else ""),
            *(f"  {name:<12} {text}" for name, text in lines.items()),
            "",
            "    from longwatt.exits import load_classifier",
            f"    classifier = load_classifier({str(model)!r})",
            f'    print(classifier.predict(["a text"], {point["rule"]}={point["value"]:g}))',
            "",
        ]
    )


def _accuracy(comparison: Comparison, point: Point) -> str:
    ends = _range(point["accuracy_ci_low"], point["accuracy_ci_high"], 1)
    standard = comparison["standard"]
    beside = (
        f"; the standard baseline has {standard['accuracy']:.1f} %{_lost(comparison)}"
        if standard
        else ""
    )
    return f"{point['accuracy']:.1f} %{ends} of {point['examples']} examples{beside}"


def _speed(comparison: Comparison, point: Point) -> str:
    value = speedup(comparison, point)
    if value is None:
        return f"{NA}: neither a standard baseline nor the last classifier was timed"
    if point["relative_time"] is None:
        own = f"{value:.2f} times its own last classifier's speed (the study has no standard baseline)"
        return own + _elsewhere(
            unlike_machines(_machine(point), _machine(last_of(comparison))), "the last classifier"
        )
    low, high = (
        end and 1 / end for end in (point["relative_time_ci_high"], point["relative_time_ci_low"])
    )
    beside = _elsewhere(point.get("relative_time_across"), "the baseline")
    return f"{value:.2f} times the standard baseline's{_range(low, high, 2)}{beside}"


def _lost(comparison: Comparison) -> str:
    """Say behind the standard baseline's number that its training diverged, so that little is needed to equal it."""
    lost = (comparison.get("diverged_baselines") or "").split()
    return f" ({DIVERGED})" if "standard" in lost else ""


def _elsewhere(across: str | None, whose: str) -> str:
    """Say behind a speed-up that its two sides were measured on different machines."""
    return f"; not the model's alone: {whose} was measured with {across}" if across else ""


def _machine(point: Point | None) -> Mapping[str, Any]:
    return (point or {}).get("machine") or {}


def _energy(point: Point) -> str:
    if point["joules_per_example"] is None:
        return f"{NA}: nothing metered it"
    said = beside_energy(not point["energy_measured"], point.get("energy_flags") or ())
    return f"{point['joules_per_example']:.3g} J per example{said}"


def _chosen_on(comparison: Comparison, point: Point) -> str:
    whole, whose = reference(comparison)
    text = (
        f"the split {comparison['calibration_split']}: {point['calibration_accuracy']:.1f} % there"
    )
    return text if whole is None else f"{text}, {whose} is {whole:.1f} %"


def _measured_on(comparison: Comparison) -> str:
    text = f"the split {comparison['split']}"
    if comparison["split"] == comparison["calibration_split"]:
        return f"{text}, which it was also chosen on: expect rather less elsewhere"
    return f"{text}, whose accuracy had no part in the choice"


def _range(low: float | None, high: float | None, digits: int) -> str:
    return "" if low is None or high is None else f" ({interval(low, high, f'.{digits}f')})"


def run(given: argparse.Namespace) -> int:
    """Print a choice for every model with exits that was asked for; 0 if there is any."""
    comparisons: Sequence[Comparison] = read_comparisons(given.results, given.study)
    unknown = check_current(given.results / given.study, parse_changes(given.config))
    for axis in ("dataset", "model"):
        comparisons = _only(comparisons, axis, getattr(given, axis))
    wanted = Wanted(given.max_drop, given.min_speedup, given.max_joules)
    chosen = 0
    for comparison in held_out(comparisons, given.batch_size):
        try:
            print(page(comparison, choose(comparison, wanted), given.results / given.study))
            chosen += 1
        except NothingFits as error:
            print(f"{comparison['cell']}: {error}", file=sys.stderr)
    if chosen and unknown:
        print(unknown, file=sys.stderr)
    return 0 if chosen else 1


def _only(comparisons: Sequence[Comparison], axis: str, name: str | None) -> Sequence[Comparison]:
    if name is None:
        return comparisons
    found = [one for one in comparisons if one[axis] == name]
    if not found:
        known = sorted({one[axis] for one in comparisons})
        raise NothingFits(
            f"the study has no model with exits of the {axis} {name!r}{nearest(name, known)}; it has {', '.join(known)}"
        )
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no number to compare with")
    return value


def _positive(text: str) -> float:
    value = _finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m longwatt.exits", description=__doc__)
    parser.add_argument("command", choices=["choose"], help="print the threshold to use")
    parser.add_argument(
        "--study", required=True, metavar="NAME", help="whose results to choose from"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="the folder that holds them (results)"
    )
    aim = parser.add_mutually_exclusive_group(required=True)
    aim.add_argument(
        "--max-drop",
        type=_finite,
        metavar="POINTS",
        help="of accuracy that may be lost; below 0: gained",
    )
    aim.add_argument(
        "--min-speedup", type=_positive, metavar="X", help="times as fast as the standard baseline"
    )
    aim.add_argument("--max-joules", type=_positive, metavar="J", help="per example")
    parser.add_argument("--dataset", help="only this one")
    parser.add_argument("--model", help="only this one")
    parser.add_argument("--batch-size", type=int, default=1, help="as measured (1)")
    parser.add_argument(
        "--config", nargs="*", default=[], metavar="KEY=VALUE", help="as given to Snakemake"
    )
    try:
        return run(parser.parse_args(arguments))
    except (NothingFits, StudyError) as error:
        print(f"longwatt.exits: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    command_line.run(main)
