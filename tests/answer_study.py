"""A finished study in a few files: a summary, and every example's scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from longwatt.files import sha256
from longwatt.metrics.resampling import Resampling
from longwatt.results.frontier import frontier_columns
from longwatt.results.life_cycle import life_cycle_columns, priced_parts
from longwatt.study.summary_columns import COLUMNS

IDS = tuple(f"e{n:03}" for n in range(120))
HARD = np.random.default_rng(0).normal(50, 15, len(IDS)).clip(5, 95)  # for every model alike


def noise(seed: int, sd: float = 4.0) -> Any:
    """What one training adds to the score of each example."""
    return np.random.default_rng(seed).normal(0, sd, len(IDS))


class AnswerStudy:
    """Cells with examples' scores on disk, and the summary that speaks of them."""

    def __init__(self, results: Path) -> None:
        self.results, self.rows = results, list[dict[str, Any]]()

    def add(
        self,
        model: str,
        gain: float,
        train_kwh: float | None = 1.0,
        joules: float | None = 36.0,
        seed: int = 1,
        values: Sequence[float] | None = None,
        split: str = "test",
        **known: Any,
    ) -> None:
        """Add one training that scores so much above what is hard for all."""
        scores = (HARD + gain + noise(len(self.rows))).clip(0, 100)
        scores = np.asarray(scores if values is None else values).round(4)
        axes = {"dataset": "d", "model": model, "seq_len": 64, "budget": "cpu",
                "protocol": "generated", "seed": seed, "inference": "greedy"}  # fmt: skip
        axes |= {name: known.pop(name) for name in list(known) if name in axes}
        cell = "{dataset}/{model}/{seq_len}/{budget}/{protocol}/seed{seed}".format(**axes)
        folder = self.results / cell / "predict" / str(axes["inference"])
        folder.mkdir(parents=True)
        ids = [f"e{n:03}" for n in range(len(scores))]
        pd.DataFrame({"id": ids, "f1": scores}).to_csv(folder / "examples.csv", index=False)
        stamp = {"settings": {"split": split}, "settings_digest": "s", "code_digest": "c"}
        digests = {"examples.csv": sha256(folder / "examples.csv")}
        (folder / "scores.json").write_text(json.dumps({"sha256": digests, "provenance": stamp}))
        self.rows.append(
            {
                **dict.fromkeys(COLUMNS), **axes, "cell": cell, "score_name": "f1",
                "score": float(scores.mean()), "examples": len(scores),
                "initialisation": "random", "weights": "trained",
                "train_energy_kwh": train_kwh, "joules_per_example": joules,
                "train_energy_source": "nvml_counter" if train_kwh is not None else "none",
                "inference_energy_source": "nvml_counter" if joules is not None else "none",
                "inference_samples_per_second": 10.0, "inference_runtime_s": 12.0,
                "peak_memory_gib": 2.0, **known,
            }
        )  # fmt: skip

    def fronts(self, requests: float = 1_000_000) -> dict[str, dict[str, Any]]:
        """Return the rows with the columns of life cycles and fronts, by model."""
        return {row["model"]: row for row in self.whole_rows(requests)}

    def whole_rows(self, requests: float = 1_000_000) -> list[dict[str, Any]]:
        """Return the rows with the columns of life cycles and fronts."""
        priced = priced_parts(self.rows)
        rows = [row | life_cycle_columns(row, priced, requests) for row in self.rows]
        found = frontier_columns(rows, self.results, Resampling(200), requests)
        return [row | own for row, own in zip(rows, found, strict=True)]

    def write(self) -> Path:
        """Write summary.csv, and return the folder."""
        table = pd.DataFrame(self.whole_rows(), columns=list(COLUMNS))
        table.to_csv(self.results / "summary.csv", index=False, na_rep="NA")
        digest = sha256(self.results / "summary.csv")
        (self.results / "summary.json").write_text(json.dumps({"sha256": digest, "made_from": {}}))
        return self.results
