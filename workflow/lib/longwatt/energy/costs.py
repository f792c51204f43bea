"""Carbon and money of energy, by the figures of config.yaml for this machine.

Unknown figures give NA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COST_COLUMNS = (
    "pue", "grid_gco2e_per_kwh", "grid_source", "grid_year", "currency",
    "train_gco2e", "train_energy_cost", "train_gpu_hours", "train_gpu_cost",
    "inference_gco2e", "inference_energy_cost", "inference_gpu_hours", "inference_gpu_cost",
)  # fmt: skip


def price_figures(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of config.yaml for carbon, prices and the data centre.

    Returns:
        pue (power usage effectiveness: kWh of the building for each kWh of its machines),
        grid_gco2e_per_kwh with grid_source and grid_year, currency, price_per_kwh,
        price_per_gpu_hour. None where config.yaml has no figure.
    """
    carbon, prices = machine.get("carbon") or {}, machine.get("prices") or {}
    return {
        "pue": machine.get("pue", 1),
        "grid_gco2e_per_kwh": carbon.get("grams_per_kwh"),
        "grid_source": carbon.get("source"),
        "grid_year": carbon.get("year"),
        "currency": prices.get("currency"),
        "price_per_kwh": prices.get("per_kwh"),
        "price_per_gpu_hour": prices.get("per_gpu_hour"),
    }


def priced(prefix: str, energy: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return carbon and money of one job's energy.json, as summary columns.

    GPU-hours are those that the job held its GPUs, loading, idle and lost attempts included, as a
    provider bills them. PUE is in no column. The prefix is train or inference, `given` is of
    `figures`.
    """
    kwh, seconds = energy.get("energy_kwh"), energy.get("gpu_s")
    hours = seconds / 3600 if seconds else None  # a job on processors holds none
    return {
        f"{prefix}_gco2e": _times(kwh, given["grid_gco2e_per_kwh"]),
        f"{prefix}_energy_cost": _times(kwh, given["price_per_kwh"]),
        f"{prefix}_gpu_hours": hours,
        f"{prefix}_gpu_cost": _times(hours, given["price_per_gpu_hour"]),
    }


def _times(amount: float | None, each: float | None) -> float | None:
    return None if amount is None or each is None else amount * each
