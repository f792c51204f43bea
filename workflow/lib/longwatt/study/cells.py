"""Expand a study's grid blocks into cells, and name each cell's files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.config.documents import check_name
from longwatt.config.errors import StudyError
from longwatt.tasks import CLASSIFICATION

# Axis -> its list in a block of the grid.
AXES = {axis: f"{axis}s" for axis in ("dataset", "model", "seq_len", "budget", "protocol", "seed")}
AXIS_DEFAULTS: dict[str, list[Any]] = {"seeds": [42]}  # that of the paper's public code
# Texts are generated (the sound way) or predicted from gold inputs, labels are read from logits.
GENERATED, TEACHER_FORCED, CLASSIFIED = "generated", "teacher_forced", "classified"
LARGEST = "largest"  # a batch size that is found out by trying
# A budget's key for batches of so many tokens instead of so many examples.
MOST_TOKENS = "max_tokens_per_batch"
# Parts of a cell that are metered.
FINETUNE = "finetune"
RECORD = "exits"  # what every exit of a trained model says of every example, recorded once
PREDICT = "predict/"  # of every inference point, its name behind it
# A cell's id and its folder below results/{study}/.
CELL_PATTERN = "{dataset}/{model}/{seq_len}/{budget}/{protocol}/seed{seed}"


@dataclass(frozen=True, order=True)
class Cell:
    """A point of the grid: one configuration, trained once."""

    dataset: str
    model: str
    seq_len: int
    budget: str
    protocol: str
    seed: int

    @property
    def name(self) -> str:
        """The cell's id and its folder below results/{study}/."""
        return CELL_PATTERN.format(**vars(self))


def expand(study: Mapping[str, Any], source: str = "study") -> dict[str, Cell]:
    """List the study's cells by name: the union of its grid blocks less its exclusions.

    Raises:
        StudyError: a grid names something the study does not declare, an exclusion matches no
            cell, or no cell is left.
    """
    cells: dict[str, Cell] = {}
    for number, block in enumerate(study["grid"]):
        _check_names(study, block, f"{source}: grid[{number}]")
        for cell in _product(study, block):
            _check_protocol(study, cell, f"{source}: grid[{number}].protocols")
            cells.setdefault(cell.name, cell)
    kept = _kept(study, cells, source)
    if not kept:
        raise StudyError(
            f"{source}: all {len(cells)} cells fall to `exclude`; nothing is left to run"
        )
    return kept


def points_of_cells(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the inference points of every cell that the grid names, in sorted order.

    A block that names none gives its cells all points of the study. A cell of several blocks has
    the points of all of them.
    """
    found: dict[str, set[str]] = {}
    for block in study["grid"]:
        for cell in _product(study, block):
            found.setdefault(cell.name, set()).update(block.get("inference", study["inference"]))
    return {name: sorted(chosen) for name, chosen in found.items()}


def points_of(study: Mapping[str, Any], cell: Cell) -> list[str]:
    """Return the inference points of one cell, as `points_of_cells` does of all."""
    found: set[str] = set()
    for block in study["grid"]:
        axes = _axes(study, block, cell.dataset)
        if cell.dataset in block["datasets"] and all(
            value in axes[AXES[axis]] for axis, value in vars(cell).items()
        ):
            found.update(block.get("inference", study["inference"]))
    return sorted(found)


def classifies(study: Mapping[str, Any], dataset: str) -> bool:
    """Return whether a dataset's references are labels."""
    return bool(study["datasets"][dataset].get("task") == CLASSIFICATION)


def several_exits(study: Mapping[str, Any], model: str) -> bool:
    """Return whether a model has exits before its last."""
    return len(study["models"][model].get("exits", {}).get("layers", ())) > 1


@dataclass(frozen=True)
class StepBatch:
    """The examples of one optimiser step, and how they are computed.

    Attributes:
        per_device: most examples of a micro-batch.
        accumulation: micro-batches of each device.
        effective: examples of the step, over all devices.
    """

    per_device: int
    accumulation: int
    effective: int


def per_device_batch_size(study: Mapping[str, Any], cell: Cell) -> int | str | None:
    """Return a cell's examples per device and step, or LARGEST, from its budget.

    None where batches have so many tokens instead.

    Raises:
        StudyError: the budget's table lacks the cell's model or length.
    """
    return _of_table(study, cell, "per_device_batch_size")


def wanted_batch_size(study: Mapping[str, Any], cell: Cell) -> int | None:
    """Return the examples per optimiser step that a cell's budget asks for.

    None where they follow from the other settings.

    Raises:
        StudyError: the budget's table lacks the cell's model or length, or its devices cannot share
            that many evenly.
    """
    found = _of_table(study, cell, "effective_batch_size")
    if found is None:
        return None
    count = device_count(study["budgets"][cell.budget])
    if int(found) % count:
        raise StudyError(
            f"budgets.{cell.budget}.effective_batch_size is {found} for the cell {cell.name}, but "
            f"its {count} devices cannot share that evenly; choose a multiple of their number"
        )
    return int(found)


def batch_settings(study: Mapping[str, Any], cell: Cell) -> dict[str, int | str | None]:
    """Return the batch settings of a cell's budget, by their keys there.

    MOST_TOKENS is among them only where the budget has it.
    """
    tokens = _of_table(study, cell, MOST_TOKENS)
    return {
        "per_device_batch_size": per_device_batch_size(study, cell),
        "effective_batch_size": wanted_batch_size(study, cell),
        **({} if tokens is None else {MOST_TOKENS: tokens}),
    }


def _of_table(study: Mapping[str, Any], cell: Cell, key: str) -> int | str | None:
    """Return a number of a cell's budget, from its table if it has one.

    None where the budget has neither.
    """
    table = study["budgets"][cell.budget].get(key)
    for entry in (cell.model, str(cell.seq_len)):
        if not isinstance(table, Mapping):
            break
        if entry not in table:
            raise StudyError(
                f"budgets.{cell.budget}.{key} has no entry {entry!r}, which the cell "
                f"{cell.name} needs; it has {', '.join(table)}. Add one, give a number instead of "
                "the table, or `exclude` the cell"
            )
        table = table[entry]
    return table if table is None or table == LARGEST else int(table)


def device_count(budget: Mapping[str, Any]) -> int:
    """Return how many devices share a batch: GPUs, or processes on the CPU."""
    return int(budget["gpus"]) or int(budget.get("processes", 1))


def step_batch(most: int, budget: Mapping[str, Any]) -> StepBatch:
    """Return how a budget's devices compute one optimiser step.

    Where the budget says how many examples a step has, the accumulation follows from that: as few
    micro-batches as hold them, as equal as can be.

    Args:
        most: examples that a device holds at once: the budget's number, the largest that fits, or
            the mean number of batches of so many tokens.
        budget: see `longwatt.study.settings.finetune_settings`.
    """
    wanted = budget.get("effective_batch_size")
    if wanted is None:
        accumulation = int(budget.get("gradient_accumulation_steps", 1))
        return StepBatch(most, accumulation, most * accumulation * device_count(budget))
    share = int(wanted) // device_count(budget)
    accumulation = math.ceil(share / most)
    return StepBatch(math.ceil(share / accumulation), accumulation, int(wanted))


def _product(study: Mapping[str, Any], block: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = []
    for dataset in block["datasets"]:
        given = _axes(study, block, dataset)
        lists = (given[plural] for plural in AXES.values())
        cells += itertools.starmap(Cell, itertools.product(*lists))
    return cells


def _axes(study: Mapping[str, Any], block: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Return a block's list of each axis for one of its datasets."""
    default = [CLASSIFIED if classifies(study, dataset) else GENERATED]
    return {**AXIS_DEFAULTS, "protocols": default, **block, "datasets": [dataset]}


def _check_protocol(study: Mapping[str, Any], cell: Cell, where: str) -> None:
    """Refuse to generate labels with a classifier, and to classify texts."""
    labels = classifies(study, cell.dataset)
    if (cell.protocol == CLASSIFIED) != labels:
        right = CLASSIFIED if labels else f"{GENERATED} or {TEACHER_FORCED}"
        task = study["datasets"][cell.dataset].get("task", "text")
        raise StudyError(
            f"{where}: the protocol {cell.protocol} does not fit datasets.{cell.dataset}, whose "
            f"task is {task}; it has {right} (leave `protocols` out)"
        )


def _check_names(study: Mapping[str, Any], block: Mapping[str, Any], where: str) -> None:
    for axis in ("dataset", "model", "budget"):
        plural = AXES[axis]
        for name in block[plural]:
            check_name(axis, name, study[plural], f"{where}.{plural}")


def _kept(study: Mapping[str, Any], cells: Mapping[str, Cell], source: str) -> dict[str, Cell]:
    """Return the cells that `exclude` leaves."""
    kept = dict(cells)
    for number, exclusion in enumerate(study.get("exclude", ())):
        matched = [name for name, cell in cells.items() if excluded_by(cell, exclusion)]
        if not matched:
            _check_excluded(cells, exclusion, f"{source}: exclude[{number}]")
        for name in matched:
            kept.pop(name, None)
    return kept


def excluded_by(cell: Cell, exclusion: Mapping[str, Any]) -> bool:
    """Check whether an entry of `exclude` matches a cell on every axis that it names."""
    return all(value in as_list(exclusion.get(axis, value)) for axis, value in vars(cell).items())


def as_list(value: Any) -> list[Any]:
    """Wrap a single value in a list, and return a list as it is."""
    return value if isinstance(value, list) else [value]


def _check_excluded(cells: Mapping[str, Cell], exclusion: Mapping[str, Any], where: str) -> None:
    """Raise the error for an entry of `exclude` that matches no cell."""
    for axis in (axis for axis in AXES if axis in exclusion):
        there = {str(getattr(cell, axis)) for cell in cells.values()}
        for value in as_list(exclusion[axis]):
            check_name(axis, str(value), there, where)
    wanted = {axis: value for axis, value in exclusion.items() if axis != "reason"}
    raise StudyError(
        f"{where} ({wanted}) matches no cell; the grid has none with all of these together"
    )
