"""Temperatures of classifiers with exits, and the model that has them.

One temperature per classifier divides its logits (Guo et al., ICML 2017). The mean negative log
likelihood is convex in 1 / temperature, so halving finds its minimum exactly. Predictions rest on
this module. `longwatt.exits.calibration` holds what is only reported of calibration.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.exits.logits import ExitsError, LogitArray, Recorded, read_logits
from longwatt.files import link_or_copy
from longwatt.inference.trained_models import ensure_sound
from longwatt.provenance.artefacts import digests, model_files, read_artefact
from longwatt.provenance.stamps import write_json

# Shares of the spread of the logits. A confidence at either end is all or nothing, and what fits
# better says no more.
LOWEST, HIGHEST = 0.001, 1000.0


def calibrate(
    settings: Mapping[str, Any],
    *,
    logits: Path,
    exits: Path,
    trained_model: Path,
    model: Path,
    temperatures: Path,
    provenance: Mapping[str, Any],
    training: Path | None = None,
) -> None:
    """Fit temperatures, or take the given ones, and write them and the calibrated model.

    Args:
        settings: split (fitted on), temperatures (None to fit them).
        logits: exits/logits.jsonl.
        exits: exits/exits.json.
        trained_model: finetune's folder.
        model: the folder to write: the same weights, with the temperatures in its config.json.
        temperatures: the JSON to write.
        provenance: its stamp.
        training: finetune's training.json with the trained model's digests. None: compare none.

    Raises:
        ExitsError: the split has no rows, the temperatures do not fit, or logits are no numbers.
            The message names file and key.
    """
    if training is not None:
        ensure_sound({"model": str(trained_model), "training": str(training)})
    facts = read_artefact(exits)
    values, notes = _temperatures(settings, read_logits(logits), logits, len(facts["layers"]))
    _write_model(trained_model, model, values)
    found = {
        "labels": facts["labels"],
        "layers": facts["layers"],
        "split": settings["split"],
        "fitted": settings["temperatures"] is None,
        "temperatures": values,
        "notes": notes,
        "sha256": digests(model.parent, model_files(model)),
    }
    write_json(temperatures, {**found, "provenance": provenance})


def _temperatures(
    settings: Mapping[str, Any], recorded: Mapping[str, Recorded], path: Path, exits: int
) -> tuple[list[float], list[str]]:
    """Return temperatures, and notes on those that no minimum of the likelihood gives."""
    if settings["temperatures"] is not None:
        return _given(settings["temperatures"], exits), []
    split = recorded.get(settings["split"])
    if split is None:
        raise ExitsError(
            f"{path} has no rows of the split {settings['split']!r} that calibration.split names; "
            f"it has {', '.join(recorded) or 'none at all'}"
        )
    fitted = [fit_temperature(logits, split.gold) for logits in split.logits]
    notes = [f"exit {exit_}: {note}" for exit_, (_, note) in enumerate(fitted) if note]
    return [value for value, _ in fitted], notes


def _given(temperatures: Sequence[float], exits: int) -> list[float]:
    if len(temperatures) != exits:
        raise ExitsError(
            f"exits.temperatures has {len(temperatures)} numbers, but the model has {exits} exits"
        )
    for value in temperatures:
        if not (math.isfinite(value) and value > 0):
            raise ExitsError(f"exits.temperatures holds {value}; a temperature is a number above 0")
    return [float(value) for value in temperatures]


def fit_temperature(logits: LogitArray, labels: LogitArray) -> tuple[float, str]:
    """Find a classifier's temperature, and why if no minimum of the likelihood gives it.

    The mean negative log likelihood is least at it. It lies from LOWEST to HIGHEST times the
    logits' spread. It is 1 where every answer is right or all logits are alike, since none is best
    then.

    Args:
        logits: (examples, classes).
        labels: index of the right label (examples).

    Raises:
        ExitsError: there are no examples.
    """
    if not len(labels):
        raise ExitsError("there is no example to fit a temperature on")
    above = logits.astype(float) - logits.astype(float).max(axis=1, keepdims=True)
    spread = float(above.std())
    if spread == 0 or bool((logits.argmax(axis=1) == labels).all()):
        why = "every answer is right, or all are alike, so no temperature is best; it is left at 1"
        return 1.0, why
    right = above[np.arange(len(labels)), labels].mean()

    def slope(beta: float) -> float:
        """Return the likelihood's derivative with respect to 1 / temperature."""
        powers = np.exp(beta * above)
        return float(((powers * above).sum(axis=1) / powers.sum(axis=1)).mean() - right)

    low, high = 1 / (HIGHEST * spread), 1 / (LOWEST * spread)  # of 1 / temperature
    if slope(low) >= 0:
        why = "its confidence says nothing of the answer; the temperature is the highest tried"
        return HIGHEST * spread, why
    if slope(high) <= 0:
        return LOWEST * spread, "the temperature is the lowest tried"
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / high, ""


def _write_model(trained: Path, model: Path, temperatures: Sequence[float]) -> None:
    """Write the trained model with these temperatures in its config.json, whole or not at all.

    Its weights are linked.
    """
    partial = model.with_name(f".{model.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    # Snakemake touches its time of a folder: a link would be the trained model's too.
    ignored = shutil.ignore_patterns("config.json", ".snakemake_timestamp")
    shutil.copytree(trained, partial, copy_function=link_or_copy, ignore=ignored)
    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    write_json(partial / "config.json", {**config, "temperatures": list(temperatures)})
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)
