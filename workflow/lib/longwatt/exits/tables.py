"""Tables from recorded logits: scores at every threshold, and which examples leave where."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.exits.logits import LogitArray, Recorded
from longwatt.exits.measured import CellResults
from longwatt.exits.replay import answers, curve, exits_taken, softmax
from longwatt.files import whole_file
from longwatt.layout.wording import NA

CELL_COLUMNS = ("cell", "dataset", "model")
CURVE_COLUMNS = (
    *CELL_COLUMNS, "split", "rule", "value", "accuracy", "macro_f1", "mean_layers", "exits_taken"
)  # fmt: skip
CONFIDENCES = ("confidence_q25", "confidence_median", "confidence_q75")
DIFFICULTY_COLUMNS = (
    *CELL_COLUMNS, "split", "exit", "layer", "kind", "group", "count", "accuracy",
    "mean_confidence", *CONFIDENCES, "mean_exit", "mean_layers",
)  # fmt: skip
USUAL_THRESHOLD = 0.9  # where the exits of difficulty.csv are taken, or at the study's nearest
GROUPS = 5  # of length and of gold-label confidence, as equal as ties allow

ExitRow = dict[str, Any]
Written = Callable[[Any, int], str]  # a value with so many digits
Groups = list[tuple[str, LogitArray]]  # a name, and which examples


def write_curve(path: Path, cells: Sequence[CellResults]) -> None:
    """Write curve.csv, a row per cell with exits, split of its points and exit rule.

    A row has scores, mean layers and shares of the exits.
    """
    _write(path, CURVE_COLUMNS, cells, _curve_rows)


def write_difficulty(path: Path, cells: Sequence[CellResults]) -> None:
    """Write difficulty.csv, a row per cell with exits, split, exit and group of examples.

    Examples are grouped by label, length and gold-label confidence.
    """
    _write(path, DIFFICULTY_COLUMNS, cells, _difficulty_rows)


def _write(
    path: Path,
    columns: Sequence[str],
    results: Sequence[CellResults],
    rows_of: Callable[[CellResults, str], Iterator[ExitRow]],
) -> None:
    with whole_file(path, newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for cell, split in ((one, split) for one in results for split in one.splits):
            known = {**{name: cell.cell[name] for name in CELL_COLUMNS}, "split": split}
            for row in rows_of(cell, split):
                writer.writerow({name: _shown(value) for name, value in {**known, **row}.items()})


def _shown(value: Any) -> Any:
    if value is None:
        return NA
    return round(value, 6) if isinstance(value, float) else value


def _curve_rows(cell: CellResults, split: str) -> Iterator[ExitRow]:
    given = (cell.calibration[name] for name in ("temperatures", "layers", "labels"))
    for row in curve(cell.recorded[split], *given):
        shares = json.dumps([round(share, 6) for share in row["exits_taken"]])
        yield {**row, "exits_taken": shares}


def _difficulty_rows(cell: CellResults, split: str) -> Iterator[ExitRow]:
    recorded, layers = cell.recorded[split], np.asarray(cell.calibration["layers"])
    predictions, confidences = answers(recorded.logits, cell.calibration["temperatures"])
    taken = exits_taken(predictions, confidences, {"threshold": _threshold(cell)}, recorded.gold)
    for kind, group, chosen in _all_groups(recorded, cell.calibration):
        for exit_, layer in enumerate(layers):
            right = predictions[exit_, chosen] == recorded.gold[chosen]
            own = confidences[exit_, chosen]
            quartiles = map(float, np.percentile(own.astype(float), [25, 50, 75]))
            yield {
                "exit": exit_,
                "layer": int(layer),
                "kind": kind,
                "group": group,
                "count": int(chosen.sum()),
                "accuracy": 100 * float(right.mean()),
                "mean_confidence": float(own.mean()),
                **dict(zip(CONFIDENCES, quartiles, strict=True)),
                "mean_exit": float(taken[chosen].mean()),
                "mean_layers": float(layers[taken[chosen]].mean() + 1),
            }


def _threshold(cell: CellResults) -> float:
    """Return the study's threshold nearest the usual one, the higher of two."""
    thresholds = (point.value for point in cell.points if point.rule == "threshold")
    own = [value for value in thresholds if value is not None]
    return min(own, key=lambda one: (abs(one - USUAL_THRESHOLD), -one), default=USUAL_THRESHOLD)


def _all_groups(
    recorded: Recorded, calibration: Mapping[str, Any]
) -> Iterator[tuple[str, str, LogitArray]]:
    """Yield each group's kind, name and examples."""
    gold = recorded.gold
    for place, name in enumerate(calibration["labels"]):
        if (gold == place).any():
            yield "label", name, gold == place
    for name, chosen in _quantiles(recorded.input_tokens, lambda value, _: str(int(value))):
        yield "length", name, chosen
    last = softmax(recorded.logits[-1:], calibration["temperatures"][-1:])[0]
    of_gold = last[np.arange(len(gold)), gold].astype(float)
    for name, chosen in _quantiles(of_gold, lambda value, digits: f"{value:.{digits}f}"):
        yield "gold_confidence", name, chosen


def _quantiles(values: LogitArray, written: Written) -> Groups:
    """Part values into groups of equal size, named by their least and greatest value.

    Equal values are never parted.
    """
    edges = np.unique(np.quantile(values, np.arange(1, GROUPS) / GROUPS, method="inverted_cdf"))
    places = np.searchsorted(edges, values)  # a group holds its upper edge
    parts = [places == place for place in np.unique(places)]
    for digits in range(2, 17):
        names = [_range(values[part], written, digits) for part in parts]
        if len(set(names)) == len(names):
            break
    return list(zip(names, parts, strict=True))


def _range(values: LogitArray, written: Written, digits: int) -> str:
    low, high = written(values.min(), digits), written(values.max(), digits)
    return low if low == high else f"{low}-{high}"
