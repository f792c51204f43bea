"""Names of what a cascade says, needs and is given.

A cascade is an inference point: one cell answers first, and another where that one is unsure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# How sure a model was of an answer, as predictions.jsonl has it: the mean and the least
# log-probability of a text's tokens, and the calibrated probability of a label.
MEAN, LEAST, PROBABILITY = "mean_log_probability", "min_log_probability", "confidence"
CASCADE = "cascade"  # key of an inference point
FIRST_PREFIX = "first_"  # before the names of the first cell's inputs


def is_unsure(confidence: float | None, threshold: float) -> bool:
    """Check whether an answer goes to the next cell."""
    return confidence is None or confidence < threshold


def answer_files(folder: str) -> dict[str, str]:
    """Name the files of an inference point that say what it answered, and how well.

    Args:
        folder: results/{study}/{cell}/predict/{inference}.
    """
    names = ("predictions.jsonl", "inference.json", "scores.json", "examples.csv")
    return {name.partition(".")[0]: f"{folder}/{name}" for name in names}


def named_first(paths: Mapping[str, str]) -> dict[str, str]:
    """Name the inputs of the cell that answers first."""
    return {FIRST_PREFIX + kind: path for kind, path in paths.items()}


def first_of(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of the cell that answers first, by their own names."""
    return {
        kind.removeprefix(FIRST_PREFIX): path
        for kind, path in paths.items()
        if kind.startswith(FIRST_PREFIX)
    }
