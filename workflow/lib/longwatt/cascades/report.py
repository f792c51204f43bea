"""Write all cascades of a study's finished cells: curves, figures, and whether they pay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from longwatt.cascades.audit import (
    BY_CHANCE,
    DOES_NOT,
    PAYS,
    agreement_facts,
    cascade_cost,
    curves_of,
    pair_facts,
    single_facts,
)
from longwatt.cascades.figures import cascade_drawings
from longwatt.cascades.members import CascadeError
from longwatt.cascades.points import (
    AnsweredPoint,
    CascadeGroup,
    Member,
    groups_of,
    read_point,
)
from longwatt.cascades.real import run_facts
from longwatt.cascades.words import Words
from longwatt.freshness.outdated import Stamps
from longwatt.layout import drawing
from longwatt.layout.pages import Labelled, PagePart, Picture, Section, Table, write_page
from longwatt.layout.wording import number, percent, random_weights
from longwatt.metrics.resampling import Resampling
from longwatt.progress import say
from longwatt.provenance.stamps import write_json
from longwatt.results.status import up_to_date_rows
from longwatt.results.summary import write_csv

CASCADES_FOLDER = "cascades"  # below results/{study}
CURVE_POINTS = 101  # most of one curve that are written and drawn
SHOWN_CASCADES = 20  # most cascades of a table; all are in cascades.json
CASCADE_CURVE = (
    "group", "kind", "first", "last", "threshold", "escalation_rate", "score", "cost", "unit",
)  # fmt: skip
MARKS = {PAYS: "good", DOES_NOT: "bad", BY_CHANCE: "open"}
NO_CASCADE = (
    "No two finished cells answered the same examples alone, so no cascade can be computed. It "
    "takes two cells of one dataset and seed that generate texts or tell labels apart."
)
COST_FORMULA = (
    "A cascade's request costs that of its first cell, and at the rate of escalation that of its "
    "last. The oracle knows which examples the last cell answers better: no threshold does."
)

CascadeSettings = Mapping[str, Any]


def write_cascades(
    results: Path, settings: CascadeSettings, stamps: Stamps, provenance: Mapping[str, Any]
) -> None:
    """Write results/{study}/cascades, and say on the terminal which cascades pay.

    Files: cascades.json, curve.csv, cascades.md and .html, and a figure for each group of cells.

    Args:
        results: results/{study}.
        settings: as `longwatt.study.stages.Stages.cascade_settings`.
        stamps: the digests in force; results of others do not count.
        provenance: the stamp of cascades.json.
    """
    done = up_to_date_rows(results, settings["rows"], stamps)
    finished = {(row["cell"], row["inference"]) for row in done}
    known = (one for one in settings["points"] if (one["cell"], one["inference"]) in finished)
    points = [read_point(results, one) for one in known]
    groups = groups_of(points)
    facts = {key: group_facts(one, settings) for key, one in _named(groups)}
    names = cell_names(settings)
    folder = results / CASCADES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    curve = curve_table(dict(_named(groups)))
    write_csv(folder / "curve.csv", curve)
    drawings = cascade_drawings(facts, curve, names, settings["titles"])
    digests = drawing.save_all(drawings, folder)
    write_page(folder / CASCADES_FOLDER, "Cascades", cascade_sections(facts, names, settings))
    written = {"groups": facts, "sha256": digests, "provenance": provenance}
    write_json(folder / f"{CASCADES_FOLDER}.json", written)
    for line in [*cascade_lines(facts, names, settings), *unjoined_lines(points, groups)]:
        say(line)
    say(f"all cascades are in {folder}: cascades.html, cascades.md, cascades.json, curve.csv")


def _named(groups: Sequence[CascadeGroup]) -> Iterator[tuple[str, CascadeGroup]]:
    """Yield groups with a name that files can have."""
    for group in groups:
        common = group.common
        parts = (common["dataset"], f"seed{common['seed']}", common["kind"])
        yield "-".join(parts), group


def cell_names(settings: CascadeSettings) -> dict[str, str]:
    """Name cells by what tells those of a study apart."""
    rows, titles = settings["points"], settings["titles"]
    several = {axis: len({row[axis] for row in rows}) > 1 for axis in ("model", "budget")}
    found = {}
    for row in rows:
        shown = [titles.get(row[axis], row[axis]) for axis in ("model", "budget") if several[axis]]
        length = f"{row['seq_len']} tokens"
        found[row["cell"]] = ", ".join([*shown, length])
    return found


def group_facts(group: CascadeGroup, settings: CascadeSettings) -> dict[str, Any]:
    """Compute all cascades of a group, and choose one on the examples of fitting."""
    how, keep = Resampling.of(settings["scoring"]), float(settings["keep_score"])
    singles = single_facts(group, how)
    pairs = [_pair(group, pair, singles, keep, how) for pair in _pairs(group.members)]
    known = [pair for pair in pairs if "missing" not in pair]
    three = itertools.combinations(group.members, 3)
    agreements = [agreement_facts(group.unit, one, singles, keep, how) for one in three]
    return {
        **group.common,
        "unit": group.unit,
        "estimated": group.estimated,
        "across": group.across,
        "fitted_on": group.splits[0],
        "stated_on": group.splits[1],
        "halved": group.halved,
        "examples": len(group.members[0].stated.answers),
        "score_name": group.members[0].stated.score_name,
        "keep_score": keep,
        "singles": singles,
        "pairs": pairs,
        "agreements": agreements,
        "chosen": cheapest_that_keeps(known, singles, keep),
        "run": [run_facts(group, point) for point in group.cascades],
    }


def _pairs(members: Sequence[Member]) -> Iterator[tuple[Member, Member]]:
    """Yield the pairs of members, the cheaper first."""
    return itertools.combinations(members, 2)


def _pair(
    group: CascadeGroup,
    pair: tuple[Member, Member],
    singles: Sequence[Mapping[str, Any]],
    keep: float,
    how: Resampling,
) -> dict[str, Any]:
    try:
        return pair_facts(group.unit, pair, singles, keep, how)
    except CascadeError as error:
        first, last = (one.point.cell for one in pair)
        return {"first": first, "last": last, "missing": str(error)}


def cheapest_that_keeps(
    pairs: Sequence[Mapping[str, Any]], singles: Sequence[Mapping[str, Any]], keep: float
) -> int | None:
    """Choose the cheapest cascade that keeps the best cell's score where it was fitted.

    Returns:
        Its place among the pairs, or None where none keeps it.
    """
    best = max(one["fitted_score"] for one in singles)
    good = [place for place, one in enumerate(pairs) if one["fitted"]["score"] >= keep * best]
    return min(good, key=lambda place: pairs[place]["fitted"]["cost"], default=None)


def curve_table(groups: Mapping[str, CascadeGroup]) -> pd.DataFrame:
    """Return score and cost of single cells, cascades and oracles, stated on other examples."""
    rows: list[tuple[Any, ...]] = []
    for key, group in groups.items():
        for one in group.members:
            alone = (None, None, one.stated.sample.value, one.point.cost(group.unit), group.unit)
            rows.append((key, "single", one.point.cell, None, *alone))
        for pair in _pairs(group.members):
            rows += _curve_rows(key, group.unit, pair)
    return pd.DataFrame(rows, columns=list(CASCADE_CURVE), dtype=object)


def _curve_rows(key: str, unit: str, pair: tuple[Member, Member]) -> Iterator[tuple[Any, ...]]:
    first, last = pair
    costs = first.point.cost(unit), last.point.cost(unit)
    try:
        curves = curves_of(first, last)
    except CascadeError:
        return
    for kind, curve in zip(("cascade", "oracle"), curves, strict=True):
        places = np.unique(np.linspace(0, len(curve.rates) - 1, CURVE_POINTS).round().astype(int))
        for place in places:
            rate, score = float(curve.rates[place]), float(curve.scores[place])
            known = (float(curve.thresholds[place]), rate, score, cascade_cost(costs, rate), unit)
            yield (key, kind, first.point.cell, last.point.cell, *known)


def cascade_lines(
    groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str], settings: CascadeSettings
) -> list[str]:
    """Say of each group which cascade was chosen, whether it pays, and how runs agree."""
    if not groups:
        return [NO_CASCADE]
    found = []
    for facts in groups.values():
        title = settings["titles"].get(facts["dataset"], facts["dataset"])
        words = Words(names, facts["unit"], facts["estimated"])
        found.append(f"{title}, seed {facts['seed']}: {_choice(facts, words)}")
        found += [words.run(one) for one in facts["run"]]
    return found


def unjoined_lines(points: Sequence[AnsweredPoint], groups: Sequence[CascadeGroup]) -> list[str]:
    """Name cascades that ran, whose cells did not answer in the same way alone."""
    joined = [id(point) for group in groups for point in group.cascades]
    return [
        f"{point.cell}, {point.known['inference']}: it ran as a cascade, but two cells must have "
        "answered alone in the same way, with its batch_size and generation, to be set beside it"
        for point in points
        if point.cascade and id(point) not in joined
    ]


def _known(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [pair for pair in facts["pairs"] if "missing" not in pair]


def _choice(facts: Mapping[str, Any], words: Words) -> str:
    known = _known(facts)
    if not known:
        return str(facts["pairs"][0]["missing"])
    if facts["chosen"] is None:
        return (
            "do not cascade: no cascade keeps "
            f"{percent(facts['keep_score'])} of the best cell's score where it is fitted."
        )
    pair = known[facts["chosen"]]
    return words.verdict(pair, facts["keep_score"])


def cascade_sections(
    groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str], settings: CascadeSettings
) -> list[Section]:
    """Return the page's sections, one for each group."""
    if not groups:
        return [Section("", [NO_CASCADE])]
    found = [Section("", [COST_FORMULA])]
    for key, facts in groups.items():
        title = settings["titles"].get(facts["dataset"], facts["dataset"])
        words = Words(names, facts["unit"], facts["estimated"])
        parts = _parts(key, facts, names, words)
        found.append(Section(f"{title}, seed {facts['seed']}", parts))
    return found


def _parts(
    key: str, facts: Mapping[str, Any], names: Mapping[str, str], words: Words
) -> list[PagePart]:
    known = _known(facts)
    judged = DOES_NOT if facts["chosen"] is None else known[facts["chosen"]]["verdict"]
    text = f"Score against cost of single cells, cascades and the oracle in {facts['dataset']}"
    return [
        Labelled("Audit", _choice(facts, words), MARKS[judged]),
        f"{words.costs(facts['across'])} {_examples(facts)}",
        *(Labelled("Run for real", words.run(one)) for one in facts["run"]),
        Picture(f"{key}.svg", text),
        _single_table(facts, names, words),
        *([_pair_table(known, words)] if known else []),
        *_agreement_parts(facts, words),
        *(f"{len(known) - SHOWN_CASCADES} more are in cascades.json."
          for _ in range(len(known) > SHOWN_CASCADES)),
    ]  # fmt: skip


def _examples(facts: Mapping[str, Any]) -> str:
    """Say on which examples thresholds were fitted and results are stated."""
    count, split = facts["examples"], facts["stated_on"]
    if facts["halved"]:
        return (
            f"Thresholds are fitted on half of the split {split}, and scores stated on the other "
            f"{count} examples; a second split would leave both whole."
        )
    return (
        f"Thresholds are fitted on the split {facts['fitted_on']}, and scores stated on the "
        f"{count} examples of {split}."
    )


def _single_table(facts: Mapping[str, Any], names: Mapping[str, str], words: Words) -> Table:
    rows = [
        {
            "single cell": names[one["cell"]] + random_weights(one["random_weights"]),
            drawing.SCORE_TITLES.get(facts["score_name"], facts["score_name"]): number(
                one["score"], ".2f"
            ),
            "interval": f"{number(one['score_low'], '.2f')} to {number(one['score_high'], '.2f')}",
            "cost of a request": words.cost(one["cost"]),
            "flags": ", ".join(one["energy_flags"]) if facts["unit"] == "J" else "",
        }
        for one in facts["singles"]
    ]
    return Table(rows, ["single cell", "flags"])


def _pair_table(pairs: Sequence[Mapping[str, Any]], words: Words) -> Table:
    order = sorted(pairs, key=lambda one: (one["verdict"] != PAYS, one["fitted"]["cost"]))
    rows = [
        {
            "cascade": words.members(one),
            "escalated": percent(one["stated"]["rate"]),
            "break-even": percent(one["break_even_rate"]),
            "score": number(one["stated"]["score"], ".2f"),
            "kept": percent(one["stated"]["kept"], ".1f"),
            "sure": percent(one["stated"]["sure"]),
            "cost of a request": words.cost(one["stated"]["cost"]),
            "oracle escalates": percent(one["oracle"]["keeps"]["rate"]),
            "at its best": _best(one, words),
            "verdict": one["verdict"],
        }
        for one in order[:SHOWN_CASCADES]
    ]
    return Table(rows, ["cascade", "verdict"], MARKS)


def _best(pair: Mapping[str, Any], words: Words) -> str:
    """Write the highest score that a threshold gives, and what it costs."""
    best = pair["at_best"]
    return f"{number(best['score'], '.2f')} at {words.cost(best['cost'])}"


def _agreement_parts(facts: Mapping[str, Any], words: Words) -> list[PagePart]:
    """Show cascades in which two cheap cells must agree, the cheapest ones first."""
    order = sorted(facts["agreements"], key=lambda one: one["stated"]["cost"])
    rows = [
        {
            "two must agree": words.members(one),
            "escalated": percent(one["stated"]["rate"]),
            "break-even": percent(one["break_even_rate"]),
            "score": number(one["stated"]["score"], ".2f"),
            "kept": percent(one["stated"]["kept"], ".1f"),
            "cost of a request": words.cost(one["stated"]["cost"]),
            "verdict": one["verdict"],
        }
        for one in order[:SHOWN_CASCADES]
    ]
    said = "Where two cheap cells must give the same answer, both are always paid:"
    return [said, Table(rows, ["two must agree", "verdict"], MARKS)] if rows else []
