"""Tables from recorded logits: what every threshold would give, and which examples leave where."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt.exit_logits import Recorded
from longwatt.exit_measured import CellResults
from longwatt.exit_points import answers, curve, exits_taken, softmax
from longwatt.provenance import whole_file
from longwatt.wording import NA

AXES = ("cell", "dataset", "model")
CURVE_COLUMNS = (
    *AXES,
    "split",
    "rule",
    "value",
    "accuracy",
    "macro_f1",
    "mean_layers",
    "exits_taken",
)
DIFFICULTY_COLUMNS = (
    *AXES, "split", "exit", "layer", "kind", "group", "count", "accuracy", "mean_confidence", "confidence_q25",
    "confidence_median", "confidence_q75", "mean_exit", "mean_layers",
)  # fmt: skip
USUAL_THRESHOLD = 0.9  # where the exits of difficulty.csv are taken, or at the study's nearest
GROUPS = 5  # of length and of gold-label confidence, as equal as ties allow

Array = NDArray[Any]
Groups = list[tuple[str, Array]]  # a name, and which examples


def write_curve(path: Path, cells: Sequence[CellResults]) -> None:
    """One row per cell with exits, split of its points and exit rule: scores, mean layers and shares of the exits."""
    _write(
        path,
        CURVE_COLUMNS,
        (row for cell, split in _splits(cells) for row in _curve_rows(cell, split)),
    )


def write_difficulty(path: Path, cells: Sequence[CellResults]) -> None:
    """One row per cell with exits, split, exit and group of examples, by label, length and gold-label confidence."""
    _write(
        path,
        DIFFICULTY_COLUMNS,
        (row for cell, split in _splits(cells) for row in _difficulty_rows(cell, split)),
    )


def _write(path: Path, columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    with whole_file(path, newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _shown(value) for name, value in row.items()})


def _shown(value: Any) -> Any:
    if value is None:
        return NA
    return round(value, 6) if isinstance(value, float) else value


def _splits(cells: Sequence[CellResults]) -> Iterator[tuple[CellResults, str]]:
    for cell in cells:
        yield from ((cell, split) for split in cell.splits)


def _known(cell: CellResults, split: str) -> dict[str, Any]:
    return {**{name: cell.cell[name] for name in AXES}, "split": split}


def _curve_rows(cell: CellResults, split: str) -> Iterator[dict[str, Any]]:
    calibration = cell.calibration
    given = (calibration[name] for name in ("temperatures", "layers", "labels"))
    for row in curve(cell.recorded[split], *given):
        shares = json.dumps([round(share, 6) for share in row["exits_taken"]])
        yield {**_known(cell, split), **row, "exits_taken": shares}


def _difficulty_rows(cell: CellResults, split: str) -> Iterator[dict[str, Any]]:
    recorded, layers = cell.recorded[split], np.asarray(cell.calibration["layers"])
    predictions, confidences = answers(recorded.logits, cell.calibration["temperatures"])
    taken = exits_taken(predictions, confidences, {"threshold": _threshold(cell)}, recorded.gold)
    for kind, group, chosen in _all_groups(recorded, cell.calibration):
        for exit_, layer in enumerate(layers):
            right = predictions[exit_, chosen] == recorded.gold[chosen]
            yield {
                **_known(cell, split),
                **{
                    "exit": exit_,
                    "layer": int(layer),
                    "kind": kind,
                    "group": group,
                    "count": int(chosen.sum()),
                },
                "accuracy": 100 * float(right.mean()),
                **_confidence(confidences[exit_, chosen]),
                "mean_exit": float(taken[chosen].mean()),
                "mean_layers": float(layers[taken[chosen]].mean() + 1),
            }


def _threshold(cell: CellResults) -> float:
    """The study's threshold nearest the usual one, of two the higher."""
    own = [
        point.value
        for point in cell.points
        if point.rule == "threshold" and point.value is not None
    ]
    return min(
        own, key=lambda value: (abs(value - USUAL_THRESHOLD), -value), default=USUAL_THRESHOLD
    )


def _confidence(values: Array) -> dict[str, float]:
    quartiles = np.percentile(values.astype(float), [25, 50, 75])
    names = ("confidence_q25", "confidence_median", "confidence_q75")
    return {
        "mean_confidence": float(values.mean()),
        **dict(zip(names, map(float, quartiles), strict=True)),
    }


def _all_groups(
    recorded: Recorded, calibration: Mapping[str, Any]
) -> Iterator[tuple[str, str, Array]]:
    last = softmax(recorded.logits[-1:], calibration["temperatures"][-1:])[0]
    of_gold = last[np.arange(len(recorded.gold)), recorded.gold].astype(float)
    kinds = {
        "label": _by_label(recorded.gold, calibration["labels"]),
        "length": _quantiles(recorded.input_tokens, lambda value, _: str(int(value))),
        "gold_confidence": _quantiles(of_gold, lambda value, digits: f"{value:.{digits}f}"),
    }
    for kind, groups in kinds.items():
        yield from ((kind, name, chosen) for name, chosen in groups)


def _by_label(gold: Array, labels: Sequence[str]) -> Groups:
    return [(name, gold == place) for place, name in enumerate(labels) if (gold == place).any()]


def _quantiles(values: Array, written: Any) -> Groups:
    """Groups of equal size, but that equal values are never parted; named by their least and greatest value."""
    edges = np.unique(np.quantile(values, np.arange(1, GROUPS) / GROUPS, method="inverted_cdf"))
    places = np.searchsorted(edges, values)  # a group holds its upper edge
    parts = [places == place for place in np.unique(places)]
    for digits in range(2, 17):
        names = [_range(values[part], written, digits) for part in parts]
        if len(set(names)) == len(names):
            break
    return list(zip(names, parts, strict=True))


def _range(values: Array, written: Any, digits: int) -> str:
    low, high = written(values.min(), digits), written(values.max(), digits)
    return low if low == high else f"{low}-{high}"
