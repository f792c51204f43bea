"""Texts that stand in two splits, so that evaluation sees them in training or twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from longwatt.datasets.records import Record
from longwatt.datasets.text_digests import Digests


def shared_texts(splits: Mapping[str, Collection[Record]]) -> list[str]:
    """Note how many texts of each split also stand in an earlier split."""
    texts, notes = {split: Digests() for split in splits}, []
    for split, records in splits.items():
        for record in records:
            texts[split].add(record.input, record.second)
    for first, later in combinations(splits, 2):
        if count := texts[later].shared_with(texts[first]):
            shared = f"{count} of {len(splits[later])} records of {later}"
            notes.append(f"{shared} have the same text as one of {first}")
    return notes
