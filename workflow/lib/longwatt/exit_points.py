"""What every exit rule answers, from recorded logits: any threshold or patience without running the model again.

The rules are the model's own (`longwatt.models`): classifiers answer in their order, and the last one always does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt.exit_logits import ExitsError, Recorded
from longwatt.metrics.classification import corpus_of

Array = NDArray[Any]
Rule = Mapping[str, Any] | None
LAST = "last"
THRESHOLDS = tuple(percent / 100 for percent in range(101))  # of the dense curve


def rule_of(exit_: Rule) -> tuple[str, float | None]:
    """The name of an inference point's exit rule (threshold, patience, oracle or last) and its value, if it has one."""
    for name in ("threshold", "patience"):
        if exit_ and name in exit_:
            return name, float(exit_[name])
    return ("oracle" if exit_ and exit_.get("oracle") else LAST), None


def answers(logits: Array, temperatures: Sequence[float]) -> tuple[Array, Array]:
    """What every classifier would answer: the label's index and its calibrated probability, (exits, N) each.

    Args:
        logits: (exits, N, classes).
        temperatures: one per exit.
    """
    probabilities = softmax(logits, temperatures)
    return probabilities.argmax(axis=-1), probabilities.max(axis=-1)


def softmax(logits: Array, temperatures: Sequence[float]) -> Array:
    """Calibrated probabilities (exits, N, classes), in float32 as the model has them."""
    if len(temperatures) != len(logits):
        raise ExitsError(
            f"temperatures has {len(temperatures)} numbers, but there are {len(logits)} exits"
        )
    scaled = logits.astype(np.float32) / np.asarray(temperatures, np.float32)[:, None, None]
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def leave(
    logits: Array, temperatures: Sequence[float], rule: Rule, gold: Array
) -> tuple[Array, Array, Array]:
    """Where each example leaves, and with which answer.

    Args:
        logits: (exits, N, classes), uncalibrated.
        temperatures: one per exit.
        rule: {"threshold": t}: at the first classifier whose probability is at least t (none is 1);
            {"patience": k}: once k classifiers in a row, the present one counted, agree; {"oracle": True}: at the first
            that is right; None: at the last.
        gold: index of the right label (N).

    Returns:
        Index of the exit, of the label, and the answer's calibrated probability, (N) each.
    """
    predictions, confidences = answers(logits, temperatures)
    exits = exits_taken(predictions, confidences, rule, gold)
    return exits, _at(predictions, exits), _at(confidences, exits)


def exits_taken(predictions: Array, confidences: Array, rule: Rule, gold: Array) -> Array:
    """The exit at which each example leaves (N), from what every classifier would answer (`answers`)."""
    may_leave = _may_leave(predictions, confidences, rule, gold)
    may_leave[-1] = True
    first: Array = may_leave.argmax(axis=0)  # that is true
    return first


def curve(
    recorded: Recorded, temperatures: Sequence[float], layers: Sequence[int], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for every threshold, every patience, the oracle and the last classifier: scores in %, mean layers, shares.

    Args:
        recorded: a split.
        temperatures: one per exit.
        layers: after which the classifiers stand, from 0.
        labels: names by index.
    """
    predictions, confidences = answers(recorded.logits, temperatures)
    rows = []
    for rule in _all_rules(len(layers)):
        taken = exits_taken(predictions, confidences, rule, recorded.gold)
        rows.append(
            _curve_row(rule, taken, _at(predictions, taken), recorded.gold, layers, len(labels))
        )
    return rows


def mean_layers(taken: Array, layers: Sequence[int]) -> float:
    """Encoder layers run per example, where these exits are taken."""
    return float(np.asarray(layers)[taken].mean() + 1)


def _all_rules(exits: int) -> Iterator[Rule]:
    yield from ({"threshold": threshold} for threshold in THRESHOLDS)
    yield from ({"patience": patience} for patience in range(1, exits + 1))
    yield from ({"oracle": True}, None)


def _curve_row(
    rule: Rule, taken: Array, predicted: Array, gold: Array, layers: Sequence[int], classes: int
) -> dict[str, Any]:
    name, value = rule_of(rule)
    return {
        "rule": name,
        "value": value,
        **corpus_of(predicted, gold, classes),
        "mean_layers": mean_layers(taken, layers),
        "exits_taken": (np.bincount(taken, minlength=len(layers)) / len(taken)).tolist(),
    }


def _may_leave(predictions: Array, confidences: Array, rule: Rule, gold: Array) -> Array:
    name, value = rule_of(rule)
    allowed: Array = np.zeros(predictions.shape, bool)
    if name == "threshold" and value is not None:
        allowed = (confidences >= np.float32(value)) & (
            value < 1
        )  # rounded up to 1 is not 1: `exit_rules.reaches`
    elif name == "patience" and value is not None:
        allowed = _agreeing(predictions) >= value
    elif name == "oracle":
        allowed = predictions == gold
    return allowed


def _agreeing(predictions: Array) -> Array:
    """How many classifiers in a row, up to and with each, give the same answer: (exits, N)."""
    counts = np.ones(predictions.shape, int)
    for exit_ in range(1, len(predictions)):
        same = predictions[exit_] == predictions[exit_ - 1]
        counts[exit_] = np.where(same, counts[exit_ - 1] + 1, 1)
    return counts


def _at(values: Array, exits: Array) -> Array:
    chosen: Array = values[exits, np.arange(len(exits))]
    return chosen
