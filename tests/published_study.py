"""The published grid with its published values, and a made-up summary of all its 64 cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from longwatt.config.studies import read_study
from longwatt.study.reported.published import PublishedPlace, published_batch_sizes
from longwatt.study.stages import Stages
from longwatt.study.summary_columns import COLUMNS

# An example's cost over that of LED-base's.
SIZES = {"led_base": 1.0, "led_large": 2.8, "bigbird_large": 3.6}


def published_study(root: Path) -> dict[str, Any]:
    """Return the 64 cells at published batch sizes, but generated: not the published protocol."""
    schema = root / "workflow/schemas/study.schema.json"
    sound, as_published = (
        read_study(root / f"studies/{name}.yaml", schema)
        for name in ("paper", "paper_as_published")
    )
    return {**as_published, "grid": sound["grid"]}


def made_up(stages: Stages, seed: int = 0, **every: Any) -> pd.DataFrame:
    """Draw a summary of all cells with plausible numbers; `every` holds values of all rows."""
    noise = np.random.default_rng(seed)
    batches = published_batch_sizes(stages.study["published"])
    rows = [_row(row, noise, batches) | every for row in stages.summarize().settings["rows"]]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    known: dict[str, Any], noise: np.random.Generator, batches: dict[PublishedPlace, int]
) -> dict[str, Any]:
    qa, length, size = known["dataset"] == "qasper", known["seq_len"], SIZES[known["model"]]
    place = PublishedPlace(known["dataset"], known["model"], known["budget"], length)
    bonus = 3 if size == 2.8 else -2 if size > 3 else 0
    score = (22 if qa else 47) + 4 * np.log2(length / 1024) + bonus
    score += noise.normal(0, 0.7)
    gpus = 6 if known["budget"] == "gpu8x4" else 1
    speed = 24 / size / (length / 1024) ** 1.1 * gpus * noise.uniform(0.9, 1.1)
    power, seconds = (
        270 * (6 if known["budget"] == "gpu8x4" else 1),
        80_000 / speed * noise.uniform(0.7, 1.6),
    )
    kwh = power * seconds / 3.6e6
    half = 1.9 if qa else 0.45
    return {
        **dict.fromkeys(COLUMNS), **known,
        "score": score, "score_ci_low": score - half, "score_ci_high": score + half,
        "score_name": "f1" if qa else "rouge_geometric_mean", "score_lead": 8.0 if qa else 21.0,
        "examples": 900, "train_samples_per_second": speed, "train_runtime_s": seconds,
        "validation_s": 0.2 * seconds, "train_energy_kwh": kwh,
        "train_energy_source": "nvml_counter", "train_steps_energy_kwh": 0.75 * kwh,
        "validation_energy_kwh": 0.2 * kwh, "checkpoint_energy_kwh": 0.05 * kwh,
        "wasted_energy_kwh": 0.0, "train_mean_power_w": power,
        "train_power_efficiency": speed / power, "inference_samples_per_second": 2.2 * speed,
        "mean_gpu_utilization_pct": noise.uniform(70, 99),
        "mean_gpu_memory_gib": noise.uniform(30, 47), "peak_memory_gib": noise.uniform(40, 47),
        "peak_memory_kind": "gpu_reserved", "effective_batch_size": batches[place], "steps": 5000,
        "per_device_batch_size": batches[place] // {"gpu1": 1, "gpu1x4": 4,
                                                    "gpu8x4": 32}[known["budget"]],
        "gradient_accumulation_steps": 1 if known["budget"] == "gpu1" else 4,
    }  # fmt: skip
