"""Costs of a cell's training and its later requests: energy, time, memory and money."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longwatt.energy.flags import joined_flags, union
from longwatt.energy.reduction.reduce import ESTIMATE, J_PER_KWH, NO_SOURCE
from longwatt.jobs.endings import DIVERGENCE
from longwatt.layout.wording import is_known
from longwatt.study.model_settings import INITIAL_WEIGHTS
from longwatt.study.summary_columns import FRONTIER_COSTS

MS_PER_S = 1000
# What money is paid for, by the part of a column's name.
PAID_FOR = ("energy", "gpu")
SOURCES = ("train_energy_source", "inference_energy_source")
FLAGS = ("train_energy_flags", "inference_energy_flags")
MEASURED, BASIS = "measured", "train_energy_basis"
# Columns of two trainings, from those of each.
OF_TRAININGS: Mapping[str, Callable[[Any], float]] = {
    "train_energy_kwh": sum, "train_energy_cost": sum, "peak_memory_gib": max,
}  # fmt: skip
WORST = {"ended_by": DIVERGENCE, "initialisation": "random"}  # of either training
OF_GPUS = ("train_gpu_hours", "train_gpu_cost")

MeasuredRow = Mapping[str, Any]


@dataclass(frozen=True)
class CostParts:
    """The costs of a training and of a request to its model, None where unknown.

    Attributes:
        train_kwh: energy of the training, 0 of a model that was not trained.
        joules: energy of a request.
        ms: time of a request, as measured in batches.
        gib: most memory of a training process.
        train_money: energy and GPUs of the training.
        request_money: energy and GPUs of a request.
    """

    train_kwh: float | None = None
    joules: float | None = None
    ms: float | None = None
    gib: float | None = None
    train_money: float | None = None
    request_money: float | None = None

    def costs(self, requests: float) -> dict[str, float | None]:
        """Return the costs that points are compared by, of so many requests.

        Returns:
            By the names of `longwatt.study.summary_columns.FRONTIER_COSTS`: kWh, kWh, ms, GiB, and
            the currency of config.yaml.
        """
        per_request = None if self.joules is None else self.joules / J_PER_KWH
        return {
            "train_energy": self.train_kwh,
            "lifecycle_energy": life_cycle(self.train_kwh, per_request, requests),
            "inference_time": self.ms,
            "memory": self.gib,
            "money": life_cycle(self.train_money, self.request_money, requests),
        }


def life_cycle(training: float | None, request: float | None, requests: float) -> float | None:
    """Add a training's cost and that of its requests, None where unknown."""
    if training is None or (request is None and requests):
        return None
    return training + (requests * request if request is not None else 0.0)


def costs_by_seed(parts: Sequence[CostParts], requests: float) -> dict[str, list[float]]:
    """Return every seed's costs by name, without the costs that a seed does not know."""
    by_seed = [one.costs(requests) for one in parts]
    found = {name: [costs[name] for costs in by_seed] for name in FRONTIER_COSTS}
    return {
        name: [value for value in values if value is not None]
        for name, values in found.items()
        if values and None not in values
    }


def cost_parts(row: MeasuredRow, priced: Iterable[str]) -> CostParts:
    """Read the costs of a summary's row.

    Args:
        row: with the columns of a summary.
        priced: what has a price here (`priced_parts`).
    """
    untrained = row.get("weights") == INITIAL_WEIGHTS
    speed, seconds = known(row, "inference_samples_per_second"), known(row, "inference_runtime_s")
    paid = list(priced)
    request = None
    if paid and speed and seconds:
        whole = _money(row, "inference", paid)
        request = None if whole is None else whole / (speed * seconds)
    money = (0.0 if untrained else _money(row, "train", paid)) if paid else None
    return CostParts(
        train_kwh=0.0 if untrained else known(row, "train_energy_kwh"),
        joules=known(row, "joules_per_example"),
        ms=MS_PER_S / speed if speed else None,
        gib=known(row, "peak_memory_gib"),
        train_money=money,
        request_money=request,
    )


def priced_parts(rows: Sequence[MeasuredRow]) -> list[str]:
    """List what has a price in these rows, energy and GPUs or one of them."""
    ways = ("train", "inference")
    return [
        part
        for part in PAID_FOR
        if any(known(row, f"{way}_{part}_cost") is not None for row in rows for way in ways)
    ]


def _money(row: MeasuredRow, way: str, priced: Sequence[str]) -> float | None:
    """Add up what a job was paid for, None where a priced part is unknown."""
    parts = [known(row, f"{way}_{part}_cost") for part in priced]
    held_none = known(row, f"{way}_gpu_hours") is None  # a job on processors
    parts = [
        0.0 if part == "gpu" and held_none else found
        for part, found in zip(priced, parts, strict=True)
    ]
    return None if None in parts else sum(part for part in parts if part is not None)


def known(row: MeasuredRow, column: str) -> float | None:
    """Read a number of a row, None where it is unknown."""
    value = row.get(column)
    return float(value) if value is not None and is_known(value) else None


def energy_words(row: MeasuredRow) -> tuple[str | None, str | None]:
    """Say how the energy of a life cycle is known, and its flags.

    Returns:
        "estimate" where training or inference is estimated, else "measured"; None where a part is
        unknown. Then the flags as a summary's cell.
    """
    untrained = row.get("weights") == INITIAL_WEIGHTS
    ways = slice(1, None) if untrained else slice(None)
    sources = [row.get(name) for name in SOURCES[ways]]
    unknown = any(not is_known(source) or source == NO_SOURCE for source in sources)
    word = None if unknown else ESTIMATE if ESTIMATE in sources else MEASURED
    return word, joined_flags(union(row.get(name) for name in FLAGS[ways]))


def trained_together(rows: Iterable[MeasuredRow]) -> Callable[[MeasuredRow], MeasuredRow]:
    """Make a function that adds the training of a cascade's first cell.

    Args:
        rows: of a summary, those of the first cells among them.

    Returns:
        A function of a row. Other rows stay as they are. Columns that either training does not
        know stay unknown.
    """
    trained = {row.get("cell"): row for row in rows if row.get("weights") != INITIAL_WEIGHTS}

    def both(row: MeasuredRow) -> MeasuredRow:
        first = row.get("cascade_first")
        return {**row, **_of_both(row, trained.get(first, {}))} if is_known(first) else row

    return both


def _of_both(row: MeasuredRow, first: MeasuredRow) -> dict[str, Any]:
    """Return the columns of a training as those of two trainings."""
    found: dict[str, Any] = {}
    for name, how in OF_TRAININGS.items():
        pair = known(row, name), known(first, name)
        found[name] = None if None in pair else how(pair)
    for name in OF_GPUS:  # a job on processors holds none
        there = [value for one in (row, first) if (value := known(one, name)) is not None]
        found[name] = sum(there) if there else None
    source, flags = SOURCES[0], FLAGS[0]
    sources = [one.get(source) for one in (row, first)]
    lacking = any(not is_known(one) or one == NO_SOURCE for one in sources)
    found[source] = NO_SOURCE if lacking else ESTIMATE if ESTIMATE in sources else sources[0]
    found[flags] = joined_flags(union(one.get(flags) for one in (row, first)))
    bases = dict.fromkeys(one.get(BASIS) for one in (row, first) if is_known(one.get(BASIS)))
    found[BASIS] = "; ".join(map(str, bases)) or None
    # What says that a cell's numbers are no whole training's holds for both.
    found |= {name: word for name, word in WORST.items() if first.get(name) == word}
    return found


def life_cycle_columns(row: MeasuredRow, priced: Sequence[str], requests: float) -> dict[str, Any]:
    """Return the columns of a row's life cycle, `LIFE_CYCLE_COLUMNS` of a summary."""
    costs = cost_parts(row, priced).costs(requests)
    source, flags = energy_words(row)
    energy = costs["lifecycle_energy"]
    return {
        "requests": requests,
        "lifecycle_energy_kwh": energy,
        "lifecycle_energy_source": None if energy is None else source,
        "lifecycle_energy_flags": None if energy is None else flags,
        "lifecycle_money": costs["money"],
    }
