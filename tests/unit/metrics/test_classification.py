"""Accuracy and macro F1 of predicted labels, and their intervals."""

import numpy as np
import pytest

from longwatt import metrics
from longwatt.metrics.classification import (
    classification_intervals,
    classification_scores,
    classify_examples,
    headline_score,
    labels_sample,
)
from longwatt.metrics.resampling import WILSON, Resampling, Scores, difference_of, wilson

GOLD = {"1": "a", "2": "a", "3": "b", "4": "c"}


def made_up(count: int, seed: int, right: float = 0.7) -> tuple[dict[str, str], dict[str, str]]:
    source = np.random.default_rng(seed)
    gold = {
        f"e{n}": str(source.choice(["x", "y", "z", "rare"], p=[0.5, 0.3, 0.18, 0.02]))
        for n in range(count)
    }
    said = {
        id_: label if source.random() < right else str(source.choice(["x", "y"]))
        for id_, label in gold.items()
    }
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
    assert headline_score("macro_f1", said, gold) == pytest.approx(
        slow_macro_f1([(said[i], gold[i]) for i in gold])
    )
    assert headline_score("accuracy", said, gold) == pytest.approx(
        100 * np.mean([said[i] == gold[i] for i in gold])
    )


def test_intervals_are_those_of_a_slow_bootstrap_also_where_a_class_is_not_drawn():
    said, gold = made_up(60, 2)
    said, gold = (
        {**said, "e0": "x"},
        {**gold, "e0": "rare"},
    )  # which is in only some of the resamples
    ids = sorted(gold)  # as they are drawn
    found = classification_intervals(
        classify_examples(said, gold), resamples=150, confidence=0.9, seed=5
    )
    source, slow = np.random.default_rng(5), []
    for size in (64, 64, 22):
        for drawn in source.integers(0, len(ids), (size, len(ids))):
            slow.append(slow_macro_f1([(said[ids[n]], gold[ids[n]]) for n in drawn]))
    assert found["macro_f1"].ends == pytest.approx(tuple(np.percentile(slow, [5, 95])))


def test_the_interval_of_accuracy_is_wilson_s_whatever_scores_it():
    per_example = classify_examples(*made_up(200, 3))
    plain = {id_: {"accuracy": row["accuracy"]} for id_, row in per_example.items()}
    expected = metrics.bootstrap_interval(plain, "accuracy")
    assert (
        classification_intervals(per_example)["accuracy"] == expected and expected.method == WILSON
    )
    share = sum(row["accuracy"] for row in per_example.values()) / 200 / 100
    assert expected.ends == pytest.approx([100 * end for end in wilson(share, 200, 0.95)])


def differences(first: dict, second: dict) -> dict[str, tuple[float, float]]:
    """Intervals of the second's scores less the first's."""
    sides = {
        m: [Scores([labels_sample(side, m)], Resampling()) for side in (second, first)]
        for m in METRICS
    }
    return {metric: difference_of(*both).ends for metric, both in sides.items()}


METRICS = ("accuracy", "macro_f1")


def test_differences_are_paired_whatever_the_order():
    said, gold = made_up(400, 4, 0.6)
    changed = [id_ for id_ in gold if said[id_] != gold[id_]][:20]
    better = {**said, **{id_: gold[id_] for id_ in changed}}
    first, second = classify_examples(said, gold), classify_examples(better, gold)
    turned = dict(reversed(second.items()))
    low, high = differences(first, turned)["accuracy"]
    assert 0 < low < 5 < high < 10, "20 of 400 are better, none worse"
    apart = [classification_intervals(one)["accuracy"].ends for one in (first, second)]
    assert high - low < min(b - a for a, b in apart), "narrower than either alone"


def test_equal_predictions_may_differ_on_examples_not_seen():
    said, gold = made_up(400, 4, 0.6)
    same = classify_examples(said, gold)
    found = differences(same, same)
    unseen = 100 * wilson(0, 400, 0.95)[1]
    assert found["accuracy"] == pytest.approx((-unseen, unseen)) and 0.9 < unseen < 1
    low, high = found["macro_f1"]
    assert low == -high and high > unseen, "the fewer a class has, the less is known of it"


def test_all_right_and_all_wrong_have_intervals_with_width():
    _, gold = made_up(200, 5)
    right = classification_intervals(classify_examples(gold, gold))
    assert right["accuracy"].high == 100 and right["accuracy"].low == pytest.approx(
        100 * 200 / 203.8415, abs=1e-3
    )
    assert right["macro_f1"].low < right["accuracy"].low < right["macro_f1"].high == 100
    wrong = classification_intervals(classify_examples(dict.fromkeys(gold, "never"), gold))
    assert wrong["accuracy"].low == 0 < wrong["accuracy"].high < wrong["macro_f1"].high


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
    with pytest.raises(
        metrics.ScoringError,
        match="'rouge' is no metric of classification; it has accuracy, macro_f1",
    ):
        headline_score("rouge", GOLD, GOLD)


def test_other_examples_cannot_be_subtracted():
    with pytest.raises(ValueError, match="same examples"):
        differences(classify_examples(GOLD, GOLD), classify_examples({"1": "a"}, {"1": "a"}))
