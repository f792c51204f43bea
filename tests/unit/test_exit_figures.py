"""Figures of early exit say what they show."""

import json
import math
from pathlib import Path

import pandas as pd

from longwatt import displays
from longwatt.exit_diagnostics import Study
from longwatt.exit_figures import plot_exits

LAYERS = (0, 4, 12, 23)


def measured(layers: float, best: float, **given) -> dict:
    """A point that ran so many of 24 layers."""
    accuracy = best - 14 * math.exp(-layers / 5)
    relative = (layers + 0.6) / 24.6
    numbers = {"accuracy": accuracy, "relative_time": relative, "joules_per_example": 1.5 * relative}
    ends = {
        f"{name}_ci_{end}": value * (1 + sign * wide)
        for (name, value), wide in zip(numbers.items(), (0.006, 0.03, 0.03), strict=True)
        for end, sign in (("low", -1), ("high", 1))
    }
    facts = {"seconds_per_example": 0.02 * relative, "mean_layers": layers, "energy_source": "nvml_counter"}
    return {**numbers, **ends, **facts, **given}


def comparison(dataset="ag_news", model="exits", thresholds=(0.5, 0.7, 0.9), **given) -> dict:
    """What a model with exits and its baselines were measured to be, at one batch size and with one seed."""
    best = 92.0 + len(dataset) / 4
    ours = [measured(3 + 21 * t**3, best, rule="threshold", value=t, point=f"t{t}") for t in thresholds]
    ours += [measured(layers, best - 0.4, rule="patience", value=k) for k, layers in ((2, 12.0), (3, 19.0))]
    ours += [measured(24, best, rule="last", value=None)]
    place = {
        "dataset": dataset,
        "encoder": "bert-large",
        "encoder_layers": 24,
        "seq_len": 512,
        "seed": 1,
        "majority": 25.0,
    }
    return {
        **place, "budget": "gpu", "split": "test", "batch_size": 1, "model": model,
        "standard": measured(24, best + 0.2, relative_time=1.0, model="standard", exit_layers=[23]),
        "points": ours,
        "efficient": [measured(n + 1, best - 0.8, exit_layers=[n], model=f"efficient{n}") for n in LAYERS[:-1]],
        "oracle": [measured(5, best + 3, rule="oracle")],
        **given,
    }  # fmt: skip


def cell_name(dataset: str, model: str, seed: int = 1) -> str:
    return f"{dataset}/{model}/512/gpu/classified/seed{seed}"


def cells(*names: tuple[str, str], seed: int = 1) -> list[dict]:
    axes = {"seq_len": 512, "budget": "gpu", "protocol": "classified", "seed": seed}
    return [{"cell": cell_name(d, m, seed), "dataset": d, "model": m, **axes} for d, m in names]


def curve_rows(cell: str, dataset: str, model: str) -> list[dict]:
    base = {"cell": cell, "dataset": dataset, "model": model, "macro_f1": 80.0, "exits_taken": "[]"}
    return [
        {**base, "split": split, "rule": "threshold", "value": t / 100, "mean_layers": 3 + 21 * (t / 100) ** 3,
         "accuracy": measured(3 + 21 * (t / 100) ** 3, 92.0 + len(dataset) / 4)["accuracy"]}
        for split in ("validation", "test") for t in range(101)
    ]  # fmt: skip


def difficulty_rows(cell: str, dataset: str, model: str, labels=("World", "Sports", "Business", "Sci/Tech")) -> list:
    groups = {
        "label": list(labels),
        "length": ["8-21", "22-35", "36-48", "49-77", "78-512"],
        "gold_confidence": ["0.02-0.55", "0.55-0.90", "0.90-0.97", "0.97-0.99", "0.99-1.00"],
    }
    rows = []
    for kind, names in groups.items():
        for number, group in enumerate(names):
            for exit_, layer in enumerate(LAYERS):
                sure = 0.5 + 0.1 * exit_ + 0.03 * number
                rows.append(
                    {"cell": cell, "dataset": dataset, "model": model, "split": "test", "exit": exit_, "layer": layer,
                     "kind": kind, "group": group, "count": 100, "accuracy": 100 * sure, "mean_confidence": sure,
                     "confidence_q25": sure - 0.1, "confidence_median": sure + 0.02, "confidence_q75": sure + 0.1,
                     "mean_exit": 2.0, "mean_layers": 12.0 + number}
                )  # fmt: skip
    return rows


def bins(shift: float) -> list[dict]:
    found = []
    for number in range(15):
        count = 0 if number < 4 else 10 * number
        middle = (number + 0.5) / 15
        known = {"confidence": middle, "accuracy": min(1.0, max(0.0, middle - shift))} if count else {}
        empty = {"confidence": None, "accuracy": None}
        found.append({"low": number / 15, "high": (number + 1) / 15, "count": count, **empty, **known})
    return found


def calibration(layers=LAYERS) -> dict:
    def facts(shift: float) -> dict:
        return {"nll": 0.3, "ece": shift, "accuracy": 0.9, "mean_confidence": 0.95, "bins": bins(shift)}

    measured_ = {"examples": 100, "before": facts(0.15), "after": facts(0.02), "ece_drop": 0.13}
    splits = {"validation": measured_, "test": measured_}
    exits = [{"layer": layer, "temperature": 1.2 + 0.1 * n, "splits": splits} for n, layer in enumerate(layers)]
    return {"split": "validation", "layers": list(layers), "exits": exits}


class Made:
    """A made-up study's files and settings for `plot_exits`."""

    def __init__(self, folder: Path, comparisons: list[dict], titles: dict | None = None) -> None:
        pairs = list(dict.fromkeys((c["dataset"], c["model"]) for c in comparisons))
        self.cells, self.folder, self.titles = cells(*pairs), folder, titles or {}
        self.report = {"rows": {}, "comparisons": comparisons}
        self.curve = pd.DataFrame([r for c in self.cells for r in curve_rows(c["cell"], c["dataset"], c["model"])])
        rows = [r for c in self.cells for r in difficulty_rows(c["cell"], c["dataset"], c["model"])]
        self.difficulty = pd.DataFrame(rows)
        self.calibrations = {c["cell"]: calibration() for c in self.cells}
        self.study = Study(self.titles, self.cells, self.calibrations)

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "exits.json").write_text(json.dumps(self.report))
        self.curve.to_csv(self.folder / "curve.csv", index=False, na_rep="NA")
        self.difficulty.to_csv(self.folder / "difficulty.csv", index=False, na_rep="NA")
        for cell, facts in self.calibrations.items():
            (self.folder / cell).mkdir(parents=True)
            (self.folder / cell / "calibration.json").write_text(json.dumps(facts))

    def plot(self, target: Path, names=tuple(displays.EXIT_FIGURES)) -> None:
        plot_exits(
            self.folder / "exits.json",
            self.folder / "curve.csv",
            self.folder / "difficulty.csv",
            {cell: self.folder / cell / "calibration.json" for cell in self.calibrations},
            target,
            {"titles": self.titles, "cells": self.cells, "names": list(names)},
            {"rule": "plot_exits"},
        )
