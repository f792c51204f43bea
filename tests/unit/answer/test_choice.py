"""The choice: admissible, cheapest, made on one half and stated on the other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatt.answer.break_even import break_even, break_even_table
from longwatt.answer.choice import Limits, admitted, choose_cell, choose_each, half_evidence, halves
from longwatt.answer.facts import energy_facts
from longwatt.answer.measured import read_points
from longwatt.answer.points import main_fields, point_titles
from longwatt.answer.words import choice_words, even_words, neighbours
from longwatt.metrics.document_samples import with_documents
from longwatt.metrics.resampling import Resampling, Scores
from longwatt.results.life_cycle import CostParts
from tests.answer_study import AnswerStudy

HOW = Resampling(200)


@pytest.fixture
def study(tmp_path) -> AnswerStudy:
    """A cheap, a good and a dear cell, far apart."""
    found = AnswerStudy(tmp_path)
    found.add("cheap", -25, train_kwh=1, joules=3.6)
    found.add("good", 0, train_kwh=2, joules=7.2)
    found.add("dear", 10, train_kwh=9, joules=3.6)
    return found


def points_of(study: AnswerStudy, **options):
    return main_fields(read_points(study.write(), HOW, **options))["d"]


def chosen(study: AnswerStudy, **limits) -> str | None:
    choice = choose_cell(points_of(study), Limits(**limits), HOW)
    return choice.chosen.model if choice.chosen else None


def test_the_cheapest_that_keeps_the_least_score_is_chosen(study):
    assert chosen(study, min_score=10) == "cheap"
    assert chosen(study, min_score=40) == "good"
    assert chosen(study, min_score=55) == "dear"
    assert chosen(study) == "dear"  # nothing else is near the best


def test_limits_of_cost_are_kept_and_what_is_not_known_does_not_keep_them(study):
    study.add("unmetered", 20, train_kwh=None, joules=None)
    assert chosen(study, max_kwh=5) == "good"
    choice = choose_cell(points_of(study), Limits(), HOW)
    assert [point.model for point in choice.unknown] == ["unmetered"]
    assert "unmetered, 64 tokens" in " ".join(words(choice))


def test_requests_decide_between_training_and_inference(study):
    study.add("lean", 10, train_kwh=20, joules=0.36)
    assert chosen(study, requests=1_000) == "dear"
    assert chosen(study, requests=100_000_000) == "lean"


def words(choice) -> list[str]:
    return choice_words(choice, point_titles(choice.points, {}), HOW)


def test_nothing_that_qualifies_names_the_nearest_and_what_it_lacks(study):
    choice = choose_cell(points_of(study), Limits(min_score=90), HOW)
    assert choice.chosen is None and choice.nearest is not None and choice.nearest.model == "dear"
    (said,) = words(choice)
    assert said.startswith("Nothing qualifies. Nearest is dear, 64 tokens: it scores ")
    choice = choose_cell(points_of(study), Limits(max_ms=10), HOW)
    assert "it takes 100 ms, not 10 ms" in words(choice)[0]


def test_the_halves_share_no_example_and_the_statement_is_of_the_other(study):
    point = points_of(study)[0]
    first, second = halves(point, 7)
    assert sorted([*first, *second]) == list(point.scores.ids) and not {*first} & {*second}
    assert halves(point, 7) == (first, second) != halves(point, 8)
    choice = choose_cell(points_of(study), Limits(min_score=40), HOW, seed=7)
    stated = choice.stated[choice.chosen.id]
    assert stated.examples == len(second) == 60
    assert f"On the other half (60 examples), which had no part in the choice, it scores "\
        f"{stated.score:.1f} F1" in words(choice)[1]  # fmt: skip


def test_documents_stay_whole(study):
    for row in study.rows:
        folder = study.results / row["cell"] / "predict/greedy"
        table = (folder / "examples.csv").read_text().splitlines()
        named = [f"{line},m{place // 10}" for place, line in enumerate(table[1:])]
        (folder / "examples.csv").write_text("\n".join([table[0] + ",document", *named]))
        (folder / "scores.json").unlink()
    point = points_of(study)[0]
    first, _ = halves(point, 0)
    assert {len([i for i in first if int(i[1:]) // 10 == m]) for m in range(12)} == {0, 10}


def test_a_score_just_above_the_least_is_not_sure_enough(study):
    study.add("close", 1, train_kwh=0.5, joules=0.1)
    mean = next(p for p in points_of(study) if p.model == "close").score
    assert chosen(study, min_score=round(mean - 0.3, 1)) == "dear"


def test_a_clear_choice_is_sure_and_a_close_one_says_what_to_measure(study):
    sure = choose_cell(points_of(study), Limits(min_score=10), HOW)
    assert sure.sure == 1 and "examples instead of" not in " ".join(words(sure))
    study.add("twin", 7.5, train_kwh=8, joules=3.6)
    close = choose_cell(points_of(study), Limits(), HOW)
    assert close.sure < 1 and close.rival is not None
    assert any("To be surer, measure" in said and "more seeds" in said for said in words(close))


def test_neighbours_say_what_they_cost_and_score_and_when_they_pay(study):
    choice = choose_cell(points_of(study), Limits(min_score=40, requests=1_000_000), HOW)
    below, above = neighbours(choice, HOW)
    assert (below.point.model, above.point.model) == ("cheap", "dear")
    assert below.ratio == pytest.approx(2 / 4) and below.difference == pytest.approx(-25, abs=4)
    assert below.low < below.difference < below.high
    assert above.even.requests == pytest.approx(7_000_000)  # 7 kWh at 3.6 J each
    assert any("Up to 7,000,000 requests good, 64 tokens takes less" in said
               for said in words(choice))  # fmt: skip


def test_random_weights_estimates_and_unknown_energy_are_said(study):
    assert "(random weights)" in words(choose_cell(points_of(study), Limits(), HOW))[0]
    for row in study.rows:
        row |= {"train_energy_source": "estimate", "train_energy_flags": "short"}
    said = words(choose_cell(points_of(study), Limits(), HOW))
    assert "(estimated; flagged short)" in said[2]
    assert "energy with a meter" in said[-1]
    for row in study.rows:
        row |= {"train_energy_kwh": None, "joules_per_example": None}
    study.rows[1]["inference_samples_per_second"] = 50.0
    choice = choose_cell(points_of(study), Limits(min_score=40), HOW)
    assert choice.objective == "inference_time" and choice.chosen.model == "good"
    assert "Its energy is not known, so it was chosen by time of a request" in words(choice)[2]


def test_what_estimates_rest_on_is_named_once(study):
    assert not any("rest on" in said for said in energy_facts(points_of(study)))
    for row in study.rows:
        row |= {"train_energy_source": "estimate", "train_energy_basis": "rated: X, 90 W"}
        row |= {"inference_energy_basis": "rated: X, 90 W"}
    study.rows[0]["inference_energy_basis"] = "declared: watts_per_core"
    said = [one for one in energy_facts(points_of(study)) if "rest on" in one]
    assert sorted(one.partition("core, ")[2] for one in said) == [
        "declared: watts_per_core.", "rated: X, 90 W.",
    ]  # fmt: skip


def test_seeds_are_chosen_from_and_together_one_point(study):
    study.add("good", 0, train_kwh=4, joules=7.2, seed=2)
    (both,) = [p for p in points_of(study) if p.model == "good"]
    assert both.seeds == (1, 2) and both.costs(0)["train_energy"] == 3
    (one,) = points_of(study, seeds=(2,))
    assert one.seeds == (2,) and one.costs(0)["train_energy"] == 4


def test_points_that_cannot_be_compared_are_named_with_the_reason(study):
    study.add("lost", 30, train_kwh=0.1, ended_by="divergence")
    study.add("elsewhere", 30, train_kwh=0.1, split="validation")
    points = read_points(study.write(), HOW)
    choice = choose_each(points, Limits(), HOW)["d"]
    assert choice.chosen is not None and choice.chosen.model == "dear"
    said = choice_words(choice, point_titles(points, {}), HOW)
    assert "Left out, since a training diverged: lost, 64 tokens." in said
    assert any("other examples" in one and "elsewhere, 64 tokens" in one for one in said)


def test_too_few_examples_are_not_halved_and_that_is_said(tmp_path):
    study = AnswerStudy(tmp_path)
    study.add("one", 0, values=[50, 60, 40])
    choice = choose_cell(points_of(study), Limits(), HOW)
    assert choice.chosen is not None and not choice.halved
    assert "on what it was also chosen by" in words(choice)[1]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(1, 5)), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(20, 70)),
    st.integers(0, 9),
)
def test_the_chosen_is_admissible_and_nothing_admissible_is_cheaper(cells, least, seed):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        study = AnswerStudy(Path(folder))
        for number, (gain, kwh) in enumerate(cells):
            study.add(f"m{number}", gain, train_kwh=kwh, joules=0.0)
        points, limits = points_of(study), Limits(min_score=least)
        choice = choose_cell(points, limits, HOW, seed)
        first, _ = halves(points[0], seed)
        there = [point.on_part(first) for point in points]
        found = half_evidence(there, HOW)
        enough = admitted(found.values, found, limits)
        costs = np.array([point.costs(0)["lifecycle_energy"] for point in points])
        if choice.chosen is None:
            assert not enough.any()
            return
        place = points.index(choice.chosen)
        assert enough[place] and costs[enough].min() == costs[place]
        assert choice.chosen.id in choice.shares
        assert sum(choice.shares.values()) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("one", "other", "requests", "few", "many"),
    [
        ((1, 2), (2, 1), 3.6e6, 0, 1),
        ((2, 1), (1, 2), 3.6e6, 1, 0),
        ((1, 1), (2, 2), None, 0, 0),
        ((2, 1), (1, 1), None, 1, 1),
        ((1, 1), (1, 1), None, None, None),
        ((1, 2), (1, 1), None, 1, 1),
    ],
)
def test_break_even_of_two_cells(one, other, requests, few, many):
    found = break_even(*(CostParts(train_kwh=t, joules=j) for t, j in (one, other)))
    assert found is not None
    assert (found.requests, found.few, found.many) == (pytest.approx(requests), few, many)


def test_nothing_breaks_even_with_an_unknown_energy(study):
    assert break_even(CostParts(train_kwh=1), CostParts(train_kwh=1, joules=2)) is None
    study.add("unmetered", 20, train_kwh=None, joules=None)
    assert len(break_even_table(points_of(study))) == 3


def test_no_least_score_of_0_is_missed(tmp_path):
    study = AnswerStudy(tmp_path)
    study.add("none", 0, values=[0.0] * 30)
    assert chosen(study, min_score=0) == "none"


def test_older_results_take_documents_from_the_others_when_halved(tmp_path):
    study = AnswerStudy(tmp_path)
    study.add("old", 0)
    study.add("new", 0)
    old, new = points_of(study)
    sample = with_documents(new.scores.samples[0], {id_: id_[:3] for id_ in new.scores.ids})
    new = replace(new, scores=Scores([sample], HOW))
    found = choose_cell([old, new], Limits(), HOW)
    ids = {id_[:3] for id_ in found.stated[old.id].scores.ids}
    assert 10 * len(ids) == len(found.stated[old.id].scores.ids), "whole documents of ten each"


def test_few_examples_and_a_break_even_below_one_request_are_said(tmp_path):
    study = AnswerStudy(tmp_path)
    study.add("cheap", 0, values=[10.0, 20.0, 30.0, 40.0], joules=2.0)
    study.add("good", 0, values=[80.0, 90.0, 85.0, 95.0], train_kwh=1 + 1e-9, joules=1.9)
    (said,) = map(words, choose_each(points_of(study), Limits(), HOW).values())
    assert any("but 2 examples cannot stand for others" in one for one in said)
    even = break_even(CostParts(1, 3.6), CostParts(1 + 1e-7, 0))
    assert even_words(even, ("a", "b")) == "b takes less energy from the first request on."


def test_a_neighbour_of_equal_cost_is_said_to_be_so(tmp_path):
    study = AnswerStudy(tmp_path)
    for model, gain in (("one", 0), ("two", 20)):
        study.add(model, gain, weights="initial", train_kwh=None)
    study.add("three", 20, values=study_scores(study, 1))
    study.rows[2] |= {"weights": "initial", "train_energy_kwh": None}
    choice = choose_cell(points_of(study), Limits(requests=0), HOW)
    (beside,) = neighbours(choice, HOW)
    assert beside.ratio == 1
    assert any("has about the same life-cycle energy" in one for one in words(choice))


def study_scores(study: AnswerStudy, row: int) -> list[float]:
    """Read the scores of an earlier training's examples."""
    path = study.results / study.rows[row]["cell"] / "predict/greedy/examples.csv"
    return [float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]]
