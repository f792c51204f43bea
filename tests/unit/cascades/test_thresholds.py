"""Curves of cascades: extremes are single cells, and every point is what its threshold gives."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatt.cascades.members import CascadeError
from longwatt.cascades.thresholds import (
    cascaded,
    curve_of,
    escalated,
    fitted_place,
    kept_share,
    oracle_of,
    rate_of,
)
from tests.unit.cascades.made import HOW, sample

SCORE = st.sampled_from([0.0, 25.0, 50.0, 100.0])
SURE = st.one_of(st.just(math.nan), st.sampled_from([-3.0, -2.0, -1.5, -0.1, 0.0]))
EXAMPLES = st.lists(st.tuples(SCORE, SCORE, SURE), min_size=1, max_size=30).filter(
    lambda rows: any(not math.isnan(sure) for *_, sure in rows)
)


def parts(rows):
    first, last, sure = (np.array(column) for column in zip(*rows, strict=True))
    return sample(first), sample(last), sure


@given(EXAMPLES)
def test_extremes_are_the_single_cells(rows):
    first, last, sure = parts(rows)
    curve = curve_of(first, last, sure)
    unknown = np.isnan(sure)
    assert curve.rates[0] == pytest.approx(unknown.mean())
    assert curve.rates[-1] == 1
    assert curve.scores[-1] == pytest.approx(last.value)
    if not unknown.any():
        assert curve.scores[0] == pytest.approx(first.value)


@given(EXAMPLES)
def test_every_point_is_what_its_threshold_gives(rows):
    first, last, sure = parts(rows)
    curve = curve_of(first, last, sure)
    assert (np.diff(curve.rates) > 0).all(), "each threshold changes who answers"
    for threshold, rate, score in zip(curve.thresholds, curve.rates, curve.scores, strict=True):
        asked = escalated(sure, threshold)
        assert rate == pytest.approx(rate_of(first, asked))
        assert score == pytest.approx(cascaded(first, last, asked).value)


@given(EXAMPLES)
def test_no_threshold_beats_the_oracle(rows):
    first, last, sure = parts(rows)
    curve, oracle = curve_of(first, last, sure), oracle_of(first, last)
    best = np.maximum(first.values, last.values).mean()
    assert oracle.scores[-1] == pytest.approx(best)
    assert oracle.scores[0] == pytest.approx(first.value)
    for rate, score in zip(curve.rates, curve.scores, strict=True):
        within = oracle.scores[oracle.rates <= rate + 1e-9]
        assert score <= within.max() + 1e-9


def test_a_headline_that_is_a_geometric_mean_is_that_of_the_whole_corpus():
    first, last = sample([[10.0, 40.0], [90.0, 10.0]]), sample([[50.0, 20.0], [30.0, 30.0]])
    curve = curve_of(first, last, np.array([-2.0, -1.0]))
    middle = math.sqrt((50 + 90) / 2 * (20 + 10) / 2)
    assert curve.scores == pytest.approx([first.value, middle, last.value])


def test_the_threshold_lies_between_those_who_know_and_those_who_guess():
    """200 examples of which the first cell answers 60 % and knows it."""
    knows = np.arange(200) % 5 < 3
    first, last = sample(100.0 * knows), sample(np.full(200, 100.0))
    sure = np.where(knows, -0.1, -3.0)
    curve = curve_of(first, last, sure)
    place = fitted_place(curve, (first, last), sure, 0.99, HOW)
    assert -3.0 < curve.thresholds[place] < -0.1
    assert curve.rates[place] == pytest.approx(0.4)
    assert curve.scores[place] == 100


def test_a_fit_keeps_the_score_in_most_resamples_and_not_just_as_it_falls():
    source = np.random.default_rng(0)
    sure = -source.random(400)
    first = sample(100.0 * (source.random(400) > -sure))  # surer is righter
    last = sample(np.where(source.random(400) < 0.95, 100.0, 0.0))
    curve = curve_of(first, last, sure)
    place = fitted_place(curve, (first, last), sure, 0.95, HOW)
    bare = np.flatnonzero(curve.scores >= 0.95 * last.value)[0]
    assert place >= bare
    found = cascaded(first, last, escalated(sure, curve.thresholds[place]))
    assert kept_share(found, last, 0.95, HOW) >= HOW.confidence
    before = cascaded(first, last, escalated(sure, curve.thresholds[bare]))
    assert kept_share(before, last, 0.95, HOW) < HOW.confidence, "chance alone would keep it"


def test_nothing_is_escalated_where_the_first_cell_is_the_better_one():
    first, last = sample([100.0] * 20), sample([50.0] * 20)
    sure = np.linspace(-2, -1, 20)
    curve = curve_of(first, last, sure)
    assert curve.rates[fitted_place(curve, (first, last), sure, 0.99, HOW)] == 0


def test_two_cells_may_be_asked_for_more_than_either_scores_alone():
    """Each knows what the other does not, and the first knows which."""
    knows = np.arange(200) % 2 == 0
    first, last = sample(100.0 * knows), sample(100.0 * ~knows)
    sure = np.where(knows, -0.1, -3.0) - np.arange(200) / 1e4
    curve = curve_of(first, last, sure)
    places = [fitted_place(curve, (first, last), sure, keep, HOW) for keep in (1.5, 5.0)]
    assert 75 <= curve.scores[places[0]] < 100 == curve.scores[places[1]]
    assert curve.rates[places[0]] < curve.rates[places[1]] == 0.5


def test_no_known_confidence_is_refused():
    with pytest.raises(CascadeError, match="no confidence is known"):
        curve_of(sample([1.0]), sample([2.0]), np.array([math.nan]))
