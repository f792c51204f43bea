"""Accuracy and macro F1 of predicted labels, x 100, with intervals over examples.

Macro F1 is the unweighted mean of the classes' F1 = 2 TP / (2 TP + FP + FN), over the classes that
occur among the right or the predicted labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from longwatt.metrics import ScoringError, check_ids
from longwatt.metrics.resampling import Array, Interval, Resampling, Sample, Scores, interval_of

ACCURACY, MACRO_F1 = "accuracy", "macro_f1"
CLASSIFICATION_METRICS = (ACCURACY, MACRO_F1)

LabelsById = Mapping[str, str]
# By example's id: accuracy (0 or 100), label and prediction.
ClassifiedExamples = Mapping[str, Mapping[str, Any]]


def classify_examples(predictions: LabelsById, labels: LabelsById) -> dict[str, dict[str, Any]]:
    """Return every example's accuracy (0 or 100), label and prediction, in the labels' order.

    Raises:
        ScoringError: ids are missing or unknown.
    """
    check_ids(predictions, {id_: (label,) for id_, label in labels.items()})
    pairs = {id_: (label, predictions[id_]) for id_, label in labels.items()}
    return {
        id_: {"accuracy": 100.0 * (said == label), "label": label, "prediction": said}
        for id_, (label, said) in pairs.items()
    }


def classification_scores(per_example: ClassifiedExamples) -> dict[str, float]:
    """Return accuracy and macro F1 over all examples, unrounded."""
    return corpus_of(*_indices(per_example))


def headline_score(metric: str, predictions: LabelsById, labels: LabelsById) -> float:
    """Return accuracy or macro F1 of predicted labels by id.

    Raises:
        ScoringError: ids are missing or unknown, or the metric is not one of classification.
    """
    if metric not in CLASSIFICATION_METRICS:
        known = ", ".join(CLASSIFICATION_METRICS)
        raise ScoringError(f"{metric!r} is no metric of classification; it has {known}")
    return classification_scores(classify_examples(predictions, labels))[metric]


def classification_intervals(
    per_example: ClassifiedExamples,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Find both metrics' intervals (`interval_of`), equal for equal seeds."""
    how = Resampling(resamples, confidence, seed)
    samples = {metric: labels_sample(per_example, metric) for metric in CLASSIFICATION_METRICS}
    return {metric: interval_of(Scores([sample], how)) for metric, sample in samples.items()}


def labels_sample(per_example: ClassifiedExamples, metric: str) -> Sample:
    """Gather what examples, with label and prediction, add to accuracy or macro F1."""
    predicted, gold, classes = _indices(per_example)
    right = 100.0 * (predicted == gold)[:, None]
    if metric == ACCURACY:
        return Sample.of(list(per_example), right)
    marks, score = _marks(predicted, gold, classes), lambda means: _scores(means, 1)[MACRO_F1]
    return Sample.of(list(per_example), right, marks, score, gold)


def corpus_of(predicted: Array, gold: Array, classes: int) -> dict[str, float]:
    """Return accuracy and macro F1 of the indices of labels (examples)."""
    sums = _marks(predicted, gold, classes).sum(axis=0, keepdims=True)
    return {metric: float(values[0]) for metric, values in _scores(sums, len(gold)).items()}


def _marks(predicted: Array, gold: Array, classes: int) -> Array:
    """Mark each example (examples, 1 + 2 classes).

    Columns: 1 if it is right; by class 1 for a true positive; by class its part of 2 TP + FP + FN.
    """
    own, other = np.eye(classes)[gold], np.eye(classes)[predicted]
    right = (predicted == gold).astype(float)[:, None]
    return np.concatenate([right, own * other, own + other], axis=1)


def _scores(sums: Array, examples: int) -> dict[str, Array]:
    """Make both metrics of sums of `_marks` (..., 1 + 2 classes)."""
    right, (hits, weights) = sums[..., 0], np.split(sums[..., 1:], 2, axis=-1)
    occurs = weights > 0
    f1 = np.divide(2 * hits, weights, out=np.zeros_like(weights), where=occurs)
    return {ACCURACY: 100 * right / examples, MACRO_F1: 100 * f1.sum(axis=-1) / occurs.sum(axis=-1)}


def _indices(per_example: ClassifiedExamples) -> tuple[Array, Array, int]:
    """Return the indices of predictions and labels, and the number of classes among them."""
    rows, keys = list(per_example.values()), ("prediction", "label")
    names = sorted({row[key] for row in rows for key in keys})
    places = {name: place for place, name in enumerate(names)}
    predicted, gold = (np.array([places[row[key]] for row in rows]) for key in keys)
    return predicted, gold, len(names)
