"""Scores equal SCROLLS' own."""

import random
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from longwatt.metrics import (
    ScoringError,
    bootstrap_interval,
    corpus_scores,
    exact_match,
    normalize_answer,
    score_examples,
    token_f1,
)

PREDICTIONS = {"a": "exact match example", "b": "hello there", "c": "general kenobi"}
REFERENCES = {"a": ["exact match example"], "b": ["hello", "hi there"], "c": ["commander kenobi"]}
WORDS = [
    "the",
    "a",
    "cat",
    "Cat,",
    "sat",
    "on",
    "mat.",
    "an",
    "dog-house",
    "can't",
    "42",
    "-",
    "über",
]
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def test_the_golden_case():
    corpus = {
        name: round(score, 4)
        for name, score in corpus_scores(score_examples(PREDICTIONS, REFERENCES)).items()
    }
    assert corpus == {
        "rouge1": 72.2222,
        "rouge2": 33.3333,
        "rougeL": 72.2222,
        "rouge_geometric_mean": 55.8136,
        "exact_match": 33.3333,
        "f1": 72.2222,
        "accuracy": 33.3333,
    }


def squad_f1(prediction: str, reference: str) -> float:
    """Token F1 written another way: counts by removal from a list."""

    def tokens(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return [word for word in re.split(r"\s+", re.sub(r"\b(a|an|the)\b", " ", kept)) if word]

    predicted, left = tokens(prediction), tokens(reference)
    expected, shared = len(left), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / expected
    return 100 * 2 * precision * recall / (precision + recall)


@given(texts, texts)
def test_f1_equals_an_independent_squad_f1(prediction, reference):
    assert token_f1(prediction, reference) == pytest.approx(squad_f1(prediction, reference))


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_rouge_is_the_maximum_over_references_of_rouge_score(prediction, references):
    found = score_examples({"x": prediction}, {"x": references})["x"]
    for name in ("rouge1", "rouge2", "rougeL"):
        scorer = RougeScorer([name], use_stemmer=False)
        each = [scorer.score(reference, prediction)[name].fmeasure for reference in references]
        assert found[name] == 100 * max(each)


def test_each_metric_has_its_own_best_reference():
    found = score_examples(
        {"x": "red cat sat"}, {"x": ["red cat sat on a very big old mat", "sat cat red"]}
    )["x"]
    assert found["f1"] == 100 and found["rouge1"] == 100
    assert 0 < found["rouge2"] < 100


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat!", "cat"),
        ("a.n.", ""),  # punctuation goes first, and leaves an article
        ("theatre", "theatre"),
        ("An a the", ""),
        ("it's", "its"),
    ],
)
def test_answers_are_normalised_as_squad_does(text, normal):
    assert normalize_answer(text) == normal


def test_exact_match_is_after_normalisation():
    assert exact_match("The cat.", "cat") == 100 and exact_match("cats", "cat") == 0


def test_only_what_is_asked_for_is_computed():
    assert set(score_examples(PREDICTIONS, REFERENCES, metrics=("f1",))["a"]) == {"f1"}
    assert "rouge_geometric_mean" not in corpus_scores(
        score_examples(PREDICTIONS, REFERENCES, metrics=("f1",))
    )


@pytest.mark.parametrize(
    ("predictions", "references", "said"),
    [
        (
            {"a": "x"},
            REFERENCES,
            "2 ids have no prediction; predict every example of the split: b, c",
        ),
        ({**PREDICTIONS, "z": "x"}, REFERENCES, "1 ids are predicted but have no reference.*: z"),
        (PREDICTIONS, {**REFERENCES, "c": []}, "1 ids have no reference text.*: c"),
        ({}, {}, "no example"),
    ],
)
def test_what_does_not_belong_together_is_named(predictions, references, said):
    with pytest.raises(ScoringError, match=said):
        score_examples(predictions, references)


def some_scores(count: int) -> dict[str, dict[str, float]]:
    source = random.Random(count)
    names = ("rouge1", "rouge2", "rougeL", "f1")
    return {str(i): {name: source.uniform(0, 100) for name in names} for i in range(count)}


@pytest.mark.parametrize("metric", ["rouge", "f1"])
def test_the_interval_is_that_of_a_slow_reference(metric):
    scores = some_scores(50)
    low, high, _ = bootstrap_interval(scores, metric, resamples=300, confidence=0.9, seed=4)
    source, values = (
        np.random.default_rng(4),
        [scores[id_] for id_ in sorted(scores)],
    )  # as they are drawn
    found = []
    for start in range(0, 300, 64):
        for row in source.integers(0, 50, (min(64, 300 - start), 50)):
            means = corpus_scores({str(n): values[i] for n, i in enumerate(row)})
            found.append(means["rouge_geometric_mean" if metric == "rouge" else metric])
    assert (low, high) == pytest.approx(tuple(np.percentile(found, [5, 95])))


def test_the_interval_holds_the_score_and_shrinks_with_examples():
    few, many = some_scores(20), some_scores(2000)
    narrow, wide = bootstrap_interval(many, "f1"), bootstrap_interval(few, "f1")
    assert narrow[0] < corpus_scores(many)["f1"] < narrow[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 3
    assert bootstrap_interval(few, "f1", seed=1) == bootstrap_interval(few, "f1", seed=1) != wide
