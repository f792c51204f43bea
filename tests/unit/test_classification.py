"""Accuracy and macro F1 of predicted labels, and their intervals."""

import numpy as np
import pytest

from longwatt import metrics
from longwatt.metrics.classification import (
    classification_intervals,
    classification_scores,
    classify_examples,
    difference_intervals,
    headline_score,
)

GOLD = {"1": "a", "2": "a", "3": "b", "4": "c"}


def made_up(count: int, seed: int, right: float = 0.7) -> tuple[dict[str, str], dict[str, str]]:
    source = np.random.default_rng(seed)
    gold = {f"e{n}": str(source.choice(["x", "y", "z", "rare"], p=[0.5, 0.3, 0.18, 0.02])) for n in range(count)}
    said = {id_: label if source.random() < right else str(source.choice(["x", "y"])) for id_, label in gold.items()}
    return said, gold


def slow_macro_f1(pairs: list[tuple[str, str]]) -> float:
    found = []
    for name in {label for pair in pairs for label in pair}:
        hits = sum(said == gold == name for said, gold in pairs)
        wrong = sum((said == name) != (gold == name) for said, gold in pairs)
        found.append(2 * hits / (2 * hits + wrong))
    return 100 * sum(found) / len(found)


@pytest.mark.parametrize(
    ("said", "accuracy", "macro_f1"),
    [
        ({"1": "a", "2": "a", "3": "b", "4": "c"}, 100, 100),
        ({"1": "a", "2": "a", "3": "a", "4": "a"}, 50, 100 * (2 / 3) / 3),
        ({"1": "b", "2": "a", "3": "b", "4": "c"}, 75, 100 * (2 / 3 + 2 / 3 + 1) / 3),
        ({"1": "a", "2": "a", "3": "b", "4": "never seen"}, 75, 100 * 2 / 4),
    ],
)
def test_scores_are_those_counted_by_hand(said, accuracy, macro_f1):
    found = classification_scores(classify_examples(said, GOLD))
    assert found == pytest.approx({"accuracy": accuracy, "macro_f1": macro_f1})


def test_examples_keep_their_order_and_say_what_was_predicted():
    said = {"4": "a", "3": "b", "2": "a", "1": "c"}
    found = classify_examples(said, GOLD)
    assert list(found) == ["1", "2", "3", "4"]
    assert found["1"] == {"accuracy": 0.0, "label": "a", "prediction": "c"}
    assert found["3"]["accuracy"] == 100


def test_macro_f1_is_that_of_a_slow_reference():
    said, gold = made_up(300, 1)
    assert headline_score("macro_f1", said, gold) == pytest.approx(slow_macro_f1([(said[i], gold[i]) for i in gold]))
    assert headline_score("accuracy", said, gold) == pytest.approx(100 * np.mean([said[i] == gold[i] for i in gold]))


def test_intervals_are_those_of_a_slow_bootstrap_also_where_a_class_is_not_drawn():
    said, gold = made_up(60, 2)
    said, gold = {**said, "e0": "x"}, {**gold, "e0": "rare"}  # which is in only some of the resamples
    ids = list(gold)
    found = classification_intervals(classify_examples(said, gold), resamples=150, confidence=0.9, seed=5)
    source, slow = np.random.default_rng(5), []
    for size in (64, 64, 22):
        for drawn in source.integers(0, len(ids), (size, len(ids))):
            slow.append(slow_macro_f1([(said[ids[n]], gold[ids[n]]) for n in drawn]))
    assert found["macro_f1"] == pytest.approx(tuple(np.percentile(slow, [5, 95])))


def test_the_interval_of_accuracy_is_that_of_the_other_metrics():
    per_example = classify_examples(*made_up(200, 3))
    plain = {id_: {"accuracy": row["accuracy"]} for id_, row in per_example.items()}
    expected = metrics.bootstrap_interval(plain, "accuracy", resamples=300, seed=1)
    assert classification_intervals(per_example, resamples=300, seed=1)["accuracy"] == pytest.approx(expected)


def test_differences_are_paired_whatever_the_order():
    said, gold = made_up(400, 4, 0.6)
    changed = [id_ for id_ in gold if said[id_] != gold[id_]][:20]
    better = {**said, **{id_: gold[id_] for id_ in changed}}
    first, second = classify_examples(said, gold), classify_examples(better, gold)
    turned = dict(reversed(second.items()))
    low, high = difference_intervals(first, turned)["accuracy"]
    assert 0 < low < 5 < high < 10, "20 of 400 are better, none worse"
    apart = [classification_intervals(one)["accuracy"] for one in (first, second)]
    assert high - low < min(b - a for a, b in apart), "narrower than either alone"
    assert difference_intervals(first, first) == {"accuracy": (0, 0), "macro_f1": (0, 0)}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"1": "a", "2": "a", "3": "b"}, "1 ids have no prediction.*4"),
        ({**GOLD, "zz": "a"}, "1 ids are predicted but have no reference.*zz"),
    ],
)
def test_missing_and_unknown_ids_are_named(said, message):
    with pytest.raises(metrics.ScoringError, match=message):
        headline_score("accuracy", said, GOLD)


def test_a_metric_of_texts_is_refused():
    with pytest.raises(metrics.ScoringError, match="'rouge' is no metric of classification; it has accuracy, macro_f1"):
        headline_score("rouge", GOLD, GOLD)


def test_other_examples_cannot_be_subtracted():
    with pytest.raises(metrics.ScoringError, match="4"):
        difference_intervals(classify_examples(GOLD, GOLD), classify_examples({"1": "a"}, {"1": "a"}))
