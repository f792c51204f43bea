"""Judged claims as pages for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.claim_settings import BOUNDS, Point, as_list
from longwatt.claims import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    STEPS_ALONE,
    SUPPORTED,
    UNCLEAR,
    UNDECIDED,
    WHOLE_RUN,
    judge,
    name_of,
)  # fmt: skip
from longwatt.pages import Labelled, Part, Section, Table, write_page
from longwatt.points import CONFIDENCE, confidence_of
from longwatt.provenance import sha256, write_json
from longwatt.summary import read_summary
from longwatt.wording import NA, count, number, percent

INTRODUCTION = (
    "A test is supported if enough of its comparisons hold whatever the unclear ones would turn out to be, "
    "contradicted if too few can hold, and else not decidable. A claim is supported if all its tests are, "
    "contradicted if one is. A comparison is unclear if a value is missing or its interval (of 95 %, but where it is "
    "said otherwise) reaches across the threshold. From one seed a score has an interval over the scored examples; "
    "from several seeds everything has one over these, and a score one over seeds and examples together. Scores of the "
    "same examples are compared example by example, and so are a score and its baselines. A number without an interval "
    "decides by itself: how much it varies from seed to seed is not known. Scores of models from random weights decide "
    "nothing, unless the claim is about such models."
)
TITLE = "Claims"
MOST_MISSING = 12  # more are in claims.json
CLASSES = {
    SUPPORTED: "good", HOLDS: "good", CONTRADICTED: "bad", FAILS: "bad", UNDECIDED: "open", UNCLEAR: "open",
}  # fmt: skip
WORDS = {"difference": ", less ", "ratio": ", divided by "}
ALONE = "the grid has nothing to set beside them as this test asks"
LEFT = ("cell", "against", "cells", "finding", "note")  # columns of words
NUMBER_TITLES = {
    "difference": "difference",
    "ratio": "ratio",
    "variation": "coefficient of variation",
}


def write_claims(
    summary: Path,
    target: Path,
    settings: Mapping[str, Any],
    provenance: Any,
    results: Path | None = None,
) -> None:
    """Judge claims, and write them to `target` as JSON and beside it as pages.

    The pages are an .md and an .html file for people.

    Args:
        summary: a summary.csv; its digest is recorded, so that a report can tell whether it was
            judged by it.
        target: claims.json.
        settings: as `longwatt.stages.Stages.judge_claims`.
        provenance: the stamp of `target`.
        results: results/{study}, where examples' scores are; None to compare without them.
    """
    table = read_summary(summary)
    judged = judge(table, settings, results)
    paths = write_page(target.with_suffix(""), TITLE, page(judged, confidence_of(table)))
    pages = {path.name: sha256(path) for path in paths}
    facts = {"claims": judged, "summary_sha256": sha256(summary), "sha256": pages}
    write_json(target, {**facts, "provenance": provenance})


def page(judged: Mapping[str, Mapping[str, Any]], confidence: float) -> list[Section]:
    """Return the sections of claims.md and claims.html.

    Args:
        judged: claims as `longwatt.claims.judge` gives them.
        confidence: of the summary's score intervals over examples.
    """
    parts: list[Part] = [INTRODUCTION]
    if confidence != CONFIDENCE:
        own = percent(confidence, "g")
        parts.append(
            f"Intervals of scores over examples (and seeds with them) are of {own}, all others of 95 %."
        )
    about_energy = any(STEPS_ALONE in claim["verdicts"] for claim in judged.values())
    if about_energy:
        words = (
            "validations included (the whole run, as published), and of the training steps alone"
        )
        parts.append(
            f"Claims about the energy of training are judged twice: by the energy {words}."
        )
    first = Section("", [*parts, _overview(judged, about_energy)])
    return [first, *(section for name, claim in judged.items() for section in _claim(name, claim))]


def _overview(judged: Mapping[str, Mapping[str, Any]], about_energy: bool) -> Table:
    """List every claim with its verdicts and the notes on its numbers."""
    ways = [WHOLE_RUN, *([STEPS_ALONE] if about_energy else [])]
    titles = ["verdict", *ways[1:]]
    noted = any(claim["notes"] for claim in judged.values())
    rows = []
    for name, claim in judged.items():
        verdicts = {
            title: claim["verdicts"].get(way, "") for title, way in zip(titles, ways, strict=True)
        }
        note = {"note": ", ".join(claim["notes"])} if noted else {}
        rows.append({"claim": name, "statement": claim["statement"], **verdicts, **note})
    words = ["claim", "statement", *titles, "note"]
    return Table(rows, words, CLASSES, links="claim")


def _claim(name: str, claim: Mapping[str, Any]) -> list[Section]:
    source = [Labelled("Source", claim["source"])] if claim["source"] else []
    tests = (_test(number, test) for number, test in enumerate(claim["tests"], start=1))
    return [Section(name, [claim["statement"], *source], anchor=name), *tests]


def _test(number: int, test: Mapping[str, Any]) -> Section:
    parts: list[Part] = [Labelled("Threshold", test["reason"])] if test["reason"] else []
    for way, judged in test["judged"].items():
        label = {1: "Verdict"}.get(len(test["judged"]), f"Verdict, {way}")
        verdict = judged["verdict"]
        parts.append(Labelled(label, f"{verdict}: {_counts(judged)}", CLASSES[verdict]))
        parts.append(_numbers(test["kind"], judged))
        if methods := Counter(
            finding["method"] for finding in judged["findings"] if finding["method"]
        ):
            parts.append(
                Labelled("Intervals", "; ".join(f"{name} ({n})" for name, n in methods.items()))
            )
        if judged["unclear_because"]:
            parts.append(Labelled("Unclear", _missing(judged["unclear_because"])))
        if judged["alone"]:
            parts.append(Labelled("Not compared", f"{_missing(judged['alone'])}: {ALONE}"))
    return Section(f"Test {number}: {in_words(test['kind'], test['given'])}", parts, level=3)


def _counts(judged: Mapping[str, Any]) -> str:
    found = ", ".join(
        f"{judged[status]} {words}"
        for status, words in
        # Fmt: skip.
        ((HOLDS, "hold"), (FAILS, "fail"), (UNCLEAR, "unclear"))
        if judged[status]
    )
    return (
        f"of {count(len(judged['findings']), 'comparison')} {found}; {judged['needed']} must hold"
    )


def _missing(missing: Sequence[str]) -> str:
    more = len(missing) - MOST_MISSING
    return "; ".join(missing[:MOST_MISSING]) + (
        f"; and {more} more, listed in claims.json" if more > 0 else ""
    )


def in_words(kind: str, given: Mapping[str, Any]) -> str:
    """Describe a test in one line."""
    bounds = " and ".join(
        f"{word} {given[name]:g}" for name, word in BOUNDS.items() if name in given
    )
    share = (
        f", in {percent(given['share'], 'g')} of them or more" if given.get("share", 1) < 1 else ""
    )
    return f"{_subject(kind, given)}: {bounds}{share}"


def _subject(kind: str, given: Mapping[str, Any]) -> str:
    cells = _selected(given.get("of", given.get("cells", {}))) or "every cell"
    match kind:
        case "correlation":
            within = f", for each {' and '.join(given['within'])}" if given.get("within") else ""
            method = given.get("method", "spearman").capitalize()
            return f"{method} correlation of {given['between'][0]} with {given['between'][1]} over {cells}{within}"
        case "variation":
            return (
                f"coefficient of variation of {given['column']} across {given['across']} in {cells}"
            )
        case "value":
            return f"{given['column']} of {cells}"
    return f"{given['column']} of {cells}{WORDS[kind]}{_against(given)}"


def _against(given: Mapping[str, Any]) -> str:
    target = given["to"]
    if "value" in target:
        return f"{target['value']:g}"
    differs = _selected({axis: value for axis, value in target.items() if axis in Point._fields})
    return f"{target.get('column', 'that')} of the same cell" + (
        f" with {differs}" if differs else ""
    )


def _selected(selector: Mapping[str, Any]) -> str:
    """Describe a selector in words."""
    return ", ".join(
        f"{'the next longer' if value == 'next' else f'any {value}'} {axis}"
        if axis == "seq_len" and isinstance(value, str)
        else f"{axis} {_listed(as_list(value))}"
        for axis, value in ((axis, selector[axis]) for axis in Point._fields if axis in selector)
    )


def _listed(values: Sequence[Any]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def _numbers(kind: str, judged: Mapping[str, Any]) -> Table:
    """Tabulate the numbers that a verdict rests on."""
    findings, columns = judged["findings"], judged["columns"]
    if kind in ("difference", "ratio", "value"):
        sides = ["cell", "against"][: max(len(finding["cells"]) for finding in findings)]
        names = (
            columns if len(set(columns)) == len(columns) else [columns[0], f"{columns[1]} against"]
        )
        titles = [*sides, *names, *([NUMBER_TITLES[kind]] if kind != "value" else [])]
        rows = [_pair_row(kind, finding, len(names)) for finding in findings]
    else:
        titles = ["cells", NUMBER_TITLES.get(kind, "correlation")]
        rows = [[name_of(finding["cells"]), _number(finding["number"])] for finding in findings]
    ends = [[_interval(f["interval"]), f["status"], ", ".join(f["notes"])] for f in findings]
    noted = any(finding["notes"] for finding in findings)
    rows = [[*row, *end][: None if noted else -1] for row, end in zip(rows, ends, strict=True)]
    columns = [*titles, "interval", "finding", *(["note"] if noted else [])]
    return Table(
        [dict(zip(columns, row, strict=True)) for row in rows],
        [c for c in columns if c in LEFT],
        CLASSES,
    )


def _pair_row(kind: str, finding: Mapping[str, Any], values: int) -> list[str]:
    shown = [_number(value) for value in finding["values"]] or [NA] * values
    return [*finding["cells"], *shown, *([_number(finding["number"])] if kind != "value" else [])]


def _interval(ends: Sequence[float | None] | None) -> str:
    if ends is None:
        return "not known"
    low, high = ends
    return f"{'-∞' if low is None else _number(low)} to {'∞' if high is None else _number(high)}"


def _number(value: float | None) -> str:
    return number(value, ".4g" if value is None or abs(value) < 10_000 else ".0f")
