"""Settings of cells that are no axis of the grid, and cells grouped by them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from longwatt.study.cells import AXES, Cell

# Settings of a cell by name, one level deep: `training.validation.patience`.
SettingsInForce = dict[str, Any]
OF_THE_BUDGET = ("precision", "memory_gib_per_gpu")  # devices and batches are a table of their own
BLOCKS = ("metric", "training", "generation")
OF_THE_MODEL = ("attention", "exits")
# Settings that are None where another overrules them.
OVERRULED = ("max_epochs", "max_steps", "warmup_ratio", "length_penalty", "early_stopping")
TASK = "task"  # which of the blocks there are; the protocol says it already
FITTED = ("split", "temperatures")  # of calibration; how far it is judged is as scoring has it


def in_force(
    chosen: Mapping[str, Any],
    points: Mapping[str, Mapping[str, Any]],
    scoring: Mapping[str, Mapping[str, Any]],
    calibration: Mapping[str, Any] | None = None,
) -> SettingsInForce:
    """Collect the settings of one cell that are no axis of the grid.

    A teacher-forced cell generates nothing, so it has no setting of generation, nor has a
    classifier. A setting that another overrules is left out: `max_steps` overrules `max_epochs`.

    Args:
        chosen: as `longwatt.study.settings.finetune_settings`, with those of `execution_settings`.
        points: by inference point, as `longwatt.study.settings.predict_settings`.
        scoring: by inference point, as `longwatt.study.settings.score_settings`.
        calibration: as `longwatt.study.settings.calibrate_settings`, of a cell with several exits;
            None for any other.
    """
    nested: dict[str, Any] = {name: chosen[name] for name in BLOCKS if name in chosen}
    nested |= {name: chosen["model"][name] for name in OF_THE_MODEL if name in chosen["model"]}
    nested["calibration"] = calibration_in_force(calibration) if calibration else {}
    nested["budget"] = {name: chosen["budget"][name] for name in OF_THE_BUDGET}
    found = dict(flat(nested))
    for name, point in points.items():
        skipped = {*point["inference"], *BLOCKS, TASK, *AXES}
        scored = {key: value for key, value in scoring[name].items() if key not in skipped}
        found |= flat({"inference": {name: point_in_force(point)}, "scoring": scored})
    if chosen["protocol"] == "teacher_forced":
        found = {key: value for key, value in found.items() if "generation" not in key.split(".")}
    return {
        key: value
        for key, value in found.items()
        if value is not None or key.rpartition(".")[2] not in OVERRULED
    }


def point_in_force(point: Mapping[str, Any]) -> dict[str, Any]:
    """Collect an inference point's settings, with those of generation or its exit rule in words.

    Args:
        point: as `longwatt.study.settings.predict_settings`.
    """
    chosen = dict(point.get("inference", {}))
    if "exit" not in chosen:
        return {**chosen, "generation": point.get("generation", {})}
    if chosen["exit"] is None or chosen.get("batch_size") == 1:
        chosen.pop("regroup_batches", None)  # nothing is regrouped
    return {**chosen, "exit": exit_rule_words(chosen["exit"])}


def calibration_in_force(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the split that temperatures are fitted on, and the temperatures if given."""
    return {key: calibration[key] or "fitted" for key in FITTED}


def exit_rule_words(rule: Mapping[str, Any] | None) -> str:
    """Write an exit rule as tables do: `threshold 0.9`, `patience 2`, `oracle` or `last`."""
    ((name, value),) = (rule or {"last": True}).items()
    return name if value is True else f"{name} {value:g}"


def rule_columns(inference: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary's columns for the exit rule of an inference point.

    Args:
        inference: the point, as `longwatt.study.settings.predict_settings` has it for a classifier.
    """
    ((rule, value),) = (inference["exit"] or {"last": None}).items()
    shown = {"exit_rule": rule, "exit_value": None if value is True else value}
    return {**shown, "inference_batch_size": inference["batch_size"]}


def groups(
    cells: Mapping[str, Cell], settings: Callable[[str], SettingsInForce]
) -> list[dict[str, Any]]:
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
