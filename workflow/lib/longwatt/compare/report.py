"""Write two studies side by side: a table, rankings, figures, and a summary in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.compare import beside, pairing
from longwatt.compare.figures import QUANTITIES, draw_all
from longwatt.compare.pairing import NO_SCORE, ONE_RUN, PAIRED_BY, Match
from longwatt.compare.ranking import ALL_CELLS, RANKED_WITHIN, Ranking, rankings, unscored
from longwatt.compare.settings import ALIKE, Rulers, Studies, read_rulers
from longwatt.energy import flags
from longwatt.files import sha256
from longwatt.freshness.outdated import Stamps
from longwatt.freshness.summaries import best_summary
from longwatt.jobs.endings import DIVERGED
from longwatt.layout import wording
from longwatt.layout.pages import Picture, Section, Table, write_page
from longwatt.layout.wording import ESTIMATED, NA, interval, listed, number, with_interval
from longwatt.progress import say
from longwatt.provenance.stamps import write_json
from longwatt.results.summary import write_csv
from longwatt.study.summary_columns import INFERENCE

SCORE_FORMAT, DIFFERENCE_FORMAT, RATIO = ".2f", "+.2f", ".3g"  # how each is written
NAMED_SETTINGS = 8  # settings that the first sentences name; the rest is in a table
# Titles of each ratio: in a sentence, and of a column.
RATIO_TITLES = {
    "train_speed_ratio": ("training speed", "training speed ratio"),
    "inference_speed_ratio": ("inference speed", "inference speed ratio"),
    "train_energy_ratio": ("training energy", "training energy ratio"),
    "train_power_ratio": ("mean power in training", "mean power ratio"),
    "peak_memory_ratio": ("peak memory", "peak memory ratio"),
}
OF_ENERGY = ("train_energy_ratio", "train_power_ratio")
# Columns of classifiers, in both studies.
LABEL_TITLES = {"accuracy": "accuracy", "macro_f1": "macro F1", "mean_layers": "mean layers"}
FIGURE_TEXTS = {
    "scores": "Scores of the one study against those of the other",
    "inference_speed": "Inference speed of the one study against that of the other",
}
SWAP_COLUMNS = ("better_in_a", "better_in_b", "difference_a", "difference_b", "beyond_intervals")
NO_INTERVAL = (
    "Kendall's tau is that of the scores as they are; it has no interval here. How many swaps are "
    "beyond the intervals in both studies says how much of it may be chance. Two cells of a study "
    "that answered the same examples have an interval of their difference, which must leave out 0. "
    "The scores' own intervals of others must not overlap."
)

PairRow = Mapping[Any, Any]


def write_comparison(
    results: Path,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    stamps: Mapping[str, Stamps | None] | None = None,
) -> None:
    """Write results/{study}/compare/{against}/ and say its first sentences on the terminal.

    Files: comparison.csv (a row per pair of cells), ranking.csv, swaps.csv, comparison.md and
    .html, figures, and comparison.json with the digests of the summaries that they speak of.

    Args:
        results: the folder of all studies' results.
        settings: as `longwatt.study.reported.report_settings.compare_settings`.
        provenance: the stamp of comparison.json.
        stamps: by study the digests in force (`longwatt.freshness.in_force.InForce.stamps`); None
            where its file is not here.

    Raises:
        longwatt.compare.pairing.CompareError: a study has no summary, or no cell has a partner.
    """
    studies, in_force = (settings["study"], settings["against"]), stamps or {}
    tables = {study: pairing.read_results(results, study) for study in studies}
    found = pairing.match(*(tables[study] for study in studies))
    comparison = pairing.compare_cells(results, studies, found, settings["scoring"])
    pairs = [(pair.first, pair.second) for pair in found.pairs]
    rulers, unlike = read_rulers(results, studies, pairs), beside.differing_beside(pairs)
    known = [study for study in studies if study in in_force]
    outdated = {
        one: beside.outdated_rows(results, one, tables[one], in_force[one]) for one in known
    }
    within = pairing.differences_within(results, studies, found.pairs, settings["scoring"])
    ranked = rankings(comparison, within)
    folder = results / studies[0] / "compare" / studies[1]
    write_csv(folder / "comparison.csv", comparison)
    write_csv(folder / "ranking.csv", ranking_table(ranked))
    write_csv(folder / "swaps.csv", swap_table(ranked))
    draw_all(comparison, studies, folder, settings["titles"])
    told = beside.sentences(studies, comparison, unlike, outdated)
    shown = comparison_page(studies, found, comparison, ranked, rulers, told)
    more = beside.sections(studies, unlike, outdated)
    write_page(folder / "comparison", " and ".join(studies), [*shown, *more])
    used = ((study, best_summary(results / study)[0]) for study in studies)
    digests = {study: sha256(path) for study, path in used if path}
    write_json(folder / "comparison.json", {"summary_sha256": digests, "provenance": provenance})
    for line in [*headlines(studies, found, comparison, ranked, rulers), *told]:
        say(line)
    say(f"cell by cell in {folder / 'comparison.html'}, comparison.md and comparison.csv")


def headlines(
    studies: Studies,
    found: Match,
    comparison: pd.DataFrame,
    ranked: Sequence[Ranking],
    rulers: Rulers = ALIKE,
) -> list[str]:
    """Say in sentences what changes from the first study to the second."""
    first, second = studies
    both = zip(studies, found.alone, strict=True)
    alone = " and ".join(f"{len(names)} of {study}" for study, names in both if names)
    without = f"; without a partner: {alone}" if alone else ""
    lines = [
        f"{len(comparison)} pairs of cells{without}. Differences are {second} less {first}, ratios "
        f"{second} / {first}."
    ]
    for axis, values in found.differing.items():
        sides = [f"{', '.join(own)} ({name})" for name, own in zip(studies, values, strict=True)]
        lines.append(f"They differ in {axis}: {' against '.join(sides)}.")
    lines += [*_other_settings(rulers), _scores(comparison), *([_order(ranked)] if ranked else [])]
    lines += [_ratio(comparison, name, title) for name, (title, _) in RATIO_TITLES.items()]
    return [*lines, *_caveats(comparison)]


def _caveats(comparison: pd.DataFrame) -> list[str]:
    """Say in how many pairs numbers are less sure or less telling than others."""
    random = (comparison[["initialisation_a", "initialisation_b"]] == "random").any(axis=1)
    counted = {
        "One run each in {} pairs: how sure their ratios are is not known.": (
            comparison["ratio_interval"] == ONE_RUN
        ),
        "Random weights: {} pairs have models from random weights; their scores say nothing of "
        "pretrained ones.": random,
        f"In {{}} pairs a {DIVERGED}: its costs and its score are not those of a whole one.": (
            comparison[["diverged_a", "diverged_b"]].any(axis=1)
        ),
    }
    return [text.format(int(which.sum())) for text, which in counted.items() if which.any()]


def _other_settings(rulers: Rulers) -> list[str]:
    """Say in which settings the studies differ beside the axes, as far as artefacts say."""
    named = [str(each) for each in rulers.differing]
    more = len(named) - NAMED_SETTINGS
    rest = f", and {more} more (below)" if more > 0 else ""
    lines = [f"They also differ in: {', '.join(named[:NAMED_SETTINGS])}{rest}."] if named else []
    unknown = (
        f"Of {rulers.unknown} pairs the results do not say with what settings they were made and "
        "scored."
    )
    return [*lines, unknown] if rulers.unknown else lines


def _scores(comparison: pd.DataFrame) -> str:
    known = comparison.dropna(subset=["score_difference"])
    missing = len(unscored(comparison))
    others = len(comparison) - len(known) - missing
    more = f"; {others} pairs have other metrics and are not subtracted" if others else ""
    more += f"; {missing} pairs lack a score" if missing else ""
    if known.empty:
        return f"Score: no pair has two scores of the same metric{more}."
    values = known["score_difference"]
    beyond = int(((known["difference_ci_low"] > 0) | (known["difference_ci_high"] < 0)).sum())
    span = interval(values.min(), values.max(), DIFFERENCE_FORMAT)
    return (
        f"Score: median {number(values.median(), DIFFERENCE_FORMAT)}, from {span}; the "
        f"interval of the difference leaves out 0 in {beyond} of {len(known)} pairs{more}."
    )


def _order(ranked: Sequence[Ranking]) -> str:
    whole = [ranking for ranking in ranked if ranking.scope == ALL_CELLS]
    taus = pd.Series([ranking.tau for ranking in whole]).dropna()
    swaps = [swap for ranking in whole for swap in ranking.swaps]
    clear = sum(swap.clear for swap in swaps)
    pairs = sum(math.comb(len(ranking.cells), 2) for ranking in whole)
    order = "no order"
    if len(taus):
        span = number(taus.median(), SCORE_FORMAT)
        if taus.nunique() > 1:
            span = with_interval(taus.median(), taus.min(), taus.max(), SCORE_FORMAT)
        order = f"Kendall's tau of the order of cells {span} over {len(whole)} groups"
    return (
        f"Ranking: {order} (without intervals); {len(swaps)} of {pairs} pairs swap, {clear} beyond "
        "the intervals."
    )


def _ratio(comparison: pd.DataFrame, name: str, title: str) -> str:
    known = comparison.dropna(subset=[name])
    if known.empty:
        return f"{title.capitalize()}: NA, not known of both studies."
    of = "" if len(known) == len(comparison) else f", known of {len(known)} pairs"
    estimated = ""
    if name in OF_ENERGY:
        flagged = flags.union(text for side in "ab" for text in known[f"train_energy_flags_{side}"])
        partly = [f"partly {ESTIMATED}"] if known["train_energy_estimated"].any() else []
        partly += [f"partly flagged {', '.join(flagged)}"] if flagged else []
        estimated = f" ({'; '.join(partly)})" if partly else ""
    values = known[name]
    span = interval(values.min(), values.max(), RATIO)
    median = number(values.median(), RATIO)
    return f"{title.capitalize()}{estimated}: median ratio {median}, from {span}{of}."


def comparison_page(
    studies: Studies,
    found: Match,
    comparison: pd.DataFrame,
    ranked: Sequence[Ranking],
    rulers: Rulers = ALIKE,
    told: Sequence[str] = (),
) -> list[Section]:
    """Lay out comparison.md and comparison.html, with sentences of what else differs."""
    pictures = [Picture(f"{name}.svg", _caption(name, comparison)) for name in QUANTITIES]
    kinds = sorted(set(comparison["difference_interval"]))
    note = (
        "Intervals are of 95 % unless the study says otherwise; those of differences: "
        f"{'; '.join(kinds)}; those of ratios: Student's t over the logarithms of the seeds' "
        "ratios, always of 95 %."
    )
    words = ["dataset", "model", "budget", "protocol", "inference", "metric"]
    words += ["intervals of ratios", "note"]
    marked = [beside.MARKED] if comparison[list(beside.ACROSS)].notna().any(axis=None) else []
    cells = Table(_pairs(studies, comparison), words)
    stamped = (
        "As the results themselves say it; axes of the grid are not repeated. A row for each pair "
        "of values."
    )
    title = "Settings that differ"
    return [
        Section("", [*headlines(studies, found, comparison, ranked, rulers), *told]),
        Section("Figures", pictures),
        Section("Cell by cell", [note, *marked, cells]),
        *_ranking_sections(studies, ranked, unscored(comparison)),
        *beside.differing_section(title, stamped, "setting", studies, rulers.differing),
        *_unmatched(studies, found),
    ]


def _caption(name: str, comparison: pd.DataFrame) -> str:
    """Say what a figure shows, and for how many pairs it compares machines too."""
    others = int(comparison["inference_across"].notna().sum()) if name == "inference_speed" else 0
    more = (
        f"; {others} of {len(comparison)} pairs were measured on other devices, processors or "
        "thread counts"
    )
    return FIGURE_TEXTS[name] + (more if others else "")


def _pairs(studies: Studies, comparison: pd.DataFrame) -> list[dict[str, str]]:
    """Return a row per pair, without the axes that are the same for all."""
    values = {axis: comparison[[f"{axis}_a", f"{axis}_b"]].nunique() for axis in PAIRED_BY}
    shown = [axis for axis in PAIRED_BY if (values[axis] > 1).any()]
    labels = {name: title for name, title in LABEL_TITLES.items() if f"{name}_a" in comparison}
    rows = []
    for row in comparison.to_dict("records"):
        scores = {study: _score(row, side) for study, side in zip(studies, "ab", strict=True)}
        texts = {
            **{axis: _either(row, axis) for axis in shown},
            "metric": _either(row, "score_name"),
            **scores,
            "difference": _with_interval(row),
            **{title: _both(row, name) for name, title in labels.items()},
            **{title: _ratio_text(row, name) for name, (_, title) in RATIO_TITLES.items()},
            "intervals of ratios": row["ratio_interval"],
            "note": "; ".join(_notes(row)),
        }
        rows.append(texts)
    noted = any(row["note"] for row in rows)
    return [{name: text for name, text in row.items() if noted or name != "note"} for row in rows]


def _notes(row: PairRow) -> list[str]:
    """List the caveats of a pair's trainings, and how its machines differ."""
    found = {
        wording.RANDOM_WEIGHTS: "random" in (row["initialisation_a"], row["initialisation_b"]),
        DIVERGED: row["diverged_a"] or row["diverged_b"],
    }
    across = {"training": row["train_across"], "inference": row["inference_across"]}
    machines = (f"{part}: {words}" for part, words in across.items() if isinstance(words, str))
    return [*(note for note, needed in found.items() if needed), *machines]


def _both(row: PairRow, name: str) -> str:
    return " / ".join(number(row[f"{name}_{side}"], SCORE_FORMAT) for side in "ab")


def _either(row: PairRow, name: str) -> str:
    """Write the values of both sides, or the one that they share."""
    return " / ".join(dict.fromkeys(str(row[f"{name}_{side}"]) for side in "ab"))


def _score(row: PairRow, side: str) -> str:
    ends = interval(row[f"score_ci_low_{side}"], row[f"score_ci_high_{side}"], SCORE_FORMAT)
    seeds = f", {row[f'seeds_{side}']} seeds" if row[f"seeds_{side}"] > 1 else ""
    return f"{number(row[f'score_{side}'], SCORE_FORMAT)} ({ends}{seeds})"


def _with_interval(row: PairRow) -> str:
    if pd.isna(row["score_difference"]):
        return f"{NA} ({'no score' if row['difference_interval'] == NO_SCORE else 'other metrics'})"
    ends = interval(row["difference_ci_low"], row["difference_ci_high"], DIFFERENCE_FORMAT)
    return f"{number(row['score_difference'], DIFFERENCE_FORMAT)} ({ends})"


def _ratio_text(row: PairRow, name: str) -> str:
    """Write a ratio with its interval, and beside one of energies or powers its caveats."""
    side = "inference_across" if name.startswith(INFERENCE) else "train_across"
    mark = beside.MARK if isinstance(row[side], str) and not pd.isna(row[name]) else ""
    text = with_interval(row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"], RATIO) + mark
    if name not in OF_ENERGY or text == NA:
        return text
    said = flags.union(row[f"train_energy_flags_{side}"] for side in "ab")
    return text + wording.beside_energy(bool(row["train_energy_estimated"]), said)


def ranking_table(ranked: Sequence[Ranking]) -> pd.DataFrame:
    """Return a row per ranking and cell: its rank in both studies, and Kendall's tau."""
    columns = ["cell_a", "cell_b", "rank_a", "rank_b", "score_a", "score_b"]
    parts = []
    for ranking in ranked:
        group: dict[str, Any] = dict(zip(RANKED_WITHIN, ranking.group, strict=True))
        group |= {"scope": ranking.scope, "kendall_tau": ranking.tau}
        parts.append(ranking.cells[columns].assign(**group))
    order = [*RANKED_WITHIN, "scope", "kendall_tau", *columns]
    return pd.concat(parts)[order] if parts else pd.DataFrame(columns=order)


def swap_table(ranked: Sequence[Ranking]) -> pd.DataFrame:
    """Return a row per pair of cells that changes places, each pair once."""
    swaps = [swap for ranking in ranked if ranking.scope == ALL_CELLS for swap in ranking.swaps]
    pairs = [(swap.better_a, swap.better_b, swap.clear) for swap in swaps]
    rows = [
        (a["cell_a"], b["cell_a"], a["score_a"] - b["score_a"], b["score_b"] - a["score_b"], clear)
        for a, b, clear in pairs
    ]
    return pd.DataFrame(rows, columns=list(SWAP_COLUMNS))


def _ranking_sections(
    studies: Studies, ranked: Sequence[Ranking], without: pd.DataFrame
) -> list[Section]:
    names = listed(list(without["cell_a"]))
    left_out = f"Without a score in both, and so not ranked ({len(without)}): {names}."
    missing = [] if without.empty else [left_out]
    if not ranked:
        nothing = "No two pairs share a dataset, a budget and a metric, so nothing can be ranked."
        return [Section("Ranking", [nothing, *missing])]
    values = zip(*(ranking.group for ranking in ranked), strict=True)
    apart = [place for place, found in enumerate(values) if len(set(found)) > 1]
    rows = [
        {
            **{RANKED_WITHIN[place].removesuffix("_a"): ranking.group[place] for place in apart},
            "order of": ranking.scope,
            "cells": str(len(ranking.cells)),
            "Kendall's tau": number(ranking.tau, SCORE_FORMAT),
            "swaps": str(len(ranking.swaps)),
            "beyond the intervals": str(sum(swap.clear for swap in ranking.swaps)),
        }
        for ranking in ranked
    ]
    words = ["dataset", "budget", "protocol", "inference", "order of"]
    parts = [NO_INTERVAL, Table(rows, words), *missing, *_swaps(studies, ranked)]
    return [Section("Ranking", parts)]


def _swaps(studies: Studies, ranked: Sequence[Ranking]) -> list[str | Table]:
    table = swap_table(ranked)
    if table.empty:
        return ["No two cells change places."]
    names = [f"better in {study}" for study in studies]
    rows = [
        {
            names[0]: row["better_in_a"],
            f"by ({studies[0]})": number(row["difference_a"], SCORE_FORMAT),
            names[1]: row["better_in_b"],
            f"by ({studies[1]})": number(row["difference_b"], SCORE_FORMAT),
            "beyond the intervals": "yes, in both" if row["beyond_intervals"] else "no",
        }
        for row in table.head(wording.LISTED).to_dict("records")
    ]
    more = wording.more_rows(table, "are in swaps.csv")
    return ["Cells that change places, and by how much:", Table(rows, names), *more]


def _unmatched(studies: Studies, found: Match) -> list[Section]:
    """Name the rows that have no partner."""
    parts = []
    for study, names in zip(studies, found.alone, strict=True):
        parts += [f"Only in {study} ({len(names)}): {listed(names)}."] if names else []
    if found.ambiguous:
        parts.append(
            f"With several possible partners, since {', '.join(found.differing)} cannot tell them "
            f"apart ({len(found.ambiguous)}): {listed(found.ambiguous)}."
        )
    return [Section("Not compared", parts)] if parts else []
