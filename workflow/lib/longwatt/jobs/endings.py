"""Name how a training ended, and advise what to change where it diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Values of `ended_by` in training.json and in the summary.
EARLY_STOPPING, DIVERGENCE = "early_stopping", "divergence"
MAX_STEPS, MAX_EPOCHS = "max_steps", "max_epochs"
# The quantity that was not finite first.
LOSS, WEIGHTS = "the loss", "a weight"
SCORE_WORDS, VALIDATION = "the validation score", "the loss in validation"
# fp16 skips a step whose gradients are not finite.
GRADIENTS = "a gradient, for dozens of steps in a row,"
DIVERGED = "training diverged"  # the mark of such a cell in tables, figures and claims
FIRST_STEP = (
    ". It was the very first one, before any update: look at the starting weights and the "
    "precision first"
)
# Precision -> precisions of more range or digits.
WIDER = {"fp16": "bf16 or fp32", "bf16": "fp32", "tf32": "fp32"}


def bound(training: Mapping[str, Any]) -> str:
    """Name the setting that bounds a training: `max_steps`, which overrules `max_epochs`."""
    return MAX_STEPS if training["max_steps"] else MAX_EPOCHS


def ended_by(diverged_step: int | None, stopped_early: bool, training: Mapping[str, Any]) -> str:
    """Name what ended a training: DIVERGENCE, EARLY_STOPPING, or the setting that bounds it."""
    if diverged_step is not None:
        return DIVERGENCE
    return EARLY_STOPPING if stopped_early else bound(training)


def diverged(row: Mapping[Any, Any]) -> bool:
    """Return whether a summary's row says that its training diverged. Old summaries do not."""
    return row.get("ended_by") == DIVERGENCE


def marked(row: Mapping[Any, Any]) -> str:
    """Return the mark behind a diverged training's name in a table, or nothing."""
    return f" ({DIVERGED})" if diverged(row) else ""


def ending_words(row: Mapping[Any, Any]) -> str:
    """Say what ended the training of a summary's row, or nothing if unknown."""
    found = row.get("ended_by")
    if not isinstance(found, str):
        return ""
    step = row.get("diverged_step")
    known = step is not None and not math.isnan(step)
    return f"divergence at step {step:g}" if diverged(row) and known else found.replace("_", " ")


def divergence_words(what: str, step: int, settings: Mapping[str, Any]) -> str:
    """Say where a training diverged (`what` is LOSS, WEIGHTS, ...) and what to change."""
    first = FIRST_STEP if step == 1 and what == LOSS else ""
    return f"training diverged: {what} is not finite at step {step}{first}. {_advice(settings)}"


def _advice(settings: Mapping[str, Any]) -> str:
    training, precision = settings["training"], settings["budget"]["precision"]
    clipping = training["max_grad_norm"]
    changes = [f"Lower training.learning_rate (now {training['learning_rate']:g})"]
    if training["lr_scheduler"] == "constant":
        changes.append("set training.lr_scheduler to one that warms up (constant does not)")
    else:
        changes.append(f"raise training.warmup_ratio (now {training['warmup_ratio']:g})")
    if clipping:
        changes.append(f"lower training.max_grad_norm (now {clipping:g})")
    else:
        changes.append("set training.max_grad_norm (now 0: gradients are not clipped)")
    if precision in WIDER:
        changes.append(f"set the budget's precision (now {precision}) to {WIDER[precision]}")
    return f"{', '.join(changes[:-1])}, or {changes[-1]}"


def not_again(training: str) -> str:
    """Say why a training without weights to keep is not tried again as it is."""
    return (
        "No validation before it left weights to keep. With the same settings it would end alike, "
        "so it is not trained again until they are changed, or its cell is taken out by `exclude`; "
        f"to try it once more as it is, give Snakemake `--forcerun {training}`"
    )
