"""Make answer.json: the points, their fronts, and which to take of each dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.answer.choice import COST_UNITS, Choice, Limits, choose_each, spread_unknown
from longwatt.answer.imported import read_imported
from longwatt.answer.measured import read_points
from longwatt.answer.points import (
    AnswerPoint,
    as_contenders,
    fields_of,
    point_titles,
)
from longwatt.answer.words import COST_TITLES, as_facts, choice_words, neighbours
from longwatt.energy.reduction.reduce import ESTIMATE
from longwatt.files import read_object
from longwatt.layout.wording import beside_energy
from longwatt.metrics.resampling import Resampling
from longwatt.results.frontier import UNPLACED, Place, frontiers
from longwatt.study.summary_columns import FRONTIER_COSTS

EMBEDDED_DRAWS = 200  # resampled scores of each point, enough for shares on a page
DRAW_DIGITS = 2

Facts = dict[str, Any]
AnswerSettings = Mapping[str, Any]


def study_facts(
    results: Path,
    settings: AnswerSettings,
    summary: Path | None = None,
    limits: Limits | None = None,
) -> Facts:
    """Answer a study, as answer.json has it but for its `provenance`.

    Args:
        results: results/{study}.
        settings: as `longwatt.study.reported.report_settings.answered`.
        summary: its table; None for summary.csv in it.
        limits: what is asked for; None for the study's requests alone.
    """
    how = Resampling.of(settings["scoring"])
    points = read_points(results, how, summary)
    judged = read_object((summary or results / "summary.csv").with_name("claims.json"))
    asked = limits or Limits(requests=settings["requests"])
    return {
        **answer_facts(points, settings, asked, how),
        "claims": _claims(judged),
    }


def csv_facts(path: Path, limits: Limits, how: Resampling | None = None) -> Facts:
    """Answer a CSV of results that longwatt did not make, as answer.json has it.

    Raises:
        longwatt.answer.imported.UnreadableResults: names what is wrong, and where.
    """
    settings: AnswerSettings = {
        "study": path.stem,
        "title": path.name,
        "titles": {},
        "currency": None,
    }
    points = read_imported(path)
    return {**answer_facts(points, settings, limits, how or Resampling()), "claims": []}


def answer_facts(
    points: Sequence[AnswerPoint], settings: AnswerSettings, limits: Limits, how: Resampling
) -> Facts:
    """Answer points of one study or file."""
    titles = point_titles(points, settings["titles"])
    placed, drawn = _fronts(points, how, limits.requests)
    chosen = choose_each(points, limits, how)
    return {
        "study": settings["study"],
        "title": settings["title"],
        "requests": limits.requests,
        "confidence": how.confidence,
        "resamples": how.resamples,
        "currency": settings.get("currency"),
        "costs": {
            name: {"unit": COST_UNITS[name] or settings.get("currency") or "", "title": title}
            for name, title in COST_TITLES.items()
        },
        "datasets": _datasets(points, settings["titles"]),
        "points": [_point(one, settings, limits.requests, placed, drawn) for one in points],
        "recommendations": {
            name: _recommended(choice, titles, how, settings.get("currency"))
            for name, choice in chosen.items()
        },
        "energy": {"words": energy_facts(points)},
    }


def _fronts(
    points: Sequence[AnswerPoint], how: Resampling, requests: float
) -> tuple[dict[str, dict[str, Place]], dict[str, list[float]]]:
    """Place all points, and keep some of their resampled scores."""
    placed: dict[str, dict[str, Place]] = {}
    drawn: dict[str, list[float]] = {}
    for field in fields_of(points):
        there = as_contenders(field, how, requests)
        fronts = frontiers(there, how)
        if spread_unknown(field):  # nothing says how sure such places are
            fronts = {name: _without_share(own) for name, own in fronts.items()}
        placed |= fronts
        drawn |= {
            one.name: np.round(one.draws[:EMBEDDED_DRAWS], DRAW_DIGITS).tolist() for one in there
        }
    return placed, drawn


def _without_share(fronts: Mapping[str, Place]) -> dict[str, Place]:
    return {cost: place._replace(share=None) for cost, place in fronts.items()}


def _datasets(points: Sequence[AnswerPoint], titles: Mapping[str, str]) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for point in points:
        ceilings = {one.ceiling for one in points if one.dataset == point.dataset}
        found.setdefault(
            point.dataset,
            {
                "title": titles.get(point.dataset, point.dataset),
                "score_name": point.score_name,
                "lead": point.lead,
                # Lengths have ceilings of their own.
                "ceiling": ceilings.pop() if len(ceilings) == 1 else None,
                "examples": point.examples,
            },
        )
    return found


def _point(
    point: AnswerPoint,
    settings: AnswerSettings,
    requests: float,
    placed: Mapping[str, Mapping[str, Place]],
    drawn: Mapping[str, list[float]],
) -> Facts:
    titles, parts = settings["titles"], point.mean_parts
    fronts = placed.get(point.id, {})
    axes = ("dataset", "model", "seq_len", "budget", "protocol", "inference")
    return {
        "id": point.id,
        **{axis: getattr(point, axis) for axis in axes},
        "model_title": titles.get(point.model, point.model),
        "budget_title": titles.get(point.budget, point.budget),
        "seeds": list(point.seeds),
        "cells": list(point.cells),
        "score": point.score,
        "score_low": point.low,
        "score_high": point.high,
        "score_name": point.score_name,
        "split": point.split,
        "random_weights": point.random_weights,
        "diverged": point.diverged,
        "imported": point.imported,
        "costs": point.costs(requests),
        "joules_per_request": parts.joules,
        "money_training": parts.train_money,
        "money_per_request": parts.request_money,
        "energy_source": point.energy_source,
        "energy_flags": list(point.energy_flags),
        "energy_words": energy_of(point),
        "device": point.device,
        "frontier": {
            cost: {**place._asdict(), "by": list(place.by)}
            for cost in FRONTIER_COSTS
            for place in [fronts.get(cost, UNPLACED)]
        },
        "spread_known": not spread_unknown([point]),
        "resampled": drawn.get(point.id),
    }


def energy_of(point: AnswerPoint) -> str | None:
    """Say how a point's energy is known, None where it is not."""
    if point.energy_source is None:
        return None
    said = beside_energy(point.energy_source == ESTIMATE, point.energy_flags)
    return said.strip(" ()") or "measured"


def energy_facts(points: Sequence[AnswerPoint]) -> list[str]:
    """Say how the energies were come by, and what estimates rest on."""
    found: dict[tuple[str, str], int] = {}
    for point in points:
        device = point.device or "an unnamed device"
        word = energy_of(point) or "not known"
        found[device, word] = found.get((device, word), 0) + 1
    bases = dict.fromkeys(basis for point in points for basis in point.energy_bases)
    return [
        *(
            f"On {device} the energy of {count} of {len(points)} points is {word}."
            for (device, word), count in found.items()
        ),
        *(f"Estimates rest on watts per busy core, {basis}." for basis in bases),
    ]


def _recommended(
    choice: Choice, titles: Mapping[str, str], how: Resampling, currency: str | None
) -> Facts:
    beside = neighbours(choice, how)
    return {
        "chosen": choice.chosen.id if choice.chosen else None,
        "sure": choice.sure,
        "words": choice_words(choice, titles, how, currency),
        "min_score": choice.limits.min_score,
        "nearest": choice.nearest.id if choice.nearest else None,
        "objective": choice.objective,
        "neighbours": [as_facts(one, choice, titles) for one in beside],
    }


def _claims(judged: Mapping[str, Any]) -> list[Facts]:
    """Take the verdicts of claims.json."""
    return [
        {
            "id": name,
            "statement": claim["statement"],
            "verdict": " / ".join(dict.fromkeys(claim["verdicts"].values())),
            "notes": claim["notes"],
        }
        for name, claim in (judged.get("claims") or {}).items()
    ]
