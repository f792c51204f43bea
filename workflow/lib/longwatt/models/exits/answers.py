"""Answers of an encoder with exits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExitAnswer:
    """A classifier's answer to one text.

    Attributes:
        label: its name.
        confidence: calibrated probability of the label; uncalibrated if there are no temperatures.
        exit: index of the classifier that answered, from 0.
        layers: encoder layers that were run.
    """

    label: str
    confidence: float
    exit: int
    layers: int


@dataclass(frozen=True)
class Left:
    """An example's exit."""

    answer: int  # index of the label
    exit: int  # index of the classifier that answered, from 0
    confidence: float  # its calibrated probability of the answer
