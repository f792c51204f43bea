"""Audits: what a cascade costs, and when it does not pay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatt.cascades.audit import (
    BY_CHANCE,
    DOES_NOT,
    ESCALATES,
    LOSES,
    NO_CHEAPER,
    PAYS,
    SINGLE_BETTER,
    agreement_facts,
    break_even_rate,
    cascade_cost,
    pair_facts,
    single_facts,
)
from longwatt.cascades.real import run_facts
from longwatt.cascades.words import Words
from longwatt.study.cascades import MEAN
from tests.unit.cascades.made import CHEAP, DEAR, HOW, MIDDLE, answers, group, member, point

KNOWS = np.arange(100) % 4 != 0  # the first cell knows three quarters, and that it does
SURE = np.where(KNOWS, -0.1, -3.0).tolist()
RIGHT = np.full(100, 100.0)
NAMES = {CHEAP: "64 tokens", MIDDLE: "128 tokens", DEAR: "256 tokens"}


def audited(cheap_joules=1.0, dear_joules=10.0, middle=None, stated=None, sure=SURE):
    first = member(CHEAP, cheap_joules, answers(stated if stated is not None else 100 * KNOWS,
                                                sure), answers(100 * KNOWS, SURE))  # fmt: skip
    last = member(DEAR, dear_joules, answers(RIGHT))
    members = [first, *([middle] if middle else []), last]
    singles = single_facts(group(*members), HOW)
    return pair_facts("J", (first, last), singles, 0.99, HOW)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0, 1))
def test_a_cascade_costs_less_than_its_last_cell_below_the_break_even_rate_alone(first, last, rate):
    even = break_even_rate((first, last))
    cost = cascade_cost((first, last), rate)
    assert 0 <= even <= 1
    if abs(rate - even) > 1e-6:
        assert (cost < last) == (rate < even)


def test_a_cascade_that_knows_what_it_does_not_know_pays():
    found = audited()
    assert found["verdict"] == PAYS
    assert found["stated"]["rate"] == pytest.approx(0.25)
    assert found["stated"]["score"] == 100
    assert found["stated"]["cost"] == pytest.approx(1 + 0.25 * 10)
    assert found["break_even_rate"] == pytest.approx(0.9)
    assert found["oracle"]["best"] == pytest.approx({"rate": 0.25, "score": 100, "cost": 3.5})
    assert found["oracle"]["keeps"]["rate"] == pytest.approx(0.24), "99 of 100 are enough"
    assert found["at_best"]["score"] == 100


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cheap_joules": 8.0}, ESCALATES),
        ({"cheap_joules": 12.0}, NO_CHEAPER),
        ({"stated": np.zeros(100)}, LOSES),
        ({"middle": member(MIDDLE, 3.0, answers(RIGHT))}, SINGLE_BETTER),
    ],
)
def test_a_cascade_that_does_not_pay_says_why(changes, why):
    found = audited(**changes)
    assert (found["verdict"], found["why"]) == (DOES_NOT, why)
    said = Words(NAMES, "J", False).verdict(found, 0.99)
    assert said.startswith("do not cascade: 64 tokens, then 256 tokens. ")
    wanted = {
        ESCALATES: "It asks 256 tokens in 25 % of the requests, above the 20 % from which",
        NO_CHEAPER: "64 tokens costs no less than 256 tokens.",
        LOSES: "it keeps 25.0 % of the better cell's score, not 99 %.",
        SINGLE_BETTER: "128 tokens alone scores as much at no more cost; the cascade has a score",
    }
    assert wanted[why] in said


def test_a_paying_cascade_is_said_with_its_rate_its_break_even_and_its_score():
    said = Words(NAMES, "J", True).verdict(audited(), 0.99)
    assert said.startswith(
        "cascade: 64 tokens, then 256 tokens. It asks 256 tokens in 25 % of the requests, below "
        "the 90 % from which 256 tokens alone costs less, and has a score of 100.00 at 3.50 J, "
        "+0.00 ("
    )


def test_a_score_that_may_be_lost_by_chance_decides_nothing():
    stated = np.where(np.arange(100) < 3, 0.0, 100.0)
    found = audited(stated=stated, sure=[-3.0, *[-0.1] * 99])
    assert (found["verdict"], found["why"]) == (BY_CHANCE, LOSES)
    said = Words(NAMES, "J", False).verdict(found, 0.99)
    assert "it keeps 98.0 % of the better cell's score, not 99 %; that may be chance" in said


def test_two_cheap_cells_that_agree_are_both_paid():
    texts = ["same"] * 100
    other = ["same" if knows else "other" for knows in KNOWS]
    members = (
        member(CHEAP, 1.0, answers(100 * KNOWS, texts=texts)),
        member(MIDDLE, 2.0, answers(100 * KNOWS, texts=other)),
        member(DEAR, 10.0, answers(RIGHT)),
    )
    singles = single_facts(group(*members), HOW)
    found = agreement_facts("J", members, singles, 0.99, HOW)
    assert found["stated"]["rate"] == pytest.approx(0.25)
    assert found["stated"]["cost"] == pytest.approx(1 + 2 + 0.25 * 10)
    assert (found["stated"]["score"], found["verdict"]) == (100, PAYS)


def run_point(texts, escalated, joules):
    facts = tuple({MEAN: 0.0, "escalated": one} for one in escalated)
    found = answers(RIGHT, texts=texts)
    whole = type(found)(found.sample, found.answers, facts, found.score_name)
    said = {"first": CHEAP, "confidence": MEAN, "threshold": -1.0, "escalation_rate": 0.25}
    return point(DEAR, whole, joules, inference="cascade", cascade=said)


def test_a_run_is_set_beside_what_its_cells_say_alone():
    first = member(CHEAP, 1.0, answers(100 * KNOWS, SURE, texts=["cheap"] * 100))
    last = member(DEAR, 10.0, answers(RIGHT, texts=["dear"] * 100))
    texts = ["cheap" if knows else "dear" for knows in KNOWS]
    run = run_point(texts, (~KNOWS).tolist(), 3.6)
    found = run_facts(group(first, last, cascades=[run]), run)
    assert found["differing_answers"] == found["differing_escalations"] == 0
    assert found["computed_cost"] == pytest.approx(3.5)
    assert found["computed_score"] == found["score"] == 100
    said = Words(NAMES, "J", False).run(found)
    assert "All 100 answers agree; it costs 1.03 times what was computed, within" in said

    moved = run_point(["dear", *texts[1:-1], "odd"], [False, *(~KNOWS).tolist()[1:]], 7.0)
    found = run_facts(group(first, last), moved)
    assert (found["differing_answers"], found["differing_escalations"]) == (1, 1)
    said = Words(NAMES, "J", False).run(found)
    assert "1 of 100 answers differ, and 1 examples are escalated in one of them only" in said
    assert "2.00 times what was computed, beyond" in said


def test_a_run_of_a_split_that_a_cell_did_not_answer_alone_says_so():
    last = member(DEAR, 10.0, answers(RIGHT))
    run = run_point(["x"] * 100, [True] * 100, None)
    found = run_facts(group(last), run)
    assert found["missing"] == CHEAP
    said = Words(NAMES, "J", False).run(found)
    assert "at NA; 64 tokens did not answer these examples alone" in said


def test_a_run_of_other_examples_is_compared_with_nothing():
    first, last = member(CHEAP, 1.0, answers(RIGHT[:40])), member(DEAR, 10.0, answers(RIGHT))
    found = run_facts(group(first, last), run_point(["x"] * 100, [True] * 100, 3.0))
    assert found["missing"] == CHEAP and "computed_score" not in found


def test_an_oracle_below_a_single_cell_is_stated_at_its_highest():
    """A geometric mean may be highest where no example gains anything by itself."""
    first = member(CHEAP, 1.0, answers([[100, 0], [100, 0]], [-1.0, -2.0]))
    last = member(DEAR, 10.0, answers([[0, 100], [100, 0]]))
    assert last.stated.sample.value > 0 == first.stated.sample.value
    found = pair_facts("J", (first, last), single_facts(group(first, last), HOW), 0.99, HOW)
    assert found["oracle"]["keeps"] == found["oracle"]["best"]


def test_more_than_the_two_can_reach_together_is_stated_at_their_highest():
    members = (
        member(CHEAP, 1.0, answers([100, 0], [-1.0, -2.0])),
        member(DEAR, 9.0, answers([100, 0])),
    )
    found = pair_facts("J", members, single_facts(group(*members), HOW), 1.5, HOW)
    assert found["oracle"]["keeps"] == found["oracle"]["best"]
