"""Choose which cell to take, from a study's results or from a CSV of others.

longwatt choose --study NAME --min-score 45
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from longwatt.answer.break_even import BreakEven, break_even_table
from longwatt.answer.choice import Choice, Limits, choose_each
from longwatt.answer.facts import answer_facts
from longwatt.answer.imported import UnreadableResults, read_imported
from longwatt.answer.measured import read_points
from longwatt.answer.page import write_answer_page
from longwatt.answer.points import AnswerPoint, PointTitles, main_fields, point_titles
from longwatt.answer.words import choice_words, front_points
from longwatt.command_line import finite, positive_number
from longwatt.config.documents import parse_changes
from longwatt.config.errors import StudyError
from longwatt.disk_space import DISK_FULL
from longwatt.freshness.in_force import MACHINE_FILE, asked_study, find
from longwatt.metrics.resampling import FULL_SCORE, Resampling
from longwatt.provenance.artefacts import Damaged
from longwatt.results.standing import NothingFits, refuse_outdated, results_of
from longwatt.spelling import nearest
from longwatt.study.reported.report_settings import answered
from longwatt.study.settings import ANSWER_DEFAULTS, SCORING_DEFAULTS

MOST_COMPARED = 8  # cells in the table of break-even requests
WIDTH = 96  # of what is printed
MOST_REQUESTS = 10**15  # more than anyone will ask for, and few enough to print
NONE_COMPARED = (
    "no cell has every example's scores (examples.csv) of a training that did not diverge; run the "
    "study again"
)
SIDES = ("first", "second")
TABLE_WORDS = (
    "Every two cells on the front: the requests after which both have taken as much energy, and "
    "which of the two takes less before and after."
)


def run_choose(given: argparse.Namespace) -> int:
    """Print a choice for every dataset that was asked for.

    Returns:
        0 if there is one for each dataset, else 1.
    """
    if given.page and given.page.is_dir():
        raise NothingFits(
            f"the page {given.page} cannot be written, a folder has its name; name a file"
        )
    points, settings, doubts = _read(given)
    for axis in ("dataset", "model"):
        points = _only(points, axis, getattr(given, axis))
    requests = settings["requests"] if given.requests is None else given.requests
    limits = Limits(
        given.min_score, given.max_kwh, given.max_ms, given.max_gib, given.max_cost, requests
    )
    how = Resampling.of(settings["scoring"])
    compared = main_fields(points)
    if not compared:
        raise NothingFits(NONE_COMPARED)
    lost = sorted({point.dataset for point in points} - set(compared))
    for doubt in [*doubts, *(f"{name}: {NONE_COMPARED}" for name in lost)]:
        print(doubt, file=sys.stderr)
    if given.page:
        # Limits are set on the page itself.
        whole = answer_facts(points, settings, Limits(requests=requests), how)
        _write_page(whole, given.page)
        print(f"the page is {given.page}", file=sys.stderr)
    if given.json:
        facts = answer_facts(points, settings, limits, how)
        print(json.dumps(facts, indent=1))
        found = all(one["chosen"] for one in facts["recommendations"].values())
        return 0 if found and not lost else 1
    chosen = list(choose_each(points, limits, how).values())
    titles = point_titles(points, settings["titles"])
    for choice in chosen:
        print(choice_text(choice, titles, settings, how))
    return 0 if all(choice.chosen for choice in chosen) and not lost else 1


def _write_page(facts: Mapping[str, Any], page: Path) -> None:
    try:
        write_answer_page(facts, page)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        said = f"the page {page} cannot be written ({error.strerror}); name another file"
        raise NothingFits(said) from None


def choice_text(
    choice: Choice, titles: PointTitles, settings: Mapping[str, Any], how: Resampling
) -> str:
    """Return the text that is printed of one dataset's choice."""
    dataset = choice.points[0].dataset
    heading = settings["titles"].get(dataset, dataset)
    said = [*choice_words(choice, titles, how, settings["currency"])]
    table: list[str] = []
    if choice.chosen:
        said += [f"Its cell: {', '.join(choice.chosen.cells)}"] if choice.chosen.cells else []
        said += _exits(choice.chosen, settings)
        words, *table = break_even_lines(choice, titles) or [""]
        said += [words] if words else []
    wrapped: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
    wrapped |= {"initial_indent": "  ", "subsequent_indent": "    "}
    lines = [textwrap.fill(one, WIDTH, **wrapped) for one in said]
    return "\n".join([heading, *lines, *table, ""])


def break_even_lines(choice: Choice, titles: PointTitles) -> list[str]:
    """Tabulate after how many requests two cells have taken as much, on the front."""
    shown = front_points(choice)[:MOST_COMPARED]
    table = break_even_table(shown)
    if not table:
        return []
    rows = [_even_row(even, (titles[one.id], titles[other.id])) for one, other, even in table]
    head = ("first", "second", "break-even", "before", "after")
    shown = tabulate(rows, head, disable_numparse=True, colalign=("left", "left", "right"))
    return [TABLE_WORDS, *(f"    {row}".rstrip() for row in shown.splitlines())]


def _even_row(even: BreakEven, names: tuple[str, str]) -> list[str]:
    less = ["both" if place is None else SIDES[place] for place in (even.few, even.many)]
    requests = "none" if even.requests is None else f"{even.requests:,.0f}"
    return [*names, requests, *less]


def _exits(point: AnswerPoint, settings: Mapping[str, Any]) -> list[str]:
    """Point to the other command where examples leave a model early."""
    if point.exit_rule is None:
        return []
    command = f"longwatt exits choose --study {settings['study']} --model {point.model}"
    return [f"Examples leave it early; `{command}` chooses among its thresholds alone."]


Read = tuple[list[AnswerPoint], dict[str, Any], list[str]]


def _read(given: argparse.Namespace) -> Read:
    """Read the points of a study or of a CSV, and the settings beside them."""
    if given.csv is not None:
        points = read_imported(given.csv)
        if given.seeds:
            raise NothingFits("--seeds chooses among a study's trainings, and --csv has none")
        name = given.csv.name
        settings = {"study": given.csv.stem, "title": name, "titles": dict[str, str]()}
        return points, {**settings, **_defaults()}, []
    given.study = _study_of(given)
    folder = results_of(given.results, given.study)
    if not (folder / "summary.csv").is_file():
        raise NothingFits(f"{folder} has no summary.csv yet: run the study to its end first")
    changes = parse_changes(given.config)
    made = folder / "summary.json"
    doubt = refuse_outdated(folder, changes, made, lambda stages: stages.summarize())
    current = find(folder, changes)
    settings = {"study": given.study, "title": given.study, "titles": dict[str, str]()}
    settings |= _defaults()
    if current is not None:
        stages = current.stages
        prices = stages.machine.get("prices") or {}
        settings = answered(stages.study_id, stages.study, prices.get("currency"))
    points = read_points(folder, Resampling.of(settings["scoring"]), seeds=tuple(given.seeds))
    missing = set(given.seeds) - {seed for point in points for seed in point.seeds}
    if missing:
        raise NothingFits(
            f"no cell of {given.study} has the seeds {sorted(missing)}; leave them out"
        )
    if not points:
        raise NothingFits(
            f"no cell of {given.study} has a score yet: run the study to its end first"
        )
    return points, settings, [doubt] if doubt else []


def _study_of(given: argparse.Namespace) -> str:
    """Return the study that was asked for, or that config.yaml names."""
    named = given.study or "study" in parse_changes(given.config)
    if not named and not Path(MACHINE_FILE).is_file():
        raise NothingFits(
            f"this folder has no {MACHINE_FILE} that names a study; give --study NAME, or go to "
            "the folder that holds its results/"
        )
    return asked_study(given.study, given.config)


def _defaults() -> dict[str, Any]:
    return {"scoring": SCORING_DEFAULTS, "currency": None, **ANSWER_DEFAULTS}


def _only(points: Sequence[AnswerPoint], axis: str, name: str | None) -> list[AnswerPoint]:
    """Keep the points of one dataset or model, or refuse a name that none has."""
    kept = [point for point in points if name in (None, getattr(point, axis))]
    if not kept:
        known = sorted({str(getattr(point, axis)) for point in points})
        raise NothingFits(
            f"there is no {axis} {name!r}{nearest(str(name), known)}; there are {', '.join(known)}"
        )
    return kept


def _score(text: str) -> float:
    value = finite(text)
    if not 0 <= value <= FULL_SCORE:
        raise argparse.ArgumentTypeError(f"{text} is no score; scores are from 0 to 100")
    return value


def _requests(text: str) -> float:
    value = finite(text)
    if not 0 <= value <= MOST_REQUESTS or value != int(value):
        raise argparse.ArgumentTypeError(
            f"{text} is no number of requests; give a whole one from 0 to {MOST_REQUESTS:g}"
        )
    return value


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="longwatt choose", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    source = made.add_mutually_exclusive_group().add_argument
    source("--study", metavar="NAME", help="whose results to choose from (config.yaml's)")
    source("--csv", type=Path, metavar="FILE", help="results of other programs to choose from")
    add("--results", type=Path, default=Path("results"), help="the folder of all results (results)")
    add("--dataset", help="only this one (all)")
    add("--model", help="only this one (all)")
    add("--seeds", type=int, nargs="+", default=[], metavar="SEED", help="only these trainings")
    add("--min-score", type=_score, metavar="SCORE", help="0 to 100; held with a margin")
    add("--max-kwh", type=positive_number, metavar="KWH", help="for training and all requests")
    add("--max-ms", type=positive_number, metavar="MS", help="for a request, in measured batches")
    add("--max-gib", type=positive_number, metavar="GIB", help="peak memory of training")
    add("--max-cost", type=positive_number, metavar="MONEY", help="for training and all requests")
    add("--requests", type=_requests, metavar="N", help="in the model's life (the study's)")
    add("--config", nargs="*", default=[], metavar="KEY=VALUE", help="as given to Snakemake")
    add("--page", type=Path, metavar="FILE", help="write the page that shows all cells too")
    add("--json", action="store_true", help="print what answer.json holds")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        return run_choose(parser().parse_args(arguments))
    except (NothingFits, StudyError, UnreadableResults, Damaged) as error:
        print(f"longwatt choose: {error}", file=sys.stderr)
        return 1
