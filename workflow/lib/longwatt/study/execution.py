"""Settings of a training that change its execution and not its result.

They are no part of its identity: a finished training stays finished when they change, and an
unfinished one goes on with the new ones at its next attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# How often it says something and saves, and who loads its data. Losses and weights are the same.
EXECUTION = ("log_every_steps", "checkpoint_every_s", "dataloader_workers")
# Splits that a cell with prompts predicts later, and the room that is kept for answers there.
PREDICTED_LATER = "predicted"
# Settings that an unfinished training may go on with changed: a batch size of validations changes
# no step. It counts for a finished one, whose validations took their time, energy and memory with
# it (and a score its last digit).
MAY_CHANGE = ("training.validation.batch_size",)


def deciding_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the settings of a training that decide what it gives."""
    return {name: value for name, value in training.items() if name not in EXECUTION}


def execution(training: Mapping[str, Any]) -> dict[str, Any]:
    """Keep only the settings of a training that decide its execution."""
    return {name: training[name] for name in EXECUTION}
