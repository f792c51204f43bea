"""Which of a search's models count."""

import pandas as pd

from longwatt.results.judge_claims import Evidence
from longwatt.results.search import chosen
from longwatt.study.claims import ClaimPoint

AXES = {"dataset": "d", "seq_len": 8, "budget": "b", "protocol": "classified", "seed": 1}


def cell(name: str, variant_of: str | None = None, **axes) -> dict:
    return {**AXES, "cell": name, "model": name, "variant_of": variant_of, **axes}


def test_the_best_on_validation_of_each_search_counts():
    cells = [
        (cell("a", "m"), 80.0),
        (cell("b", "m"), 81.0),
        (cell("c"), None),
        (cell("d", "m", seed=2), 1.0),
    ]
    assert chosen(cells) == {"b", "c", "d"}


def test_of_equals_the_first_counts_and_of_an_unfinished_search_none():
    assert chosen([(cell("a", "m"), 80.0), (cell("b", "m"), 80.0)]) == {"a"}
    assert chosen([(cell("a", "m"), 80.0), (cell("b", "m"), None)]) == set()


def test_claims_hear_the_chosen_model_under_the_name_of_the_search():
    known = [
        {**cell(name, "m"), "inference": "p", "model": "m", "left_out": None} for name in ("a", "b")
    ]
    rows = [
        {**cell(name, "m"), "inference": "p", "selected": name == "b", "score": score,
         "score_name": "accuracy",
         "score_ci_low": score - 1, "score_ci_high": score + 1}
        for name, score in (("a", 70.0), ("b", 90.0))
    ]  # fmt: skip
    evidence = Evidence(pd.DataFrame(rows), known)
    point = ClaimPoint("d", "m", 8, "b", "classified", "p")
    assert evidence.points == [point] and evidence.lacks(point, "score") == []
    assert evidence.estimate(point, "score").value == 90
