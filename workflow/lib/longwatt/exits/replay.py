"""Answers of every exit rule from recorded logits, without running the model again.

The rules are the model's own (`longwatt.models`): classifiers answer in their order, and the last
one always does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from longwatt.exits.logits import ExitsError, LogitArray, Recorded
from longwatt.metrics.classification import corpus_of
from longwatt.models.exits.rules import LAST

Rule = Mapping[str, Any] | None
THRESHOLDS = tuple(percent / 100 for percent in range(101))  # of the dense curve


def rule_of(exit_: Rule) -> tuple[str, float | None]:
    """Return the name of an inference point's exit rule, and its value if any.

    The name is threshold, patience, oracle or last.
    """
    for name in ("threshold", "patience"):
        if exit_ and name in exit_:
            return name, float(exit_[name])
    return ("oracle" if exit_ and exit_.get("oracle") else LAST), None


def answers(logits: LogitArray, temperatures: Sequence[float]) -> tuple[LogitArray, LogitArray]:
    """Return every classifier's label index and its calibrated probability, (exits, N) each.

    Args:
        logits: (exits, N, classes).
        temperatures: one per exit.
    """
    probabilities = softmax(logits, temperatures)
    return probabilities.argmax(axis=-1), probabilities.max(axis=-1)


def softmax(logits: LogitArray, temperatures: Sequence[float]) -> LogitArray:
    """Return calibrated probabilities (exits, N, classes), in float32 as the model has them."""
    if len(temperatures) != len(logits):
        raise ExitsError(
            f"temperatures has {len(temperatures)} numbers, but there are {len(logits)} exits"
        )
    scaled = logits.astype(np.float32) / np.asarray(temperatures, np.float32)[:, None, None]
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def leave(
    logits: LogitArray, temperatures: Sequence[float], rule: Rule, gold: LogitArray
) -> tuple[LogitArray, LogitArray, LogitArray]:
    """Find where each example leaves, and with which answer.

    Args:
        logits: (exits, N, classes), uncalibrated.
        temperatures: one per exit.
        rule: {"threshold": t}: at the first classifier whose probability is at least t (none is 1);
            {"patience": k}: once k classifiers in a row, the present one counted, agree;
            {"oracle": True}: at the first that is right; None: at the last.
        gold: index of the right label (N).

    Returns:
        Index of the exit, of the label, and the answer's calibrated probability, (N) each.
    """
    predictions, confidences = answers(logits, temperatures)
    exits = exits_taken(predictions, confidences, rule, gold)
    return exits, _at(predictions, exits), _at(confidences, exits)


def exits_taken(
    predictions: LogitArray, confidences: LogitArray, rule: Rule, gold: LogitArray
) -> LogitArray:
    """Return the exit at which each example leaves (N), from every classifier's `answers`."""
    name, value = rule_of(rule)
    may_leave = np.zeros(predictions.shape, bool)
    if name == "threshold" and value is not None:
        # A probability rounded up to 1 is not 1: see `longwatt.models.exits.rules.reaches`.
        may_leave = (confidences >= np.float32(value)) & (value < 1)
    elif name == "patience" and value is not None:
        may_leave = _agreeing(predictions) >= value
    elif name == "oracle":
        may_leave = predictions == gold
    may_leave[-1] = True
    return np.asarray(may_leave.argmax(axis=0))  # the first that is true


def curve(
    recorded: Recorded, temperatures: Sequence[float], layers: Sequence[int], labels: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for every threshold, every patience, the oracle and the last classifier.

    A row has scores in %, mean encoder layers run per example, and shares of the exits.

    Args:
        recorded: a split.
        temperatures: one per exit.
        layers: after which the classifiers stand, from 0.
        labels: names by index.
    """
    predictions, confidences = answers(recorded.logits, temperatures)
    thresholds = ({"threshold": threshold} for threshold in THRESHOLDS)
    patiences = ({"patience": patience} for patience in range(1, len(layers) + 1))
    for rule in (*thresholds, *patiences, {"oracle": True}, None):
        taken = exits_taken(predictions, confidences, rule, recorded.gold)
        name, value = rule_of(rule)
        yield {
            "rule": name,
            "value": value,
            **corpus_of(_at(predictions, taken), recorded.gold, len(labels)),
            "mean_layers": float(np.asarray(layers)[taken].mean() + 1),
            "exits_taken": (np.bincount(taken, minlength=len(layers)) / len(taken)).tolist(),
        }


def _agreeing(predictions: LogitArray) -> LogitArray:
    """Count how many classifiers in a row, up to and with each, agree: (exits, N)."""
    counts = np.ones(predictions.shape, int)
    for exit_ in range(1, len(predictions)):
        same = predictions[exit_] == predictions[exit_ - 1]
        counts[exit_] = np.where(same, counts[exit_ - 1] + 1, 1)
    return counts


def _at(values: LogitArray, exits: LogitArray) -> LogitArray:
    return np.asarray(values[exits, np.arange(len(exits))])
