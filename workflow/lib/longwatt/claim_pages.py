"""Judged claims as people read them, and as other programs do."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from longwatt.provenance import sha256, whole_file, write_json
from longwatt.summary import read_summary

INTRODUCTION = (
    "A test is supported if enough of its comparisons hold whatever the unclear ones would turn out to be, "
    "contradicted if too few can hold, and else not decidable. A claim is supported if all its tests are, contradicted "
    "if one is. A comparison is unclear if a value is missing or its 95 % interval reaches across the threshold. From "
    "one seed a score has an interval over the scored examples; from several seeds everything has one over these. A "
    "number without an interval decides by itself: how much it varies from seed to seed is not known. Scores of models "
    "from random weights decide nothing, unless the claim is about such models."
)
MOST_MISSING = 12  # more are in claims.json
NA = "NA"
CLASSES = {
    SUPPORTED: "good", HOLDS: "good", CONTRADICTED: "bad", FAILS: "bad", UNDECIDED: "open", UNCLEAR: "open",
}  # fmt: skip
STYLE = (
    "body{font:14px sans-serif;margin:1.5em;max-width:75em}table{border-collapse:collapse;margin:.6em 0}"
    "th,td{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}"
    "th{border-bottom:2px solid #666}h2{margin-top:2em}h3{font-size:1em;margin:1.2em 0 .2em}p{margin:.3em 0}"
    ".number{text-align:right;white-space:nowrap}"
    ".good,.bad,.open{font-weight:bold;white-space:nowrap}.good{color:#1a6b2d}.bad{color:#a3141f}.open{color:#7a5c00}"
)
WORDS = {"difference": ", less ", "ratio": ", divided by "}
NUMBER_TITLES = {"difference": "difference", "ratio": "ratio", "variation": "coefficient of variation"}


@dataclass(frozen=True)
class Heading:
    """A heading of some level; `anchor` is what links lead to."""

    level: int
    text: str
    anchor: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, after a word in bold if there is one."""

    text: str
    label: str = ""


@dataclass(frozen=True)
class Table:
    """Texts by column; a cell of the first column is a link where `links` is set."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    links: bool = False


Block = Heading | Paragraph | Table


def write_claims(summary: Path, target: Path, settings: Mapping[str, Any], provenance: Any) -> None:
    """Judge claims and write `target` (JSON) and, beside it, the same as .md and .html for people.

    Args:
        summary: a summary.csv; its digest is recorded, so that a report can tell whether it was judged by it.
        target: claims.json.
        settings: `claims` (as the study says them) and `cells` (`longwatt.stages.Stages.claim_cells`).
        provenance: the stamp of `target`.
    """
    judged = judge(read_summary(summary), settings)
    blocks = page(judged)
    for kind, render in (("md", markdown), ("html", as_html)):
        with whole_file(target.with_suffix(f".{kind}")) as stream:
            stream.write(render(blocks))
    write_json(target, {"claims": judged, "summary_sha256": sha256(summary), "provenance": provenance})


def page(judged: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """What claims.md and claims.html say, of claims as `longwatt.claims.judge` gives them."""
    blocks: list[Block] = [Heading(1, "Claims"), Paragraph(INTRODUCTION)]
    about_energy = any(STEPS_ALONE in claim["verdicts"] for claim in judged.values())
    if about_energy:
        words = "validations included (the whole run, as published), and of the training steps alone"
        blocks.append(Paragraph(f"Claims about the energy of training are judged twice: by the energy {words}."))
    blocks.append(_overview(judged, about_energy))
    for name, claim in judged.items():
        blocks += _claim(name, claim)
    return blocks


def _overview(judged: Mapping[str, Mapping[str, Any]], about_energy: bool) -> Table:
    """Every claim with its verdicts and what must be said beside them."""
    ways = [WHOLE_RUN, *([STEPS_ALONE] if about_energy else [])]
    noted = any(claim["notes"] for claim in judged.values())
    rows = []
    for name, claim in judged.items():
        verdicts = [claim["verdicts"].get(way, "") for way in ways]
        rows.append([name, claim["statement"], *verdicts, *([", ".join(claim["notes"])] if noted else [])])
    return Table(["claim", "statement", "verdict", *ways[1:], *(["note"] if noted else [])], rows, links=True)


def _claim(name: str, claim: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [Heading(2, name, name), Paragraph(claim["statement"])]
    if claim["source"]:
        blocks.append(Paragraph(claim["source"], "Source"))
    for number, test in enumerate(claim["tests"], start=1):
        blocks += _test(number, test)
    return blocks


def _test(number: int, test: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [Heading(3, f"Test {number}: {in_words(test['kind'], test['given'])}")]
    if test["reason"]:
        blocks.append(Paragraph(test["reason"], "Threshold"))
    for way, judged in test["judged"].items():
        label = {1: "Verdict"}.get(len(test["judged"]), f"Verdict, {way}")
        blocks.append(Paragraph(f"{judged['verdict']}: {_counts(judged)}", label))
        blocks.append(_numbers(test["kind"], judged))
        if judged["unclear_because"]:
            blocks.append(Paragraph(_missing(judged["unclear_because"]), "Unclear"))
    return blocks


def _counts(judged: Mapping[str, Any]) -> str:
    number = len(judged["findings"])
    found = ", ".join(f"{judged[status]} {words}" for status, words in
                      ((HOLDS, "hold"), (FAILS, "fail"), (UNCLEAR, "unclear")) if judged[status])  # fmt: skip
    return f"of {number} comparison{'s' * (number != 1)} {found}; {judged['needed']} must hold"


def _missing(missing: Sequence[str]) -> str:
    more = len(missing) - MOST_MISSING
    return "; ".join(missing[:MOST_MISSING]) + (f"; and {more} more, listed in claims.json" if more > 0 else "")


def in_words(kind: str, given: Mapping[str, Any]) -> str:
    """What a test asks, as one line."""
    bounds = " and ".join(f"{word} {given[name]:g}" for name, word in BOUNDS.items() if name in given)
    share = f", in {100 * given['share']:g} % of them or more" if given.get("share", 1) < 1 else ""
    return f"{_subject(kind, given)}: {bounds}{share}"


def _subject(kind: str, given: Mapping[str, Any]) -> str:
    cells = _selected(given.get("of", given.get("cells", {}))) or "every cell"
    match kind:
        case "correlation":
            within = f", for each {' and '.join(given['within'])}" if given.get("within") else ""
            method = given.get("method", "spearman").capitalize()
            return f"{method} correlation of {given['between'][0]} with {given['between'][1]} over {cells}{within}"
        case "variation":
            return f"coefficient of variation of {given['column']} across {given['across']} in {cells}"
        case "value":
            return f"{given['column']} of {cells}"
    return f"{given['column']} of {cells}{WORDS[kind]}{_against(given)}"


def _against(given: Mapping[str, Any]) -> str:
    target = given["to"]
    if "value" in target:
        return f"{target['value']:g}"
    differs = _selected({axis: value for axis, value in target.items() if axis in Point._fields})
    return f"{target.get('column', 'that')} of the same cell" + (f" with {differs}" if differs else "")


def _selected(selector: Mapping[str, Any]) -> str:
    """A selector in words."""
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
    """The numbers that a verdict rests on."""
    findings, columns = judged["findings"], judged["columns"]
    if kind in ("difference", "ratio", "value"):
        sides = ["cell", "against"][: max(len(finding["cells"]) for finding in findings)]
        names = columns if len(set(columns)) == len(columns) else [columns[0], f"{columns[1]} against"]
        titles = [*sides, *names, *([NUMBER_TITLES[kind]] if kind != "value" else [])]
        rows = [_pair_row(kind, finding, len(names)) for finding in findings]
    else:
        titles = ["cells", NUMBER_TITLES.get(kind, "correlation")]
        rows = [[name_of(finding["cells"]), _number(finding["number"])] for finding in findings]
    ends = [[_interval(f["interval"]), f["status"], ", ".join(f["notes"])] for f in findings]
    noted = any(finding["notes"] for finding in findings)
    rows = [[*row, *end][: None if noted else -1] for row, end in zip(rows, ends, strict=True)]
    return Table([*titles, "95 % interval", "finding", *(["note"] if noted else [])], rows)


def _pair_row(kind: str, finding: Mapping[str, Any], values: int) -> list[str]:
    shown = [_number(value) for value in finding["values"]] or [NA] * values
    return [*finding["cells"], *shown, *([_number(finding["number"])] if kind != "value" else [])]


def _interval(ends: Sequence[float | None] | None) -> str:
    if ends is None:
        return "not known"
    low, high = ends
    return f"{'-∞' if low is None else _number(low)} to {'∞' if high is None else _number(high)}"


def _number(value: float | None) -> str:
    return NA if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def markdown(blocks: Sequence[Block]) -> str:
    """Blocks as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            return (f"**{block.label}.** " if block.label else "") + block.text
    lines = [block.columns, ["---"] * len(block.columns), *block.rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def as_html(blocks: Sequence[Block]) -> str:
    """Blocks as one HTML page."""
    body = "\n".join(_html(block) for block in blocks)
    return f"<!doctype html><meta charset='utf-8'><title>Claims</title><style>{STYLE}</style>\n{body}\n"


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level} id='{html.escape(block.anchor)}'>{html.escape(block.text)}</h{block.level}>"
        case Paragraph():
            label = f"<b>{html.escape(block.label)}.</b> " if block.label else ""
            return f"<p>{label}{_coloured(block.text)}</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in block.columns)
    rows = ("".join(_html_cell(text, block.links and not n) for n, text in enumerate(row)) for row in block.rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _html_cell(text: str, link: bool) -> str:
    if link:
        return f"<td><a href='#{html.escape(text)}'>{html.escape(text)}</a></td>"
    kind = CLASSES.get(text) or ("number" if text[:1].isdigit() or text[:1] == "-" or text == NA else "")
    return f"<td class='{kind}'>{html.escape(text)}</td>"


def _coloured(text: str) -> str:
    """A paragraph that begins with a verdict shows it as tables do."""
    verdict, _, rest = text.partition(":")
    if verdict in CLASSES:
        return f"<span class='{CLASSES[verdict]}'>{html.escape(verdict)}</span>:{html.escape(rest)}"
    return html.escape(text)
