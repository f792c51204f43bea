"""Judged claims as pages for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.files import sha256
from longwatt.layout.pages import Labelled, PagePart, Section, Table, write_page
from longwatt.layout.wording import NA, how_many, number, percent
from longwatt.provenance.stamps import write_json
from longwatt.results import judge_claims as judging
from longwatt.results.judge_claims import STEPS_ALONE, WHOLE_RUN
from longwatt.results.series import CONFIDENCE, confidence_of
from longwatt.results.summary import read_summary
from longwatt.study.cells import as_list
from longwatt.study.claims import BOUNDS, CHOSEN_BY, PAIRED_TESTS

INTRODUCTION = (
    "A test is supported if enough of its comparisons hold whatever the unclear ones would turn "
    "out to be, contradicted if too few can hold, and else not decidable. A claim is supported if "
    "all its tests are, contradicted if one is. A comparison is unclear if a value is missing or "
    "its interval (of 95 %, but where it is said otherwise) reaches across the threshold. From one "
    "seed a score has an interval over the scored examples; from several seeds everything has one "
    "over these, and a score one over seeds and examples together. Scores of the same examples are "
    "compared example by example, and so are a score and its baselines. A number without an "
    "interval decides by itself: how much it varies from seed to seed is not known. Scores of "
    "models from random weights decide nothing, unless the claim is about such models."
)
EQUIVALENCE = (
    "Not significant is not the same. Numbers are equivalent if two one-sided tests show it: the "
    "interval that is printed lies within the margin. Each of its ends has the confidence that "
    "other intervals have as a whole (90 % where these have 95 %). Numbers are not equivalent if "
    "the usual interval lies beyond the margin. Without an interval nothing is equivalent."
)
TITLE = "Claims"
MOST_MISSING = 12  # more are in claims.json
CLASSES = {
    judging.SUPPORTED: "good", judging.CONTRADICTED: "bad", judging.UNDECIDED: "open",
    judging.HOLDS: "good", judging.FAILS: "bad", judging.UNCLEAR: "open",
}  # fmt: skip
WORDS = {"difference": ", less ", "equivalent": ", less ", "ratio": ", divided by "}
ALONE = "the grid has nothing to set beside them as this test asks"
LEFT_ALIGNED = ("cell", "against", "cells", "finding", "note")  # columns of words
NUMBER_TITLES = {
    "difference": "difference", "equivalent": "difference", "ratio": "ratio",
    "variation": "coefficient of variation",
}  # fmt: skip


def write_claims(
    summary: Path,
    target: Path,
    settings: Mapping[str, Any],
    provenance: Any,
    results: Path | None = None,
) -> None:
    """Judge claims and write them as JSON, and as .md and .html for people.

    Args:
        summary: a summary.csv; a report compares its digest, which is recorded, with the present
            one.
        target: claims.json.
        settings: as `longwatt.study.stages.Stages.judge_claims`.
        provenance: the stamp of `target`.
        results: results/{study}, where examples' scores are; None to compare without them.
    """
    table = read_summary(summary)
    judged = judging.judge(table, settings, results)
    paths = write_page(target.with_suffix(""), TITLE, claims_page(judged, confidence_of(table)))
    pages = {path.name: sha256(path) for path in paths}
    facts = {"claims": judged, "summary_sha256": sha256(summary), "sha256": pages}
    write_json(target, {**facts, "provenance": provenance})


def claims_page(judged: Mapping[str, Mapping[str, Any]], confidence: float) -> list[Section]:
    """Return the sections of claims.md and claims.html.

    Args:
        judged: claims as `longwatt.results.judge_claims.judge` gives them.
        confidence: of the summary's score intervals over examples.
    """
    parts: list[PagePart] = [INTRODUCTION]
    if confidence != CONFIDENCE:
        parts.append(
            "Intervals of scores over examples (and seeds with them) are of "
            f"{percent(confidence, 'g')}, all others of 95 %."
        )
    if any(test["kind"] == "equivalent" for one in judged.values() for test in one["tests"]):
        parts.append(EQUIVALENCE)
    about_energy = any(STEPS_ALONE in claim["verdicts"] for claim in judged.values())
    if about_energy:
        parts.append(
            "Claims about the energy of training are judged twice: by the energy validations "
            "included (the whole run, as published), and of the training steps alone."
        )
    sections = [Section("", [*parts, _overview(judged, about_energy)])]
    for name, claim in judged.items():
        source = [Labelled("Source", claim["source"])] if claim["source"] else []
        sections.append(Section(name, [claim["statement"], *source], anchor=name))
        sections += (_test(number, test) for number, test in enumerate(claim["tests"], start=1))
    return sections


def _overview(judged: Mapping[str, Mapping[str, Any]], about_energy: bool) -> Table:
    """List every claim with its verdicts and the notes on its numbers."""
    titles = {"verdict": WHOLE_RUN} | ({STEPS_ALONE: STEPS_ALONE} if about_energy else {})
    noted = any(claim["notes"] for claim in judged.values())
    rows = []
    for name, claim in judged.items():
        verdicts = {title: claim["verdicts"].get(way, "") for title, way in titles.items()}
        note = {"note": ", ".join(claim["notes"])} if noted else {}
        rows.append({"claim": name, "statement": claim["statement"], **verdicts, **note})
    return Table(rows, ["claim", "statement", *titles, "note"], CLASSES, links="claim")


def _test(number: int, test: Mapping[str, Any]) -> Section:
    parts: list[PagePart] = [Labelled("Threshold", test["reason"])] if test["reason"] else []
    for way, judged in test["judged"].items():
        label = {1: "Verdict"}.get(len(test["judged"]), f"Verdict, {way}")
        verdict, findings = judged["verdict"], judged["findings"]
        parts.append(Labelled(label, f"{verdict}: {_counts(judged)}", CLASSES[verdict]))
        parts.append(_numbers(test["kind"], judged))
        methods = Counter(finding["method"] for finding in findings if finding["method"])
        if methods:
            words = (f"{name} ({times})" for name, times in methods.items())
            parts.append(Labelled("Intervals", "; ".join(words)))
        if judged["unclear_because"]:
            parts.append(Labelled("Unclear", _missing(judged["unclear_because"])))
        if judged["alone"]:
            parts.append(Labelled("Not compared", f"{_missing(judged['alone'])}: {ALONE}"))
    return Section(f"Test {number}: {words_of_test(test['kind'], test['given'])}", parts, level=3)


def _counts(judged: Mapping[str, Any]) -> str:
    words = {judging.HOLDS: "hold", judging.FAILS: "fail", judging.UNCLEAR: "unclear"}
    found = ", ".join(f"{judged[key]} {word}" for key, word in words.items() if judged[key])
    compared = how_many(len(judged["findings"]), "comparison")
    return f"of {compared} {found}; {judged['needed']} must hold"


def _missing(missing: Sequence[str]) -> str:
    more = len(missing) - MOST_MISSING
    last = [f"and {more} more, listed in claims.json"] if more > 0 else []
    return "; ".join([*missing[:MOST_MISSING], *last])


def words_of_test(kind: str, given: Mapping[str, Any]) -> str:
    """Describe a test in one line."""
    bounds = [f"{word} {given[name]:g}" for name, word in BOUNDS.items() if name in given]
    if kind == "equivalent":
        bounds = [f"equivalent within ±{given['within']:g}"]
    share = given.get("share", 1)
    least = f", in {percent(share, 'g')} of them or more" if share < 1 else ""
    return f"{_subject(kind, given)}: {' and '.join(bounds)}{least}"


def _subject(kind: str, given: Mapping[str, Any]) -> str:
    cells = _selected(given.get("of", given.get("cells", {}))) or "every cell"
    if kind == "correlation":
        within = f", for each {' and '.join(given['within'])}" if given.get("within") else ""
        method, (one, other) = given.get("method", "spearman").capitalize(), given["between"]
        return f"{method} correlation of {one} with {other} over {cells}{within}"
    column = given["column"]
    if kind == "variation":
        return f"coefficient of variation of {column} across {given['across']} in {cells}"
    return f"{column} of {cells}" + (f"{WORDS[kind]}{_against(given)}" if kind in WORDS else "")


def _against(given: Mapping[str, Any]) -> str:
    target = given["to"]
    if "value" in target:
        return f"{target['value']:g}"
    differs = _selected(target)
    same = f"{target.get('column', 'that')} of the same cell"
    return f"{same} with {differs}" if differs else same


def _selected(selector: Mapping[str, Any]) -> str:
    """Describe the axes of a selector in words."""
    words = []
    for axis in (axis for axis in CHOSEN_BY if axis in selector):
        value = selector[axis]
        if axis == "seq_len" and isinstance(value, str):
            words.append(f"{'the next longer' if value == 'next' else f'any {value}'} {axis}")
        else:
            *others, last = map(str, as_list(value))
            words.append(f"{axis} {', '.join(others)} or {last}" if others else f"{axis} {last}")
    return ", ".join(words)


def _numbers(kind: str, judged: Mapping[str, Any]) -> Table:
    """Tabulate the numbers that a verdict rests on."""
    findings, columns = judged["findings"], judged["columns"]
    noted = any(finding["notes"] for finding in findings)
    if kind in (*PAIRED_TESTS, "value"):
        sides = ["cell", "against"][: max(len(finding["cells"]) for finding in findings)]
        alike = len(set(columns)) < len(columns)
        names = [columns[0], f"{columns[1]} against"] if alike else columns
        titles = [*sides, *names, *([NUMBER_TITLES[kind]] if kind != "value" else [])]
    else:
        titles = ["cells", NUMBER_TITLES.get(kind, "correlation")]
    titles += ["interval", "finding", *(["note"] if noted else [])]
    rows = []
    for one in findings:
        texts = [_interval(one["interval"]), one["status"], ", ".join(one["notes"])]
        number = [_number(one["number"])] if kind != "value" else []
        if kind in (*PAIRED_TESTS, "value"):
            shown = [_number(value) for value in one["values"]] or [NA] * len(names)
            texts = [*one["cells"], *shown, *number, *texts]
        else:
            texts = [judging.name_of(one["cells"]), *number, *texts]
        rows.append(dict(zip(titles, texts[: None if noted else -1], strict=True)))
    return Table(rows, [title for title in titles if title in LEFT_ALIGNED], CLASSES)


def _interval(ends: Sequence[float | None] | None) -> str:
    if ends is None:
        return "not known"
    low, high = ends
    return f"{'-∞' if low is None else _number(low)} to {'∞' if high is None else _number(high)}"


def _number(value: float | None) -> str:
    return number(value, ".4g" if value is None or abs(value) < 10_000 else ".0f")
