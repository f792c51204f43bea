"""How far the confidences of classifiers with exits can be trusted, before and after their temperatures.

Apart from fitting them (`longwatt.temperatures`): how it is judged changes no prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt.artefacts import read_artefact
from longwatt.exit_logits import Recorded, read_logits
from longwatt.metrics.resampling import percentile_interval, resampled_sums
from longwatt.provenance import write_json

BINS = 15  # of equal width, as Guo et al. have them

Array = NDArray[Any]
Judged = tuple[Array, Array, float]  # confidences, whether right, negative log likelihood


def expected_calibration_error(confidence: Array, correct: Array, bins: int = BINS) -> float:
    """Mean distance of confidence from accuracy over bins of equal width, weighted by their counts; a fraction.

    Args:
        confidence: probability of the answer (examples), in (0, 1].
        correct: whether it is right (examples).
        bins: how many.
    """
    return float(
        _errors(_gaps(confidence, correct, bins).sum(axis=0, keepdims=True), len(confidence))[0]
    )


def reliability(confidence: Array, correct: Array, bins: int = BINS) -> list[dict[str, Any]]:
    """Every bin's ends, count, mean confidence and accuracy (fractions; None where it is empty)."""
    places, found = _bins(confidence, bins), []
    for place in range(bins):
        inside = places == place
        count = int(inside.sum())
        found.append(
            {
                "low": place / bins,
                "high": (place + 1) / bins,
                "count": count,
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(correct[inside].mean()) if count else None,
            }
        )
    return found


def negative_log_likelihood(logits: Array, labels: Array, temperature: float = 1.0) -> float:
    """Mean over examples of -log of the right label's probability, in nats."""
    return float(-_log_softmax(logits, temperature)[np.arange(len(labels)), labels].mean())


def judge_calibration(
    settings: Mapping[str, Any],
    *,
    logits: Path,
    temperatures: Path,
    calibration: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write the temperatures, and what they did to every split by exit, with intervals over examples.

    Args:
        settings: bootstrap_resamples, confidence, seed.
        logits: exits/logits.jsonl.
        temperatures: as `longwatt.temperatures.calibrate` writes them.
        calibration: the JSON to write.
        provenance: its stamp.

    Raises:
        ExitsError: logits are no numbers; names file, split and example.
    """
    fitted = {
        name: value for name, value in read_artefact(temperatures).items() if name != "sha256"
    }
    effect = _effect(read_logits(logits), fitted["layers"], fitted["temperatures"], settings)
    write_json(calibration, {**fitted, **effect, "provenance": provenance})


def _effect(
    recorded: Mapping[str, Recorded],
    layers: Sequence[int],
    temperatures: Sequence[float],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Calibration before and after, by exit and split, and the mean over exits by split."""
    exits: list[dict[str, Any]] = [
        {"layer": layer, "temperature": value, "splits": {}}
        for layer, value in zip(layers, temperatures, strict=True)
    ]
    means = {}
    for name, split in recorded.items():
        own, means[name] = _effect_on(split, temperatures, settings)
        for exit_, effect in zip(exits, own, strict=True):
            exit_["splits"][name] = effect
    return {"exits": exits, "mean": means}


def _effect_on(
    split: Recorded, temperatures: Sequence[float], settings: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Of one split: an effect per exit, and their mean; all from the same resampled examples."""
    pairs = list(zip(split.logits, temperatures, strict=True))
    raw = [_judged(logits, split.gold, 1.0) for logits, _ in pairs]
    fitted = [_judged(logits, split.gold, value) for logits, value in pairs]
    drops = _resampled_drops(raw, fitted, settings)
    effects = []
    for old, new, found in zip(raw, fitted, drops, strict=True):
        before, after = _measures(*old), _measures(*new)
        drop = _drop(before["ece"], after["ece"], found, settings)
        effects.append({"examples": len(split.gold), "before": before, "after": after, **drop})
    return effects, _mean_effect(effects, np.mean(drops, axis=0), settings)


def _judged(logits: Array, gold: Array, value: float) -> Judged:
    """Confidences, whether the answers are right, and the likelihood, at a temperature."""
    logs = _log_softmax(logits, value)
    right = (logs.argmax(axis=1) == gold).astype(float)
    return np.exp(logs.max(axis=1)), right, negative_log_likelihood(logits, gold, value)


def _measures(confidence: Array, correct: Array, nll: float) -> dict[str, Any]:
    return {
        "nll": nll,
        "ece": expected_calibration_error(confidence, correct),
        "accuracy": float(correct.mean()),
        "mean_confidence": float(confidence.mean()),
        "bins": reliability(confidence, correct),
    }


def _resampled_drops(
    before: Sequence[Judged], after: Sequence[Judged], settings: Mapping[str, Any]
) -> list[Array]:
    """By exit: how far the error fell in every resample."""
    gaps = [_gaps(confidence, correct, BINS) for confidence, correct, _ in (*before, *after)]
    examples = len(gaps[0])
    sums = resampled_sums(
        np.concatenate(gaps, axis=1),
        resamples=settings["bootstrap_resamples"],
        seed=settings["seed"],
    )
    errors = [_errors(part, examples) for part in np.split(sums, len(gaps), axis=1)]
    return [
        old - new for old, new in zip(errors[: len(before)], errors[len(before) :], strict=True)
    ]


def _drop(
    before: float, after: float, found: Array, settings: Mapping[str, Any]
) -> dict[str, float]:
    """How far the error fell. A resample's errors are rather large, small ones most, so the interval leans to less."""
    low, high = percentile_interval(found, settings["confidence"])
    return {"ece_drop": before - after, "ece_drop_ci_low": low, "ece_drop_ci_high": high}


def _mean_effect(
    effects: Sequence[Mapping[str, Any]], found: Array, settings: Mapping[str, Any]
) -> dict[str, Any]:
    before, after = (
        float(np.mean([effect[key]["ece"] for effect in effects])) for key in ("before", "after")
    )
    return {"ece_before": before, "ece_after": after, **_drop(before, after, found, settings)}


def _log_softmax(logits: Array, value: float) -> Array:
    scaled = logits.astype(float) / value
    scaled -= scaled.max(axis=1, keepdims=True)
    logs: Array = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return logs


def _bins(confidence: Array, bins: int) -> Array:
    """The bin of each confidence; a bin holds its upper end."""
    places: Array = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return places


def _gaps(confidence: Array, correct: Array, bins: int) -> Array:
    """By example and bin: how far its confidence is above its correctness (examples, bins)."""
    gaps: Array = np.eye(bins)[_bins(confidence, bins)] * (confidence - correct)[:, None]
    return gaps


def _errors(sums: Array, examples: int) -> Array:
    """Expected calibration errors from sums of `_gaps` (resamples, bins)."""
    errors: Array = np.abs(sums).sum(axis=1) / examples
    return errors
