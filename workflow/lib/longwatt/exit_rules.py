"""When an example leaves an encoder with exits: the rules that an inference point may name, and their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.spelling import nearest

THRESHOLD, PATIENCE, ORACLE, LAST = "threshold", "patience", "oracle", "last"
GIVEN = (
    THRESHOLD,
    PATIENCE,
    ORACLE,
)  # what `exit` may hold; without it the last classifier answers


class ExitRuleError(ValueError):
    """An exit rule that cannot be followed; names the key and the value."""


@dataclass(frozen=True)
class ExitRule:
    """When an example leaves.

    Attributes:
        kind: `threshold` (the first classifier whose calibrated confidence reaches `value`, in (0, 1]; none reaches 1),
            `patience` (as soon as `value` classifiers in a row, the present one among them, gave one answer), `oracle`
            (the first that is right) or `last`. Where none qualifies, the last classifier answers.
        value: the threshold or the patience; None for the others.
    """

    kind: str
    value: float | int | None = None


def reaches(confidence: float, threshold: float) -> bool:
    """Whether a confidence is enough. None is for 1: no probability of a softmax is, though rounding may say so."""
    return threshold < 1 and confidence >= threshold


def exit_rule(given: Mapping[str, Any] | None) -> ExitRule:
    """The rule that an inference point's `exit` states; `last` where it states none.

    Raises:
        ExitRuleError: there is no such rule, there are several, or its value is none.
    """
    if not given:
        return ExitRule(LAST)
    for key in given:
        if key not in GIVEN:
            raise ExitRuleError(
                f"exit: unknown key {key!r}{nearest(str(key), GIVEN)}; it may be {', '.join(GIVEN)}"
            )
    if len(given) > 1:
        raise ExitRuleError(
            f"exit: {' and '.join(given)} exclude each other; one point follows one rule"
        )
    ((kind, value),) = given.items()
    return ExitRule(kind, _CHECKS[kind](value))


def check_threshold(value: Any) -> float:
    """A threshold of the largest probability.

    Raises:
        ExitRuleError: it is no number in (0, 1].
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:  # NaN is none either
        raise ExitRuleError(
            f"exit: threshold must be a number above 0 and at most 1, but is {value!r}"
        )
    return float(value)


def check_patience(value: Any) -> int:
    """How many classifiers in a row must agree.

    Raises:
        ExitRuleError: it is no whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ExitRuleError(f"exit: patience must be a whole number from 1, but is {value!r}")
    return value


def check_temperatures(given: Any, classifiers: int) -> list[float]:
    """One temperature per classifier.

    Raises:
        ExitRuleError: there are more or fewer, or one is not a positive number.
    """
    values = list(given) if isinstance(given, list | tuple) else [given]
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise ExitRuleError(f"temperatures must be positive numbers, but one is {value!r}")
    if len(values) != classifiers:
        raise ExitRuleError(
            f"temperatures has {len(values)} values, but there are {classifiers} classifiers"
        )
    return [float(value) for value in values]


def _check_oracle(value: Any) -> None:
    if value is not True:
        raise ExitRuleError(f"exit: oracle must be true, or not be there, but is {value!r}")


_CHECKS = {THRESHOLD: check_threshold, PATIENCE: check_patience, ORACLE: _check_oracle}
