"""Examples per optimiser step as trained, the published ones beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longwatt import published as theirs
from longwatt.published import Place
from longwatt.table_files import NA, grouped

Key = tuple[Any, ...]  # a Place and a protocol


def trained(summary: pd.DataFrame) -> dict[Key, str]:
    """Examples per step by place and protocol; several, where seeds differ, with a stroke between."""
    keys = [*Place._fields, "protocol"]
    found = {}
    for key, group in summary.groupby(keys, sort=False):
        sizes = sorted({int(size) for size in group["effective_batch_size"].dropna()})
        found[tuple(key)] = "/".join(map(str, sizes)) or NA
    return found


def batch_sizes(summary: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """A row per model, budget and protocol, with the datasets that share its batches; columns by input length.

    Args:
        summary: rows of a summary.csv.
        settings: as `longwatt.stages.Stages.tabulate`.
    """
    ours, published = trained(summary), theirs.batch_sizes(settings["published"])
    places = {Place(*key[:-1]) for key in ours} | published.keys()
    lengths = sorted({place.seq_len for place in places})
    shown = {name: _row(name, lengths, ours, published, settings) for name in _rows(ours, published)}
    table = grouped(_merged(shown, settings["titles"]))
    alike = [("", "protocol")] if table[("", "protocol")].nunique() <= 1 else []
    return table.drop(columns=alike)


def _rows(ours: Mapping[Key, str], published: Mapping[Place, int]) -> list[Key]:
    """(dataset, model, budget, protocol) of every row, what is published and not trained yet included."""
    protocols = list(dict.fromkeys(key[-1] for key in ours)) or [NA]
    unfinished = ((*place[:-1], protocol) for place in published for protocol in protocols)
    return list(dict.fromkeys([*((*key[:3], key[-1]) for key in ours), *unfinished]))


def _row(
    name: Key, lengths: list[int], ours: Mapping[Key, str], published: Mapping[Place, int], settings: Mapping[str, Any]
) -> dict[tuple[str, str], str]:
    dataset, model, budget, protocol = name
    step = settings["budgets"][budget]
    row, differing = {}, []
    for length in lengths:
        place = Place(dataset, model, budget, length)
        known = published.get(place)
        own = ours.get((*place, protocol), "" if known is None else NA)
        row[(f"{length} tokens", "trained")] = _product(own, step)
        if published:
            row[(f"{length} tokens", "published")] = "" if known is None else str(known)
            differing += [str(length)] if known is not None and own not in (NA, str(known)) else []
    return {**row, ("", "differs at"): ", ".join(differing) or "none"} if published else row


def _product(effective: str, step: Mapping[str, int | None]) -> str:
    """Per device x accumulation x devices, where the budget says the last two."""
    devices, accumulation = step["devices"] or 1, step["accumulation"]
    if not effective.isdecimal() or devices * (accumulation or 1) == 1:
        return effective
    if accumulation is None:
        return f"{effective} over {devices} devices" if devices > 1 else effective
    return f"{effective} = {int(effective) // (accumulation * devices)} x {accumulation} x {devices}"


def _merged(shown: Mapping[Key, dict[tuple[str, str], str]], titles: Mapping[str, str]) -> pd.DataFrame:
    """Datasets that share a model, a budget and all batches share a row."""
    together: dict[Key, list[str]] = {}
    for (dataset, *others), row in shown.items():
        together.setdefault((*others, *row.items()), []).append(titles.get(dataset, dataset))
    rows = []
    for (model, budget, protocol, *cells), datasets in together.items():
        head = {"datasets": ", ".join(datasets), "model": titles.get(model, model)}
        head |= {"budget": titles.get(budget, budget), "protocol": protocol}
        rows.append({**{("", name): text for name, text in head.items()}, **dict(cells)})
    return pd.DataFrame(rows)
