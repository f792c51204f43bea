"""Texts that stand in two splits: what a model has seen in training, or twice in evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from longwatt.datasets.records import Record


def shared_texts(splits: Mapping[str, Sequence[Record]]) -> list[str]:
    """Notes on how many records of each split stand, text by text, in an earlier one too; none where none do."""
    texts = {split: {(record.input, record.second) for record in records} for split, records in splits.items()}
    notes = []
    for first, later in combinations(splits, 2):
        count = sum((record.input, record.second) in texts[first] for record in splits[later])
        if count:
            notes.append(f"{count} of {len(splits[later])} records of {later} have the same text as one of {first}")
    return notes
