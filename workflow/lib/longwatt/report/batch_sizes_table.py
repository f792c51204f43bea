"""Examples per optimiser step as trained, beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longwatt.layout.table_files import grouped
from longwatt.layout.wording import NA
from longwatt.study.reported import published as theirs
from longwatt.study.reported.published import PublishedPlace

Key = tuple[Any, ...]  # a Place and a protocol


def trained(summary: pd.DataFrame) -> dict[Key, str]:
    """Return examples per step by place and protocol, joined by a stroke where seeds differ."""
    keys = [*PublishedPlace._fields, "protocol"]
    found = {}
    for key, group in summary.groupby(keys, sort=False):
        sizes = sorted({float(size) for size in group["effective_batch_size"].dropna()})
        found[tuple(key)] = "/".join(map(_short, sizes)) or NA
    return found


def _products(summary: pd.DataFrame, devices: Mapping[str, int]) -> dict[Key, str]:
    """Return the texts of `_product` by place and protocol, joined where they differ."""
    found: dict[Key, list[str]] = {}
    for row in summary.dropna(subset=["effective_batch_size"]).to_dict("records"):
        key = tuple(row[name] for name in (*PublishedPlace._fields, "protocol"))
        # As many devices as the training says that it had, or for older ones as the study says now.
        known = row.get("processes")
        text = _product(row, devices[row["budget"]] if pd.isna(known) else int(known))
        found[key] = sorted({*found.get(key, ()), text}, key=lambda t: (float(t.split()[0]), t))
    return {key: " / ".join(texts) for key, texts in found.items()}


def _product(row: Mapping[Any, Any], devices: int) -> str:
    """Write examples per step, as per device x accumulation x devices if several share it.

    Where batches have so many tokens, the examples are the mean of all steps.
    """
    if not pd.isna(tokens := row.get("max_tokens_per_batch")):
        parts = [f"up to {tokens:.0f} tokens"]
        if (accumulation := row["gradient_accumulation_steps"]) * devices > 1:
            parts += [f"{accumulation:.0f}", str(devices)]
        return f"{_short(row['effective_batch_size'])} ({' x '.join(parts)})"
    names = ("effective_batch_size", "per_device_batch_size", "gradient_accumulation_steps")
    sizes = [row[name] for name in names]
    if any(map(pd.isna, sizes)) or sizes[2] * devices == 1:
        return f"{sizes[0]:.0f}"
    effective, per_device, accumulation = map(int, sizes)
    # A given step that micro-batches cannot share evenly: some hold one example less.
    word = "=" if per_device * accumulation * devices == effective else "<"
    return f"{effective} {word} {per_device} x {accumulation} x {devices}"


def _short(size: float) -> str:
    """Write examples per step, with a decimal where they are a mean."""
    return f"{size:.1f}".removesuffix(".0")


def batch_sizes_table(summary: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Tabulate batch sizes by input length, a row per datasets, model, budget and protocol.

    Args:
        summary: rows of a summary.csv.
        settings: as `longwatt.study.stages.Stages.tabulate`.
    """
    ours, products = trained(summary), _products(summary, settings["devices"])
    published = theirs.published_batch_sizes(settings["published"])
    places = {PublishedPlace(*key[:-1]) for key in ours} | published.keys()
    lengths = sorted({place.seq_len for place in places})
    protocols = list(dict.fromkeys(key[-1] for key in ours)) or [NA]
    unfinished = ((*place[:-1], protocol) for place in published for protocol in protocols)
    # Dataset, model, budget and protocol of every row, trained or only published.
    names = dict.fromkeys([*((*key[:3], key[-1]) for key in ours), *unfinished])
    shown = {name: _row(name, lengths, ours, products, published) for name in names}
    table = grouped(_merged(shown, settings["titles"]))
    alike = [("", "protocol")] if table[("", "protocol")].nunique() <= 1 else []
    return table.drop(columns=alike)


def _row(
    name: Key,
    lengths: list[int],
    ours: Mapping[Key, str],
    products: Mapping[Key, str],
    published: Mapping[PublishedPlace, int],
) -> dict[tuple[str, str], str]:
    dataset, model, budget, protocol = name
    row, differing = {}, []
    for length in lengths:
        place = PublishedPlace(dataset, model, budget, length)
        known = published.get(place)
        own = ours.get((*place, protocol), "" if known is None else NA)
        row[(f"{length} tokens", "trained")] = products.get((*place, protocol), own)
        if published:
            row[(f"{length} tokens", "published")] = "" if known is None else str(known)
            differing += [str(length)] if known is not None and own not in (NA, str(known)) else []
    if not published:
        return row
    trained_any = any(text not in ("", NA) for (_, kind), text in row.items() if kind == "trained")
    return {**row, ("", "differs at"): ", ".join(differing) or ("none" if trained_any else NA)}


def _merged(
    shown: Mapping[Key, dict[tuple[str, str], str]], titles: Mapping[str, str]
) -> pd.DataFrame:
    """Merge the rows of datasets that share a model, a budget and all batches."""
    together: dict[Key, list[str]] = {}
    for (dataset, *others), row in shown.items():
        together.setdefault((*others, *row.items()), []).append(titles.get(dataset, dataset))
    rows = []
    for (model, budget, protocol, *cells), datasets in together.items():
        head = {"datasets": ", ".join(datasets), "model": titles.get(model, model)}
        head |= {"budget": titles.get(budget, budget), "protocol": protocol}
        rows.append({**{("", name): text for name, text in head.items()}, **dict(cells)})
    return pd.DataFrame(rows)
