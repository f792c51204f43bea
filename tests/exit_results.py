"""Made-up results of a study with early exits, as its cells would have written them.

Answers of an exit rule are found here example by example, apart from the package's own vectorised
rules.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.exits.calibration import judge_calibration
from longwatt.exits.temperatures import calibrate

LABELS = ("negative", "neutral", "positive")
ENCODER_LAYERS = 6
LAYERS = (0, 1, 3, 5)
SPLITS = {"validation": 160, "test": 240}
BATCH_SIZES = (1, 32)
REGROUP = 2
RULES: Mapping[str, dict[str, Any] | None] = {
    "last": None,
    "t0.6": {"threshold": 0.6},
    "t0.8": {"threshold": 0.8},
    "t0.95": {"threshold": 0.95},
    "p2": {"patience": 2},
    "oracle": {"oracle": True},
}
# Model -> its exits' layers.
MODELS = {"exits": LAYERS, "standard": (5,), "efficient1": (1,), "efficient3": (3,)}
LAYER_SECONDS = {1: 1e-3, 32: 2e-4}  # per example and layer
OTHER_SECONDS = {1: 2e-4, 32: 4e-5}
WATTS = 20.0
SCORING = {"bootstrap_resamples": 200, "confidence": 0.95, "seed": 0}
STAMP = {"rule": "made_up", "code_digest": "0", "settings_digest": "0", "settings": {}}


@dataclass
class Model:
    """One trained cell: its classifiers and what they say of every split."""

    name: str
    layers: tuple[int, ...]
    seed: int
    logits: dict[str, np.ndarray] = field(default_factory=dict)  # split -> (exits, N, classes)

    @property
    def kind(self) -> str:
        if len(self.layers) > 1:
            return "early_exit"
        return "standard" if self.layers == (ENCODER_LAYERS - 1,) else "efficient"

    @property
    def cell(self) -> str:
        return f"reviews/{self.name}/64/cpu/classified/seed{self.seed}"


@dataclass(frozen=True)
class Examples:
    """One split: right labels, difficulties (0 easy, 1 hard) and lengths in tokens."""

    split: str
    gold: np.ndarray
    difficulty: np.ndarray
    tokens: np.ndarray

    @classmethod
    def make(cls, split: str, count: int, source: np.random.Generator) -> Examples:
        difficulty = source.random(count)
        tokens = (8 + 50 * difficulty + 6 * source.random(count)).astype(int)
        return cls(split, source.choice(3, count, p=[0.5, 0.2, 0.3]), difficulty, tokens)

    def id(self, place: int) -> str:
        return f"{self.split}-{place}"

    def logits(self, layer: int, source: np.random.Generator) -> np.ndarray:
        """See more in deeper layers and less in hard examples, always surer than is right."""
        signal = 0.6 + 2.2 * (layer + 1) / ENCODER_LAYERS * (1.35 - self.difficulty)
        noise = source.normal(size=(len(self.gold), len(LABELS)))
        return (3 * (np.eye(len(LABELS))[self.gold] * signal[:, None] + noise)).astype(np.float32)


def write_study(folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Write a small study's artefacts into `folder` (results/NAME); return cells for `compare`.

    One dataset of three labels; a model with exits after layers 0, 1, 3 and 5 of 6, the standard
    baseline and two efficient ones; points by threshold, patience, oracle and last classifier, at
    batch sizes 1 and 32.
    """
    source = np.random.default_rng(seed)
    splits = {name: Examples.make(name, count, source) for name, count in SPLITS.items()}
    return [
        _write_cell(folder, _trained(name, seed, splits, source), splits, source) for name in MODELS
    ]


def answer(
    logits: np.ndarray, temperatures: Sequence[float], rule: Mapping[str, Any] | None, gold: int
):
    """(exit, label's index, confidence) of one example, from its logits (exits, classes)."""
    said: list[tuple[int, float]] = []
    for number, (row, temperature) in enumerate(zip(logits, temperatures, strict=True)):
        powers = [math.exp((float(value) - float(max(row))) / temperature) for value in row]
        said.append((int(np.argmax(row)), max(powers) / sum(powers)))
        if number == len(logits) - 1 or _leaves(said, rule or {}, gold):
            return number, *said[-1]
    raise AssertionError("the last classifier answers")


def _leaves(said: Sequence[tuple[int, float]], rule: Mapping[str, Any], gold: int) -> bool:
    label, confidence = said[-1]
    if "threshold" in rule:
        return confidence >= rule["threshold"]
    if "patience" in rule:
        last = [earlier for earlier, _ in said[-rule["patience"] :]]
        return len(last) == rule["patience"] and set(last) == {label}
    return bool(rule.get("oracle")) and label == gold


def _trained(
    name: str, seed: int, splits: Mapping[str, Examples], source: np.random.Generator
) -> Model:
    made = Model(name, MODELS[name], seed + 1)
    for split, examples in splits.items():
        made.logits[split] = np.stack([examples.logits(layer, source) for layer in made.layers])
    return made


def _write_cell(
    folder: Path, model: Model, splits: Mapping[str, Examples], source: np.random.Generator
) -> dict[str, Any]:
    cell = folder / model.cell
    _write_training(cell, model)
    temperatures = [1.0] * len(model.layers)
    if model.kind == "early_exit":
        _write_logits(cell, model, splits)
        temperatures = _calibrate(cell)
    points = dict(_points(model))
    for name, settings in points.items():
        examples, out = splits[settings["split"]], cell / "predict" / name
        _write_point(out, model, examples, settings, temperatures, source)
    cell = {"cell": model.cell, "dataset": "reviews", "model": model.name, "seq_len": 64}
    cell |= {"budget": "cpu", "protocol": "classified", "seed": model.seed}
    return {**cell, "points": points, **_facts(model)}


def _points(model: Model) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, rule in RULES.items() if model.kind == "early_exit" else [("last", None)]:
        for size in BATCH_SIZES:
            regroup = REGROUP if size > 1 else 1
            point = {"split": "test", "batch_size": size, "max_examples": None, "warmup_batches": 1}
            chosen = {"exit": rule} if rule else {}
            yield f"{name}-b{size}", {**point, "regroup_batches": regroup, **chosen}
    if (
        model.kind == "standard"
    ):  # what a threshold may cost is judged where temperatures were fitted
        yield "fitted", {**point, "split": "validation", "batch_size": 1, "regroup_batches": 1}


def _facts(model: Model) -> dict[str, Any]:
    kind = {"exit_kind": model.kind, "exit_layers": list(model.layers)}
    return {**kind, "encoder": "mini", "encoder_layers": ENCODER_LAYERS}


def _write_training(cell: Path, model: Model) -> None:
    samples = 1000
    seconds = samples * (0.004 + 0.002 * (max(model.layers) + 1) + 1e-4 * len(model.layers))
    facts = {**_facts(model), "labels": list(LABELS), "train_s": seconds, "samples": samples}
    facts["seed"] = model.seed
    _write(cell / "finetune/training.json", {**facts, "provenance": STAMP})
    (cell / "finetune/model").mkdir(parents=True)
    _write(
        cell / "finetune/model/config.json",
        {"labels": list(LABELS), "layers": model.layers, "temperatures": None},
    )
    (cell / "finetune/model/model.safetensors").write_bytes(b"weights")


def _write_logits(cell: Path, model: Model, splits: Mapping[str, Examples]) -> None:
    (cell / "exits").mkdir(parents=True)
    with (cell / "exits/logits.jsonl").open("w") as stream:
        for split, examples in splits.items():
            for place, gold in enumerate(examples.gold):
                row = {
                    "split": split,
                    "id": examples.id(place),
                    "label": int(gold),
                    "label_name": LABELS[gold],
                    "input_tokens": int(examples.tokens[place]),
                    "logits": model.logits[split][:, place].tolist(),
                }
                stream.write(json.dumps(row) + "\n")
    facts = {"labels": list(LABELS), "layers": list(model.layers), "splits": SPLITS}
    _write(cell / "exits/exits.json", {**facts, "provenance": STAMP})


def _calibrate(cell: Path) -> list[float]:
    logits, temperatures = cell / "exits/logits.jsonl", cell / "calibrate/temperatures.json"
    calibrate(
        {"split": "validation", "temperatures": None},
        logits=logits,
        exits=cell / "exits/exits.json",
        trained_model=cell / "finetune/model",
        model=cell / "calibrate/model",
        temperatures=temperatures,
        provenance=STAMP,
    )
    calibration = cell / "calibrate/calibration.json"
    judge_calibration(
        SCORING, logits=logits, temperatures=temperatures, calibration=calibration, provenance=STAMP
    )
    return json.loads(temperatures.read_text())["temperatures"]


def _write_point(
    folder: Path,
    model: Model,
    examples: Examples,
    settings: Mapping[str, Any],
    temperatures: Sequence[float],
    source: np.random.Generator,
) -> None:
    logits = model.logits[examples.split]
    said = [
        answer(logits[:, place], temperatures, settings.get("exit"), int(gold))
        for place, gold in enumerate(examples.gold)
    ]
    rows = _rows(model, examples, settings, said, source)
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seconds = sum({row["batch"]: row["batch_seconds"] for row in rows}.values())
    _write_facts(folder, model, settings, rows, seconds)
    _write_scores(folder, examples, rows)


def _rows(
    model: Model,
    examples: Examples,
    settings: Mapping[str, Any],
    said: Sequence[Any],
    source: np.random.Generator,
) -> list[dict[str, Any]]:
    size = settings["batch_size"]
    together = size * settings["regroup_batches"]
    layers = [model.layers[exit_] + 1 for exit_, _, _ in said]
    per_batch: dict[int, float] = {}
    for place, ran in enumerate(layers):
        own = ran * LAYER_SECONDS[size] + OTHER_SECONDS[size]
        per_batch[place // together] = per_batch.get(place // together, 0) + own * source.normal(
            1, 0.05
        )
    return [
        {
            "id": examples.id(place),
            "prediction": LABELS[label],
            "input_tokens": int(examples.tokens[place]),
            "output_tokens": 1,
            "batch": place // together,
            "batch_seconds": per_batch[place // together],
            **{"exit": exit_, "layers": layers[place], "confidence": confidence},
        }
        for place, (exit_, label, confidence) in enumerate(said)
    ]


def _write_facts(
    folder: Path,
    model: Model,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    seconds: float,
) -> None:
    left = [row["layers"] for row in rows]
    facts = {
        "samples": len(rows),
        "inference_runtime_s": seconds,
        "inference_samples_per_second": len(rows) / seconds,
        "mean_layers": float(np.mean([row["layers"] for row in rows])),
        "left_after_layers": {str(layers): left.count(layers) for layers in sorted(set(left))},
        **{key: settings[key] for key in ("batch_size", "regroup_batches")},
    }
    _write(folder / "inference.json", {**facts, "provenance": STAMP})
    energy = {"energy_j": WATTS * seconds, "energy_kwh": WATTS * seconds / 3.6e6}
    _write(
        folder / "energy.json",
        {**energy, "energy_source": "estimate", "measured": False, "provenance": STAMP},
    )


def _write_scores(folder: Path, examples: Examples, rows: Sequence[Mapping[str, Any]]) -> None:
    gold = [LABELS[label] for label in examples.gold]
    right = [100.0 * (row["prediction"] == label) for row, label in zip(rows, gold, strict=True)]
    with (folder / "examples.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "accuracy", "label", "prediction"])
        for row, label, value in zip(rows, gold, right, strict=True):
            writer.writerow([row["id"], value, label, row["prediction"]])
    accuracy, half = float(np.mean(right)), 1.96 * float(np.std(right)) / math.sqrt(len(right))
    macro = float(np.mean([_f1(name, gold, rows) for name in LABELS]))
    own = {"score_name": "accuracy", "score": accuracy, "score_ci_low": accuracy - half}
    own["score_ci_high"] = accuracy + half
    both = {"accuracy": accuracy, "accuracy_ci_low": accuracy - half}
    both["accuracy_ci_high"] = accuracy + half
    other = {"macro_f1": macro, "macro_f1_ci_low": macro - half, "macro_f1_ci_high": macro + half}
    majority = 100 * gold.count("negative") / len(gold)
    facts = {**own, **both, **other, "majority": majority, "score_lead": None}
    facts["score_ceiling"] = None
    _write(
        folder / "scores.json",
        {**facts, "score_confidence": 0.95, "examples": len(rows), "provenance": STAMP},
    )


def _f1(name: str, gold: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> float:
    said = [row["prediction"] for row in rows]
    hits = sum(a == b == name for a, b in zip(gold, said, strict=True))
    return 200 * hits / max(1, gold.count(name) + said.count(name))


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
