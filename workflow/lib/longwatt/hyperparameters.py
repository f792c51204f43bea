"""Settings of cells that are no axis of the grid, and the cells that share them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from longwatt.cells import Cell

# Settings of a cell by name, one level deep: `training.validation.patience`.
InForce = dict[str, Any]
OF_THE_BUDGET = ("precision", "memory_gib_per_gpu")  # devices and batches are a table of their own
BLOCKS = ("metric", "training", "generation")
# Settings that are None where another overrules them.
OVERRULED = ("max_epochs", "max_steps", "warmup_ratio", "length_penalty", "early_stopping")
TASK = "task"  # which of the blocks there are; the protocol says it already
FITTED = ("split", "temperatures")  # of calibration; how far it is judged is as scoring has it
AXES = ("dataset", "model", "seq_len", "budget", "protocol", "seed")


def in_force(
    chosen: Mapping[str, Any],
    points: Mapping[str, Mapping[str, Any]],
    scoring: Mapping[str, Mapping[str, Any]],
    calibration: Mapping[str, Any] | None = None,
) -> InForce:
    """Collect the settings of one cell that are no axis of the grid.

    A setting that another overrules is left out: `max_steps` overrules `max_epochs`. So are the
    settings of generation for a teacher-forced cell, which generates nothing; a classifier has
    none.

    A teacher-forced cell generates nothing, so no setting of generation is in force there; a
    classifier has none. No setting is in force that another overrules: `max_steps` rules
    `max_epochs`.

    Args:
        chosen: as `longwatt.settings.finetune_settings`, with those of `execution_settings`.
        points: by inference point, as `longwatt.settings.predict_settings`.
        scoring: by inference point, as `longwatt.settings.score_settings`.
        calibration: as `longwatt.settings.calibrate_settings`, of a cell with several exits; None
            for any other.
    """
    found = dict(flat({name: chosen[name] for name in BLOCKS if name in chosen}))
    found |= dict(flat({"exits": chosen["model"].get("exits", {})}))
    found |= dict(flat({"calibration": calibration_in_force(calibration) if calibration else {}}))
    found |= dict(flat({"budget": {name: chosen["budget"][name] for name in OF_THE_BUDGET}}))
    for name, point in points.items():
        found |= dict(flat({"inference": {name: point_in_force(point)}}))
        skipped = {*point["inference"], *BLOCKS, TASK, *AXES}
        found |= dict(
            flat(
                {
                    "scoring": {
                        key: value for key, value in scoring[name].items() if key not in skipped
                    }
                }
            )
        )
    generates = chosen["protocol"] != "teacher_forced"
    ruled = {
        key: value
        for key, value in found.items()
        if value is not None or key.rpartition(".")[2] not in OVERRULED
    }
    return {
        key: value
        for key, value in ruled.items()
        if generates or "generation" not in key.split(".")
    }


def point_in_force(point: Mapping[str, Any]) -> dict[str, Any]:
    """Collect all settings of an inference point.

    They include those of generation, or for a model with exits its exit rule in words.

    Args:
        point: as `longwatt.settings.predict_settings`.
    """
    chosen = dict(point.get("inference", {}))
    if "exit" not in chosen:
        return {**chosen, "generation": point.get("generation", {})}
    if chosen["exit"] is None or chosen.get("batch_size") == 1:
        chosen.pop("regroup_batches", None)  # nothing is regrouped
    return {**chosen, "exit": exit_rule(chosen["exit"])}


def calibration_in_force(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the split on which temperatures are fitted, and the temperatures if given.

    `calibration` is as `calibrate_settings` has it.
    """
    return {key: calibration[key] or "fitted" for key in FITTED}


def exit_rule(rule: Mapping[str, Any] | None) -> str:
    """Describe an exit rule as tables do.

    Examples are `threshold 0.9`, `patience 2`, `oracle` and `last`.
    """
    ((name, value),) = (rule or {"last": True}).items()
    return name if value is True else f"{name} {value:g}"


def rule_columns(inference: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary's columns for the exit rule of an inference point.

    Args:
        inference: the point, as `longwatt.settings.predict_settings` has it for a classifier.
    """
    ((rule, value),) = (inference["exit"] or {"last": None}).items()
    shown = {"exit_rule": rule, "exit_value": None if value is True else value}
    return {**shown, "inference_batch_size": inference["batch_size"]}


def groups(cells: Mapping[str, Cell], settings: Callable[[str], InForce]) -> list[dict[str, Any]]:
    """Group cells by the settings that they share.

    Args:
        cells: by name.
        settings: of a cell, by its name.

    Returns:
        For each group the axes of its cells (`cells`) and what they share (`settings`).
    """
    found: dict[str, dict[str, Any]] = {}
    for name, cell in cells.items():
        shared = settings(name)
        new = {"cells": {axis: [] for axis in AXES}, "settings": shared}
        group = found.setdefault(json.dumps(shared, sort_keys=True), new)
        for axis, values in group["cells"].items():
            if getattr(cell, axis) not in values:
                values.append(getattr(cell, axis))
    return list(found.values())


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as (name, value), with the parts of a name joined by dots."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
