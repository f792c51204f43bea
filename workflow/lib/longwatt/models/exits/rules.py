"""Rules for when an example leaves an encoder with exits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.spelling import nearest

THRESHOLD, PATIENCE, ORACLE, LAST = "threshold", "patience", "oracle", "last"
GIVEN = (THRESHOLD, PATIENCE, ORACLE)  # keys of `exit`; without it the last classifier answers


class ExitRuleError(ValueError):
    """An exit rule that cannot be followed, with the key and the value."""


@dataclass(frozen=True)
class ExitRule:
    """The rule by which an example leaves. Where no classifier qualifies, the last one answers.

    Attributes:
        kind: `threshold` leaves at the first classifier whose calibrated confidence reaches
            `value`, in (0, 1]; none reaches 1. `patience` leaves as soon as `value` classifiers in
            a row, the present one included, gave the same answer. `oracle` leaves at the first that
            is right, `last` at the last.
        value: the threshold or the patience; None for the others.
    """

    kind: str
    value: float | int | None = None


def reaches(confidence: float, threshold: float) -> bool:
    """Check whether a confidence reaches a threshold."""
    # None reaches 1: no probability of a softmax does, though rounding may give 1.
    return threshold < 1 and confidence >= threshold


def exit_rule(given: Mapping[str, Any] | None) -> ExitRule:
    """Return the rule of an inference point's `exit`, or `last` if there is none.

    Raises:
        ExitRuleError: there is no such rule, there are several, or its value is not allowed.
    """
    if not given:
        return ExitRule(LAST)
    for key in given:
        if key not in GIVEN:
            unknown = f"{key!r}{nearest(str(key), GIVEN)}"
            raise ExitRuleError(f"exit: unknown key {unknown}; it may be {', '.join(GIVEN)}")
    if len(given) > 1:
        them = " and ".join(given)
        raise ExitRuleError(f"exit: {them} exclude each other; one point follows one rule")
    ((kind, value),) = given.items()
    allowed, said = _ALLOWED[kind]
    if not allowed(value):
        raise ExitRuleError(f"exit: {kind} must be {said}, but is {value!r}")
    if kind == ORACLE:
        return ExitRule(ORACLE)
    return ExitRule(kind, float(value) if kind == THRESHOLD else value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Each rule's values: a check of one, and words for all. NaN is no threshold.
_ALLOWED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    THRESHOLD: (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    PATIENCE: (lambda v: _is_number(v) and isinstance(v, int) and v >= 1, "a whole number from 1"),
    ORACLE: (lambda v: v is True, "true, or not be there"),
}


def check_temperatures(given: Any, classifiers: int) -> list[float]:
    """Raise an ExitRuleError unless there is one positive temperature per classifier."""
    values = list(given) if isinstance(given, list | tuple) else [given]
    for value in values:
        if not _is_number(value) or not 0 < value < math.inf:
            raise ExitRuleError(f"temperatures must be positive numbers, but one is {value!r}")
    if len(values) != classifiers:
        wanted = f"there are {classifiers} classifiers"
        raise ExitRuleError(f"temperatures has {len(values)} values, but {wanted}")
    return [float(value) for value in values]
