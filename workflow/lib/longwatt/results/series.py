"""The points of a study: means over seeds with an interval, by series and length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from longwatt.jobs.endings import diverged
from longwatt.layout.wording import is_known, random_weights
from longwatt.metrics.seed_intervals import of_a_score, over_seeds_of_scores
from longwatt.study.model_settings import INITIAL_WEIGHTS
from longwatt.study.reported import published as theirs
from longwatt.study.reported.published import PublishedPlace

# What makes two rows points of one line; a model's attention regimes are two models, and its paths
# of attention have two costs.
SERIES = ["model", "attention_regime", "attention_path", "budget", "protocol", "inference"]
OF_ONE_MODEL = ("attention_regime", "attention_path")  # another model's say nothing of this one's

EXIT_RULE = "exit_rule"  # a column of summaries that know of exits
LAST_EXIT = "last"  # its value where no rule is in force
CONFIDENCE = 0.95  # where a summary says none


class EnergyUnit(NamedTuple):
    """A unit of energy, and how many of it are a kWh."""

    name: str
    per_kwh: float


KWH, WH = EnergyUnit("kWh", 1.0), EnergyUnit("Wh", 1000.0)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as mappings by column name."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def comparable(summary: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that answer with the whole model, and a search's chosen model alone.

    A summary that knows of no exits and no search stays whole.
    """
    if "selected" in summary:
        summary = summary[~summary["selected"].isin([False, "False"])]
    if EXIT_RULE not in summary:
        return summary
    return summary[summary[EXIT_RULE].isna() | (summary[EXIT_RULE] == LAST_EXIT)]


def with_training(summary: pd.DataFrame) -> pd.DataFrame:
    """Drop the rows of models before training, which no training is behind."""
    return summary[summary["weights"] != INITIAL_WEIGHTS] if "weights" in summary else summary


def one_point_per_training(summary: pd.DataFrame) -> pd.DataFrame:
    """Drop rows that repeat another row of the same training.

    The last classifier has one accuracy at every batch size, so its points would say the same
    beside one cost of training.
    """
    if EXIT_RULE not in summary:
        return summary
    same = summary.duplicated(["cell", "score", "score_ci_low", "score_ci_high", "examples"])
    return summary[~(same & (summary[EXIT_RULE] == LAST_EXIT))]


def with_series(summary: pd.DataFrame) -> pd.DataFrame:
    """Name attention regimes and paths in words, '' where unknown, so that series compare."""
    regimes = summary["attention_regime"].astype(object).fillna("")
    words = [attention_words(row) for row in summary.to_dict("records")]
    paths = pd.Series(words, summary.index, dtype=object)
    return summary.copy().assign(attention_regime=regimes, attention_path=paths)


def attention_words(row: Mapping[Any, Any]) -> str:
    """Name the path of attention of a row's training and, if another, of its inference.

    It is '' where the training's is unknown.
    """
    trained, predicted = (row.get(name) for name in ("attention", "inference_attention"))
    if not is_known(trained):
        return ""
    other = f", {predicted} in inference" if is_known(predicted) and predicted != trained else ""
    return f"{trained} attention{other}"


def place_of(point: Mapping[str, Any] | pd.Series[Any]) -> PublishedPlace:
    """Return the place that a published value of this point would have."""
    return PublishedPlace(point["dataset"], point["model"], point["budget"], int(point["seq_len"]))


def energy_unit(summary: pd.DataFrame) -> EnergyUnit:
    """Choose the unit of a study's energies, kWh if any training took one or more."""
    return KWH if bool((summary["train_energy_kwh"].astype(float) >= 1).any()) else WH


def beside_published(summary: pd.DataFrame, published: Mapping[str, Any]) -> pd.DataFrame:
    """Put published scores beside the study's, for each protocol and inference point.

    Args:
        summary: rows of a summary.csv.
        published: a study's `published`.

    Returns:
        A row per published score, protocol and inference point. Its columns are dataset, model,
        budget, seq_len, protocol, inference, published, score, low, high (NaN where no such cell is
        finished), score_name and initialisation ('' where no cell says them), and diverged
        (`any_diverged` of those cells).
    """
    ways = summary[["protocol", "inference"]].drop_duplicates().to_numpy().tolist()
    keys = [*PublishedPlace._fields, "protocol", "inference"]
    ours = {key: group for key, group in summary.groupby(keys, sort=False)}
    found = []
    for place, value in theirs.scores(published).items():
        for way in ways:
            key = (*place, *way)
            own = _ours(ours.get(key), summary, place)
            found.append({**dict(zip(keys, key, strict=True)), "published": value, **own})
    return pd.DataFrame(found, columns=[*keys, "published", *OUR_COLUMNS])


OUR_COLUMNS = ("score", "low", "high", "score_name", "initialisation", "diverged")


def _ours(
    group: pd.DataFrame | None, summary: pd.DataFrame, place: PublishedPlace
) -> dict[str, Any]:
    names = summary.loc[summary["dataset"] == place.dataset, "score_name"]
    origins = summary.loc[summary["model"] == place.model, "initialisation"]
    known = {"score_name": _first(names), "initialisation": _first(origins)}
    if group is None:
        return {**known, "score": math.nan, "low": math.nan, "high": math.nan, "diverged": False}
    low, high = mean_interval(group)
    score = float(group["score"].mean())
    return {**known, "diverged": any_diverged(group), "score": score, "low": low, "high": high}


def any_diverged(group: pd.DataFrame) -> bool:
    """Check whether the training of any of these rows diverged."""
    return any(map(diverged, group.to_dict("records")))


def _first(values: pd.Series) -> str:
    return "" if values.empty else str(values.iloc[0])


def mean_interval(group: pd.DataFrame) -> tuple[float, float]:
    """Return the interval of a mean score, at the confidence of `confidence_of`.

    Several seeds give Student's t interval, and one seed the bootstrap over its examples.
    """
    if len(group) == 1:
        return float(group["score_ci_low"].iloc[0]), float(group["score_ci_high"].iloc[0])
    ends = group["score_ci_low"], group["score_ci_high"]
    return of_a_score(*over_seeds_of_scores(group["score"], *ends, confidence_of(group)))


def confidence_of(summary: pd.DataFrame) -> float:
    """Return the confidence that all score intervals of a summary share."""
    known = summary["score_confidence"].dropna()
    return CONFIDENCE if known.empty else float(known.iloc[0])


def series_name(key: tuple[Any, ...], titles: Mapping[str, str], summary: pd.DataFrame) -> str:
    """Name a series by what tells it apart, with a word on random weights."""
    own = summary[summary["model"] == key[SERIES.index("model")]]
    is_random = (own["initialisation"] == "random").all()
    return short_name(key, titles, summary) + random_weights(is_random)


def short_name(key: tuple[Any, ...], titles: Mapping[str, str], summary: pd.DataFrame) -> str:
    """Name a series for displays without accuracy, which need no word on random weights."""
    known = dict(zip(SERIES, key, strict=True))
    own = summary[summary["model"] == known["model"]]
    words = [titles.get(known["model"], known["model"])]
    for name in SERIES[1:]:
        rows = own if name in OF_ONE_MODEL else summary
        if known[name] and rows[name].nunique() > 1:
            words.append(_called(name, str(known[name]), titles))
    return ", ".join(words)


def _called(axis: str, value: str, titles: Mapping[str, str]) -> str:
    if axis == "protocol":
        return protocol_words(value)
    return titles.get(value, value) if axis == "budget" else value


def protocol_words(protocol: str) -> str:
    """Write a protocol as figures do, such as teacher-forced."""
    return protocol.replace("_", "-")
