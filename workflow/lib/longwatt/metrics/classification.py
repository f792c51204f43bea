"""Accuracy and macro F1 of predicted labels, x 100, with intervals over examples.

Macro F1 is the unweighted mean of the classes' F1 = 2 TP / (2 TP + FP + FN), over the classes that occur among the
right or the predicted labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt.metrics import ScoringError, check_ids
from longwatt.metrics.resampling import percentile_interval, resampled_sums

ACCURACY, MACRO_F1 = "accuracy", "macro_f1"
CLASSIFICATION = (ACCURACY, MACRO_F1)

Array = NDArray[Any]
Labels = Mapping[str, str]
# By example's id: accuracy (0 or 100), label and prediction.
PerExample = Mapping[str, Mapping[str, Any]]
Interval = tuple[float, float]


def classify_examples(predictions: Labels, labels: Labels) -> dict[str, dict[str, Any]]:
    """Every example's accuracy (0 or 100), label and prediction, in the labels' order.

    Raises:
        ScoringError: ids are missing or unknown.
    """
    check_ids(predictions, {id_: (label,) for id_, label in labels.items()})
    return {
        id_: {"accuracy": 100.0 * (predictions[id_] == label), "label": label, "prediction": predictions[id_]}
        for id_, label in labels.items()
    }


def classification_scores(per_example: PerExample) -> dict[str, float]:
    """Accuracy and macro F1 of the whole, unrounded."""
    predicted, gold, classes = _indices(per_example)
    return corpus_of(predicted, gold, classes)


def headline_score(metric: str, predictions: Labels, labels: Labels) -> float:
    """Accuracy or macro F1 of predicted labels by id.

    Raises:
        ScoringError: ids are missing or unknown, or the metric is none of classification.
    """
    if metric not in CLASSIFICATION:
        raise ScoringError(f"{metric!r} is no metric of classification; it has {', '.join(CLASSIFICATION)}")
    return classification_scores(classify_examples(predictions, labels))[metric]


def classification_intervals(
    per_example: PerExample, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Percentile bootstrap over examples of both metrics.

    Args:
        per_example: as `classify_examples` returns.
        resamples: how many.
        confidence: between 0 and 1.
        seed: equal seeds give equal intervals.
    """
    found = _resampled(*_indices(per_example), resamples=resamples, seed=seed)
    return {metric: percentile_interval(values, confidence) for metric, values in found.items()}


def difference_intervals(
    first: PerExample,
    second: PerExample,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap of both metrics' differences, second less first, both from the same resampled examples.

    Raises:
        ScoringError: these are not predictions of the same examples.
    """
    check_ids({id_: "" for id_ in second}, {id_: ("",) for id_ in first})
    one, other = (
        _resampled(*_indices({id_: chosen[id_] for id_ in first}), resamples=resamples, seed=seed)
        for chosen in (first, second)
    )
    return {metric: percentile_interval(other[metric] - one[metric], confidence) for metric in CLASSIFICATION}


def corpus_of(predicted: Array, gold: Array, classes: int) -> dict[str, float]:
    """Accuracy and macro F1 of labels' indices (examples)."""
    sums = _marks(predicted, gold, classes).sum(axis=0, keepdims=True)
    return {metric: float(values[0]) for metric, values in _scores(sums, len(gold)).items()}


def _resampled(predicted: Array, gold: Array, classes: int, *, resamples: int, seed: int) -> dict[str, Array]:
    sums = resampled_sums(_marks(predicted, gold, classes), resamples=resamples, seed=seed)
    return _scores(sums, len(gold))


def _marks(predicted: Array, gold: Array, classes: int) -> Array:
    """Per example whether it is right, then by class a true positive, and what it adds to 2 TP + FP + FN."""
    own, other = np.eye(classes)[gold], np.eye(classes)[predicted]
    right = (predicted == gold).astype(float)[:, None]
    return np.concatenate([right, own * other, own + other], axis=1)


def _scores(sums: Array, examples: int) -> dict[str, Array]:
    """Both metrics of sums of `_marks` (resamples, 1 + 2 classes)."""
    right, (hits, weights) = sums[:, 0], np.split(sums[:, 1:], 2, axis=1)
    occurs = weights > 0
    f1 = np.divide(2 * hits, weights, out=np.zeros_like(weights), where=occurs)
    return {ACCURACY: 100 * right / examples, MACRO_F1: 100 * f1.sum(axis=1) / occurs.sum(axis=1)}


def _indices(per_example: PerExample) -> tuple[Array, Array, int]:
    """Indices of the predictions and of the labels, and how many classes occur among them."""
    predicted, gold = ([row[key] for row in per_example.values()] for key in ("prediction", "label"))
    names = {name: place for place, name in enumerate(sorted({*predicted, *gold}))}
    return _places(predicted, names), _places(gold, names), len(names)


def _places(labels: Sequence[str], names: Mapping[str, int]) -> Array:
    return np.array([names[label] for label in labels])
