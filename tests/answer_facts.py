"""Synthetic facts of an answer: what answer.json holds, from a formula and a seed."""

from __future__ import annotations

import random
from typing import Any

COSTS = {
    "train_energy": ("Training energy", "kWh"),
    "lifecycle_energy": ("Life-cycle energy", "kWh"),
    "inference_time": ("Time per request", "ms"),
    "memory": ("Peak memory", "GiB"),
    "money": ("Cost", "money"),
}
DATASETS = {"needle": "f1", "qmsum": "rouge_geometric_mean", "govreport": "rouge_geometric_mean"}
MODELS = {"led": "LED base", "pegasus": "BigBird-Pegasus", "t5": "LongT5", "small": "LED small"}
LENGTHS, BUDGETS = (1024, 2048, 4096), {"one": "1 GPU", "two": "2 GPUs"}
REQUESTS, RESAMPLES, POINTS = 1_000_000, 200, 64


def synthetic_facts(count: int = POINTS, seed: int = 1, *, energy: bool = True) -> dict[str, Any]:
    """Make up facts of so many points over three datasets; nothing in them was measured.

    Args:
        count: points, at most 72.
        seed: of the numbers.
        energy: whether joules are known.
    """
    draw = random.Random(seed)
    grid = [(d, m, n, b) for d in DATASETS for b in BUDGETS for n in LENGTHS for m in MODELS]
    shared = {name: [draw.gauss(0, 1.5) for _ in range(RESAMPLES)] for name in DATASETS}
    points = [
        _point(draw, *place, shared[place[0]], energy)
        for place in sorted(grid, key=lambda place: (place[0] != "needle", draw.random()))[:count]
    ]
    for point in points:
        point["frontier"] = _frontier(point, points)
    return {
        "study": "synthetic",
        "title": "Synthetic study: nothing here was measured",
        "requests": REQUESTS,
        "confidence": 0.95,
        "resamples": 1000,
        "currency": None,
        "costs": {name: {"title": title, "unit": unit} for name, (title, unit) in COSTS.items()},
        "datasets": {name: _dataset(name, score) for name, score in DATASETS.items()},
        "points": points,
        "recommendations": {
            name: _recommendation(name, points) for name in {p["dataset"] for p in points}
        },
        "claims": [
            _claim("longer_is_better", "Longer inputs score higher.", "supported", []),
            _claim("led_wins", "LED scores highest.", "contradicted", ["partly estimated"]),
            _claim("small_is_enough", "The small model is enough.", "not decidable", []),
        ],
        "energy": {"words": ["Synthetic numbers: no meter was read, and all of them are made up."]},
        "provenance": {"commit": "0" * 12},
    }


def _dataset(name: str, score: str) -> dict[str, Any]:
    title = f"{name.capitalize()} (synthetic)"
    return {"title": title, "score_name": score, "lead": None, "ceiling": None, "examples": 200}


def _claim(name: str, statement: str, verdict: str, notes: list[str]) -> dict[str, Any]:
    return {"id": name, "statement": statement, "verdict": verdict, "notes": notes}


def _point(
    draw: random.Random, dataset: str, model: str, length: int, budget: str,
    shared: list[float], energy: bool,
) -> dict[str, Any]:  # fmt: skip
    rank = list(MODELS).index(model)
    score = 40 - 6 * rank + 4 * LENGTHS.index(length) + draw.gauss(0, 2)
    train = (0.4 + rank % 3) * length / 1024 * draw.uniform(0.8, 1.3)
    joules = (6 - rank) * length / 1024 * draw.uniform(0.8, 1.3)
    known = {"train_energy": train, "lifecycle_energy": train + REQUESTS * joules / 3.6e6}
    costs = {
        **(known if energy else dict.fromkeys(known)),
        "inference_time": (30 - 5 * rank) * length / 1024 * draw.uniform(0.9, 1.1),
        "memory": (3 + rank) * length / 1024,
        "money": None,
    }
    resampled = [round(score + move + draw.gauss(0, 0.8), 2) for move in shared]
    diverged = dataset == "qmsum" and model == "small" and length == 4096
    return {
        "id": f"{dataset}/{model}/{length}/{budget}/generated/greedy",
        "dataset": dataset,
        "model": model,
        "model_title": MODELS[model],
        "seq_len": length,
        "budget": budget,
        "budget_title": BUDGETS[budget],
        "protocol": "generated",
        "inference": "greedy",
        "seeds": [42],
        "cells": [f"{dataset}_{model}_{length}_{budget}_generated_42"],
        "score": score,
        "score_low": min(resampled),
        "score_high": max(resampled),
        "score_name": DATASETS[dataset],
        "split": "test",
        "random_weights": model == "small",
        "diverged": diverged,
        "imported": False,
        "costs": costs,
        "joules_per_request": joules if energy else None,
        "energy_source": (("estimate" if budget == "two" else "measured") if energy else None),
        "energy_flags": [],
        "energy_words": None,
        "device": "synthetic GPU",
        "resampled": resampled,
    }


def _frontier(point: dict[str, Any], points: list[dict[str, Any]]) -> dict[str, Any]:
    """Judge a point on every cost by its mean score alone."""
    found = {}
    for cost in COSTS:
        own = point["costs"][cost]
        rivals = [
            other["id"]
            for other in points
            if own is not None and other["dataset"] == point["dataset"]
            and other["score"] > point["score"] and other["costs"][cost] <= own
        ]  # fmt: skip
        status = None if own is None else "dominated" if rivals else "on"
        found[cost] = {"status": status, "by": rivals, "share": None if own is None else 0.5}
    return found


def _recommendation(dataset: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Recommend the best score, which page tests tell from the choice made on the page."""
    own = [point for point in points if point["dataset"] == dataset and not point["diverged"]]
    top = max(own, key=lambda point: point["score"])
    words = [
        f"Take {top['model_title']}, {top['seq_len']} tokens, {top['budget_title']}.",
        "It is the synthetic best, as 93 % of the resamples say.",
    ]
    return {
        "chosen": top["id"], "sure": 0.93, "words": words, "min_score": None, "nearest": None,
        "neighbours": [],
    }  # fmt: skip
