"""How far confidences of classifiers with exits can be trusted, before and after temperatures.

It is apart from fitting them (`longwatt.exits.temperatures`): how it is judged changes no
prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.exits.logits import LogitArray, Recorded, read_logits
from longwatt.metrics.resampling import percentile_interval, resampled_sums
from longwatt.provenance.artefacts import read_artefact
from longwatt.provenance.stamps import write_json

BINS = 15  # of equal width, as Guo et al. have them

CalibrationSettings = Mapping[str, Any]
Judged = tuple[LogitArray, LogitArray, float]  # confidences, whether right, negative log likelihood


def expected_calibration_error(confidence: LogitArray, correct: LogitArray) -> float:
    """Return the mean distance of confidence from accuracy over bins of equal width, a fraction.

    Bins are weighted by their counts.

    Args:
        confidence: probability of the answer (examples), in (0, 1].
        correct: whether it is right (examples).
    """
    sums = _gaps(confidence, correct).sum(axis=0, keepdims=True)
    return float(_errors(sums, len(confidence))[0])


def reliability(confidence: LogitArray, correct: LogitArray) -> Iterator[dict[str, Any]]:
    """Yield every bin's ends, count, mean confidence and accuracy.

    Both are fractions, and None where the bin is empty.
    """
    places = _bins(confidence)
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        yield {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "count": count,
            "confidence": float(confidence[inside].mean()) if count else None,
            "accuracy": float(correct[inside].mean()) if count else None,
        }


def negative_log_likelihood(
    logits: LogitArray, labels: LogitArray, temperature: float = 1.0
) -> float:
    """Return the mean over examples of -log of the right label's probability, in nats."""
    return float(-_log_softmax(logits, temperature)[np.arange(len(labels)), labels].mean())


def judge_calibration(
    settings: CalibrationSettings,
    *,
    logits: Path,
    temperatures: Path,
    calibration: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write the temperatures and their effect on every split by exit, with intervals over examples.

    Args:
        settings: bootstrap_resamples, confidence, seed.
        logits: exits/logits.jsonl.
        temperatures: as `longwatt.exits.temperatures.calibrate` writes them.
        calibration: the JSON to write.
        provenance: its stamp.

    Raises:
        ExitsError: logits are no numbers. The message names file, split and example.
    """
    fitted = read_artefact(temperatures)
    fitted.pop("sha256", None)
    effect = _effect(read_logits(logits), fitted["layers"], fitted["temperatures"], settings)
    write_json(calibration, {**fitted, **effect, "provenance": provenance})


def _effect(
    recorded: Mapping[str, Recorded],
    layers: Sequence[int],
    temperatures: Sequence[float],
    settings: CalibrationSettings,
) -> dict[str, Any]:
    """Return calibration before and after by exit and split, with its means by split."""
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
    split: Recorded, temperatures: Sequence[float], settings: CalibrationSettings
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return one split's effect per exit and their mean, from the same resampled examples."""
    pairs = list(zip(split.logits, temperatures, strict=True))
    raw = [_judged(logits, split.gold, 1.0) for logits, _ in pairs]
    fitted = [_judged(logits, split.gold, value) for logits, value in pairs]
    drops = _resampled_drops(raw, fitted, settings)
    effects: list[dict[str, Any]] = []
    for old, new, found in zip(raw, fitted, drops, strict=True):
        before, after = _measures(*old), _measures(*new)
        drop = _drop(before["ece"], after["ece"], found, settings)
        effects.append({"examples": len(split.gold), "before": before, "after": after, **drop})
    old_error, new_error = (
        float(np.mean([effect[key]["ece"] for effect in effects])) for key in ("before", "after")
    )
    drop = _drop(old_error, new_error, np.mean(drops, axis=0), settings)
    return effects, {"ece_before": old_error, "ece_after": new_error, **drop}


def _judged(logits: LogitArray, gold: LogitArray, value: float) -> Judged:
    """Return confidences, whether answers are right, and the likelihood, at a temperature."""
    logs = _log_softmax(logits, value)
    right = (logs.argmax(axis=1) == gold).astype(float)
    return np.exp(logs.max(axis=1)), right, negative_log_likelihood(logits, gold, value)


def _measures(confidence: LogitArray, correct: LogitArray, nll: float) -> dict[str, Any]:
    return {
        "nll": nll,
        "ece": expected_calibration_error(confidence, correct),
        "accuracy": float(correct.mean()),
        "mean_confidence": float(confidence.mean()),
        "bins": list(reliability(confidence, correct)),
    }


def _resampled_drops(
    before: Sequence[Judged], after: Sequence[Judged], settings: CalibrationSettings
) -> list[LogitArray]:
    """Return by exit how far the error fell in every resample."""
    gaps = [_gaps(confidence, correct) for confidence, correct, _ in (*before, *after)]
    resamples, seed = settings["bootstrap_resamples"], settings["seed"]
    sums = resampled_sums(np.concatenate(gaps, axis=1), resamples=resamples, seed=seed)
    errors = [_errors(part, len(gaps[0])) for part in np.split(sums, len(gaps), axis=1)]
    pairs = zip(errors[: len(before)], errors[len(before) :], strict=True)
    return [old - new for old, new in pairs]


def _drop(
    before: float, after: float, found: LogitArray, settings: CalibrationSettings
) -> dict[str, float]:
    """Return how far the error fell, with its interval.

    A resample's errors are rather large, small ones most, so the interval leans to less.
    """
    low, high = percentile_interval(found, settings["confidence"])
    return {"ece_drop": before - after, "ece_drop_ci_low": low, "ece_drop_ci_high": high}


def _log_softmax(logits: LogitArray, value: float) -> LogitArray:
    scaled = logits.astype(float) / value
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))


def _bins(confidence: LogitArray) -> LogitArray:
    """Find the bin of each confidence, where a bin holds its upper end."""
    return np.asarray(np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1))


def _gaps(confidence: LogitArray, correct: LogitArray) -> LogitArray:
    """Return how far confidence is above correctness by example and bin (examples, bins)."""
    return np.asarray(np.eye(BINS)[_bins(confidence)] * (confidence - correct)[:, None])


def _errors(sums: LogitArray, examples: int) -> LogitArray:
    """Return expected calibration errors from sums of `_gaps` (resamples, bins)."""
    return np.asarray(np.abs(sums).sum(axis=1) / examples)
