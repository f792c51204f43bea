"""How much data a dataset has and how long its texts are, as far as that is known before it is here.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.references import EACH

TOKENS_PER_WORD = 1.4  # English text in a subword vocabulary; a generated answer is as long as a mean reference


@dataclass(frozen=True)
class Data:
    """What matters of a dataset.

    Attributes:
        rows: references by split; training uses an input once for each of its references.
        words_in, words_out: of a mean input and a mean reference.
        examples: inputs by split, each with one reference or more; None where only rows are known.
    """

    rows: Mapping[str, int]
    words_in: float
    words_out: float
    examples: Mapping[str, int] | None = None

    def inputs(self, split: str) -> int:
        """Inputs of a split; where they are not known its rows, than which they are no more."""
        return (self.rows if self.examples is None else self.examples).get(split, 0)

    def predictions(self, split: str, most: int | None, references: str) -> int:
        """Predictions of a split.

        Args:
            split: which.
            most: inputs that are used at most; None for all.
            references: "best" predicts every input once, "each" once for each of its references.
        """
        there = self.inputs(split)
        used = there if most is None else min(there, most)
        return math.ceil(self.rows.get(split, 0) * used / there) if references == EACH and there else used


# Where nothing is known of a dataset: middling among those of SCROLLS.
UNKNOWN_DATA = Data({"train": 3000, "validation": 500, "test": 500}, 6000.0, 100.0)
# arXiv 2204.07288, dataset facts of SCROLLS, which counts rows; used until the dataset itself is here.
SCROLLS_DATA = {
    "gov_report": Data({"train": 17457, "validation": 972, "test": 973}, 7897.0, 492.7),
    "summ_screen_fd": Data({"train": 3673, "validation": 338, "test": 337}, 5639.0, 100.0),
    "qmsum": Data({"train": 1257, "validation": 272, "test": 281}, 10396.0, 69.7),
    "qasper": Data({"train": 2567, "validation": 1726, "test": 1399}, 3671.0, 11.5),
}


def data_of(source: str, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Data:
    """What is known of a dataset.

    Args:
        source: its `source` in the study.
        options: its `options` there.
        facts: its dataset.json; empty while it is not here.
    """
    if facts.get("splits"):
        return _measured_data(facts["splits"])
    if source == "needle":
        rows = {split: int(options[split]) for split in ("train", "validation", "test")}
        return Data(rows, float(options["words_per_document"]), float(options.get("answer_words", 2)), rows)
    return SCROLLS_DATA.get(str(options.get("task")), UNKNOWN_DATA)


def _measured_data(splits: Mapping[str, Mapping[str, Any]]) -> Data:
    rows, examples = ({n: int(split.get(key, 0)) for n, split in splits.items()} for key in ("rows", "examples"))
    first = splits.get("train") or next(iter(splits.values()))
    return Data(rows, float(first["words_in_mean"]), float(first["words_out_mean"]), examples)
