"""Fronts of score and cost: which points are on them, which are beaten, which are open."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.results.contenders import Contender, drawn_together
from longwatt.results.frontier import BEATEN, ON_FRONT, OPEN, frontiers, on_front
from longwatt.study.summary_columns import FRONTIER_COLUMNS, FRONTIER_COSTS
from tests.answer_study import HARD, IDS, AnswerStudy, noise

HOW = Resampling(200)
NUMBERS = st.integers(0, 6).map(float)


@pytest.fixture
def study(tmp_path) -> AnswerStudy:
    return AnswerStudy(tmp_path)


def test_the_cheap_and_the_good_are_on_the_front_and_what_both_beat_is_not(study):
    study.add("cheap", 0, train_kwh=1)
    study.add("good", 20, train_kwh=2)
    study.add("beaten", 5, train_kwh=3)
    found = study.fronts()
    assert [found[m]["frontier_train_energy"] for m in ("cheap", "good", "beaten")] == [
        ON_FRONT, ON_FRONT, BEATEN,
    ]  # fmt: skip
    assert found["beaten"]["frontier_train_energy_share"] == 0
    assert found["beaten"]["frontier_train_energy_by"] == "d/good/64/cpu/generated/greedy"
    assert found["cheap"]["frontier_train_energy_share"] == 1
    assert found["cheap"]["frontier_train_energy_by"] is None


def test_a_dearer_point_of_about_the_same_score_is_open(study):
    study.add("cheap", 0, train_kwh=1)
    study.add("dear", 0, train_kwh=2)
    dear = study.fronts()["dear"]
    assert dear["frontier_train_energy"] == OPEN and 0 < dear["frontier_train_energy_share"] < 1


def test_equal_answers_are_beaten_by_the_cheaper_and_share_a_front_at_equal_cost(study):
    study.add("cheap", 0, train_kwh=1, values=HARD)
    study.add("dear", 0, train_kwh=2, values=HARD)
    found = study.fronts()
    assert found["dear"]["frontier_train_energy"] == BEATEN
    assert found["dear"]["frontier_train_energy_share"] == 0
    assert found["dear"]["frontier_memory"] == found["cheap"]["frontier_memory"] == ON_FRONT


def test_few_examples_that_differ_decide_nothing(study):
    better = HARD.copy()
    better[:2] += 5
    study.add("cheap", 0, train_kwh=1, values=better)
    study.add("dear", 0, train_kwh=2, values=HARD)
    dear = study.fronts()["dear"]
    assert dear["frontier_train_energy"] == OPEN and dear["frontier_train_energy_share"] <= 0.2


def test_what_a_point_does_not_know_it_is_not_compared_by(study):
    study.add("metered", 0, train_kwh=1)
    study.add("not", 20, train_kwh=None, joules=None)
    found = study.fronts()
    assert found["not"]["frontier_train_energy"] is None and found["not"]["frontier_money"] is None
    assert found["not"]["frontier_lifecycle_energy_share"] is None
    assert found["not"]["lifecycle_energy_kwh"] is None
    assert found["metered"]["frontier_train_energy"] == ON_FRONT
    assert found["not"]["frontier_inference_time"] == ON_FRONT


def test_diverged_trainings_and_cells_that_a_search_beat_beat_nothing(study):
    study.add("plain", 0, train_kwh=2)
    study.add("lost", 30, train_kwh=1, ended_by="divergence")
    study.add("beaten", 30, train_kwh=1, variant_of="searched", selected=False)
    found = study.fronts()
    assert found["plain"]["frontier_train_energy"] == ON_FRONT
    assert all(found[m][name] is None for m in ("lost", "beaten") for name in FRONTIER_COLUMNS)


def test_splits_and_metrics_have_fronts_of_their_own(study):
    study.add("test", 0, train_kwh=2)
    study.add("validation", 30, train_kwh=1, split="validation")
    study.add("metric", 30, train_kwh=1, values=HARD, score_name="f1", dataset="other")
    assert {row["frontier_train_energy"] for row in study.fronts().values()} == {ON_FRONT}


def test_a_model_before_training_took_no_energy_and_its_requests_do(study):
    study.add("untrained", 0, train_kwh=None, weights="initial")
    study.add("trained", 20, train_kwh=2)
    found = study.fronts(requests=100_000)
    assert found["untrained"]["lifecycle_energy_kwh"] == pytest.approx(1.0)  # 1e5 x 36 J
    assert found["trained"]["lifecycle_energy_kwh"] == pytest.approx(3.0)
    assert found["untrained"]["frontier_train_energy"] == ON_FRONT
    assert found["untrained"]["lifecycle_energy_source"] == "measured"


def test_seeds_are_one_point_and_make_it_less_sure(study):
    for seed, gain in ((1, -8), (2, 0), (3, 8)):
        study.add("cheap", 0, train_kwh=1, values=HARD, seed=seed)
        study.add("dear", 0, train_kwh=2, values=HARD + 3 + gain, seed=seed)
    rows = study.fronts()
    assert rows["dear"]["frontier_train_energy"] == OPEN
    assert 0.5 < rows["dear"]["frontier_train_energy_share"] < 0.95


def test_spread_of_a_cost_over_seeds_leaves_the_front_open(study):
    for seed, kwh in ((1, 1.0), (2, 5.0), (3, 9.0)):
        study.add("varied", 6, train_kwh=kwh, seed=seed)
        study.add("steady", 0, train_kwh=5.5, seed=seed)
    found = study.fronts()
    assert found["steady"]["frontier_train_energy"] == OPEN  # whose mean costs more, or less


def made(count: int, seed: int) -> list[Contender]:
    source = np.random.default_rng(seed)
    gains = source.integers(-3, 4, count)
    many = drawn_together(
        [Scores([Sample.of(IDS, (HARD + g + noise(n))[:, None])], HOW) for n, g in enumerate(gains)]
    )
    costs = [{key: [float(c)] for key in FRONTIER_COSTS} for c in source.integers(1, 4, count)]
    return [
        Contender(f"p{n}", one.value, one.draws, cost, one)
        for n, (one, cost) in enumerate(zip(many, costs, strict=True))
    ]


def test_draws_of_many_are_those_of_each():
    for one in made(4, 0):
        assert one.scores is not None
        assert one.draws == pytest.approx(one.scores.samples[0].draws(HOW.resamples, HOW.seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(0, 99), st.randoms())
def test_a_front_does_not_depend_on_the_order_of_the_points(count, seed, random):
    points = made(count, seed)
    mixed = list(points)
    random.shuffle(mixed)
    assert placed(points) == placed(mixed)


def placed(points: list[Contender]) -> set:
    found = frontiers(points, HOW).items()
    return {
        (name, cost, place.status, place.share, frozenset(place.by))
        for name, places in found
        for cost, place in places.items()
    }


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_the_front_is_what_no_other_beats(points):
    scores, costs = (np.array(values) for values in zip(*points, strict=True))
    beaten = [
        any(c <= own_c and s >= own_s and (c, s) != (own_c, own_s) for s, c in points)
        for own_s, own_c in points
    ]
    assert on_front(scores, costs).tolist() == [not one for one in beaten]


def test_one_example_decides_nothing_but_that_the_cheapest_is_on_the_front(study):
    study.add("cheap", 0, train_kwh=1, values=[50.0])
    study.add("dear", 0, train_kwh=2, values=[60.0])
    found = study.fronts()
    assert found["cheap"]["frontier_train_energy"] == ON_FRONT
    assert found["dear"]["frontier_train_energy"] == OPEN
    assert found["dear"]["frontier_train_energy_share"] is None


def test_a_cascade_whose_first_training_diverged_has_no_place(study):
    study.add("first", 0, ended_by="divergence")
    study.add("cascade", 5, cascade_first="d/first/64/cpu/generated/seed1")
    study.add("other", 1)
    assert study.fronts()["cascade"]["frontier_train_energy"] is None


def test_examples_of_another_metric_than_the_summarys_have_no_place(study):
    study.add("a", 0)
    study.rows[0]["score_name"] = "accuracy"
    assert study.fronts()["a"]["frontier_train_energy"] is None
