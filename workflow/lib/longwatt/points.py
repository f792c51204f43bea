"""Points of a study: one per series and length, means over seeds with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

# What makes two rows points of one line; a model's attention regimes are two models.
SERIES = ["model", "attention_regime", "budget", "protocol", "inference"]
# Two-sided 97.5 % points of Student's t for 1, 2, ... degrees of freedom: intervals over seeds.
STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def with_series(summary: pd.DataFrame) -> pd.DataFrame:
    """A summary in which every series can be compared: a model of one regime has the regime ''."""
    return summary.assign(attention_regime=summary["attention_regime"].astype(object).fillna(""))


def interval(group: pd.DataFrame) -> tuple[float, float]:
    """95 % of a score: Student's t over seeds, or for one seed the bootstrap over examples."""
    if len(group) == 1:
        return float(group["score_ci_low"].iloc[0]), float(group["score_ci_high"].iloc[0])
    return over_seeds(group["score"])


def over_seeds(values: pd.Series[Any]) -> tuple[float, float]:
    """95 % of a mean of two seeds or more, by Student's t."""
    t = STUDENT_T[len(values) - 2] if len(values) - 2 < len(STUDENT_T) else 1.96  # of the normal distribution, 2 % less
    half = t * float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = float(values.mean())
    return mean - half, mean + half


def series_name(key: tuple[Any, ...], titles: Mapping[str, str], summary: pd.DataFrame) -> str:
    """The model, whatever else tells the series apart, and a word on random weights."""
    own = summary[summary["model"] == key[SERIES.index("model")]]
    random = ", from random weights" if (own["initialisation"] == "random").all() else ""
    return short_name(key, titles, summary) + random


def short_name(key: tuple[Any, ...], titles: Mapping[str, str], summary: pd.DataFrame) -> str:
    """`series_name` for what shows no accuracy, and so owes no word on random weights."""
    known = dict(zip(SERIES, key, strict=True))
    own = summary[summary["model"] == known["model"]]
    apart = [str(known[name]) for name in SERIES[1:] if known[name] and _tells_apart(name, own, summary)]
    return ", ".join([titles.get(known["model"], known["model"]), *apart])


def _tells_apart(name: str, own: pd.DataFrame, summary: pd.DataFrame) -> bool:
    # Another model's regime says nothing of this one's.
    return bool((own if name == "attention_regime" else summary)[name].nunique() > 1)
