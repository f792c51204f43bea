"""Judged claims as people and programs read them."""

import json

import pytest

from longwatt.files import sha256
from longwatt.layout.pages import Labelled
from longwatt.report.claims_page import claims_page, words_of_test, write_claims
from tests.spacing import single_spaced
from tests.unit.report.test_figures import as_file, row

CLAIMS = {
    "energy": {
        "statement": "Length | costs <energy>.",
        "source": "a paper",
        "tests": [
            {
                "ratio": {"column": "train_energy_kwh", "to": {"seq_len": "next"}, "below": 1},
                "reason": "any more counts",
            }
        ],
    },
    "score": {
        "statement": "It finds the needle.",
        "random_weights": True,
        "tests": [
            {"difference": {"column": "score", "to": {"column": "score_ceiling"}, "at_least": -10}}
        ],
    },
}
LENGTHS = (64, 128)


@pytest.fixture
def pages(tmp_path) -> tuple[str, str, dict]:
    """claims.md, claims.html and claims.json of two cells."""
    rows = [
        row(cell=f"c{n}", seq_len=n, train_energy_kwh=float(n), train_energy_source="estimate",
            score=22.0 - n / 64,
            score_ci_low=19.0, score_ci_high=23.0)
        for n in LENGTHS
    ]  # fmt: skip
    axes = {
        "dataset": "needle",
        "model": "led",
        "budget": "cpu",
        "protocol": "generated",
        "inference": "greedy",
    }
    cells = [{**axes, "cell": f"c{n}", "seq_len": n, "seed": 1, "left_out": None} for n in LENGTHS]
    summary = as_file(tmp_path, *rows)
    write_claims(
        summary,
        tmp_path / "claims.json",
        {"claims": CLAIMS, "cells": cells},
        {"rule": "judge_claims"},
    )
    found = json.loads((tmp_path / "claims.json").read_text())
    assert (
        found["summary_sha256"] == sha256(summary) and found["provenance"]["rule"] == "judge_claims"
    )
    return (
        single_spaced((tmp_path / "claims.md").read_text()),
        (tmp_path / "claims.html").read_text(),
        found["claims"],
    )


def test_every_claim_stands_with_its_verdicts_first(pages):
    text, _, _ = pages
    lines = text.splitlines()
    assert "| claim | statement | verdict | training steps alone | note |" in lines
    assert (
        "| energy | Length \\| costs \\<energy>. | supported | not decidable | estimated energy |"
        in lines
    )
    assert "| score | It finds the needle. | supported | | random weights |" in lines


def test_each_test_is_put_in_words_with_threshold_reason_and_numbers(pages):
    text, _, _ = pages
    asked = (
        "train_energy_kwh of every cell, divided by that of the same cell with the next longer "
        "seq_len: below 1"
    )
    assert f"### Test 1: {asked}" in text
    assert "**Threshold.** any more counts" in text and "**Source.** a paper" in text
    assert "**Verdict, whole run.** supported: of 1 comparison 1 hold; 1 must hold" in text
    assert "| 64 | 128 | 64 | 128 | 0.5 | not known | holds | estimated energy |" in text
    assert "| 64 | 64 | 21 | 25 | -4 | -6 to -2 | holds | random weights |" in text


def test_a_page_says_where_intervals_are_from_and_what_was_not_compared(pages):
    text, _, _ = pages
    assert (
        "**Intervals.** one cell's interval over examples (2)" in text
        and "Not compared" not in text
    )
    judged = {"columns": ["score", "score"], "verdict": "supported", "holds": 1, "fails": 0,
              "unclear": 0, "needed": 1,
              "unclear_because": [], "alone": ["led/128"], "findings": [
                  {"cells": ["a", "b"], "values": [2, 1], "number": 1, "interval": None,
                   "status": "holds",
                   "notes": [], "method": None}]}  # fmt: skip
    given = {"column": "score", "to": {"model": "b"}, "above": 0}
    test = {"kind": "difference", "given": given, "reason": None, "judged": {"whole run": judged}}
    claim = {
        "statement": "s",
        "source": None,
        "verdicts": {"whole run": "supported"},
        "notes": [],
        "tests": [test],
    }
    parts = [part for section in claims_page({"c": claim}, 0.95) for part in section.parts]
    assert (
        Labelled(
            "Not compared", "led/128: the grid has nothing to set beside them as this test asks"
        )
        in parts
    )


def test_what_a_verdict_lacks_is_named(pages):
    text, _, found = pages
    lacking = [f"train_steps_energy_kwh of c{n} is NA" for n in LENGTHS]
    assert f"**Unclear.** {'; '.join(lacking)}" in text
    (test,) = found["energy"]["tests"]
    assert test["judged"]["training steps alone"]["unclear_because"] == lacking
    assert "| 64 | 128 | NA | NA | NA | not known | unclear |" in text


def test_the_page_for_the_report_is_escaped_and_shows_verdicts_by_colour(pages):
    _, page, _ = pages
    assert "Length | costs &lt;energy&gt;." in page and "<energy>" not in page
    assert "<td class='words good'>supported</td><td class='words open'>not decidable</td>" in page
    assert "<a href='#energy'>energy</a>" in page and "<h2 id='energy'>" in page


def test_programs_find_every_number(pages):
    _, _, found = pages
    (test,) = found["score"]["tests"]
    judged = test["judged"]["whole run"]
    assert (judged["holds"], judged["fails"], judged["unclear"], judged["needed"]) == (2, 0, 0, 2)
    assert judged["findings"][0] == {
        "cells": ["64", "64"],
        "values": [21, 25],
        "number": -4,
        "interval": [-6, -2],
        "method": "one cell's interval over examples",
        "status": "holds",
        "why": [],
        "notes": ["random weights"],
    }
    assert test["given"]["at_least"] == -10


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("difference",
         {"column": "score", "of": {"seq_len": 64, "model": ["a", "b", "c"]}, "to": {"value": 26.6},
         "at_least": 8, "at_most": 12},
         "score of model a, b or c, seq_len 64, less 26.6: at least 8 and at most 12"),
        ("equivalent",
         {"column": "score", "of": {"attention": "fast"}, "to": {"attention": "stock"},
          "within": 0.5},
         "score of attention fast, less that of the same cell with attention stock: equivalent "
         "within ±0.5"),
        ("ratio",
         {"column": "score", "to": {"model": "b", "seq_len": "longer"}, "above": 1, "share": 0.5},
         "score of every cell, divided by that of the same cell with model b, any longer "
         "seq_len: above 1, in 50 % of "
         "them or more"),
        ("correlation", {"between": ["seq_len", "score"], "within": ["model"], "below": 0},
         "Spearman correlation of seq_len with score over every cell, for each model: below 0"),
        ("variation",
         {"column": "score", "across": "dataset", "cells": {"budget": "b"}, "at_most": 0.2},
         "coefficient of variation of score across dataset in budget b: at most 0.2"),
        ("value", {"column": "score", "of": {"model": "b"}, "below": 5},
         "score of model b: below 5"),
    ],
)  # fmt: skip
def test_a_test_in_words(kind, given, words):
    assert words_of_test(kind, given) == words


def test_an_equivalence_says_which_interval_it_prints(tmp_path):
    test = {"equivalent": {"column": "score", "to": {"value": 22}, "within": 2}}
    axes = {"dataset": "d", "model": "led", "seq_len": 64, "budget": "cpu",
            "protocol": "generated", "inference": "greedy", "cell": "c", "seed": 1}  # fmt: skip
    known = {"score": 22.0, "score_ci_low": 21.0, "score_ci_high": 23.0, "initialisation": "x"}
    settings = {
        "claims": {"same": {"statement": "It is the same.", "tests": [test]}},
        "cells": [{**axes, "left_out": None}],
    }
    summary = as_file(tmp_path, row(**axes, **known))
    write_claims(summary, tmp_path / "claims.json", settings, {})
    text = single_spaced((tmp_path / "claims.md").read_text())
    assert (
        "Not significant is not the same" in text
        and "| same | It is the same. | supported |" in text
    )
    assert "| d | 22 | 0 | -1 to 1 | holds |" in text or "| 0 | -1 to 1 | holds |" in text


def test_another_confidence_is_said():
    said = [part for section in claims_page({}, 0.9) for part in section.parts]
    assert (
        "Intervals of scores over examples (and seeds with them) are of 90 %, all others of 95 %."
        in said
    )


def test_groups_are_named_by_what_they_share(tmp_path):
    rows = [
        row(cell=f"{m}{n}", model=m, seq_len=n, train_runtime_s=float(n))
        for m in "ab"
        for n in range(12)
    ]
    keys = ("cell", "dataset", "model", "seq_len", "budget", "protocol", "inference", "seed")
    cells = [{**{key: one[key] for key in keys}, "left_out": None} for one in rows]
    test = {
        "correlation": {
            "between": ["seq_len", "train_runtime_s"],
            "within": ["model"],
            "at_least": 0.7,
        }
    }
    settings = {"claims": {"c": {"statement": "s", "tests": [test]}}, "cells": cells}
    write_claims(as_file(tmp_path, *rows), tmp_path / "claims.json", settings, {})
    text = single_spaced((tmp_path / "claims.md").read_text())
    assert "| a (12 cells) | 1 | 0.9734 to 1 | holds |" in text and "| b (12 cells) | 1 |" in text
