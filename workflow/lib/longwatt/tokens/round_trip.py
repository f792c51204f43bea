"""References that a tokenizer does not give back, so that no model can write them."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile
from typing import Any

QUOTED_TEXT = 60  # characters of a text in a note
COUNTED = (
    "references", "references_changed", "references_changed_beyond_space",
    "references_with_unknown_tokens", "inputs", "inputs_with_unknown_tokens",
)  # fmt: skip


class RoundTrip:
    """Counts of the references of one split that differ from their decoded token ids."""

    def __init__(self, unknown: int | None) -> None:
        self.unknown = unknown  # token of characters that the vocabulary lacks, if it has one
        self._counts = dict.fromkeys(COUNTED, 0)
        self._first: dict[str, str] = {}

    def add_input(self, ids: Collection[int]) -> None:
        """Count an input."""
        self._counts["inputs"] += 1
        self._counts["inputs_with_unknown_tokens"] += self._has_unknown(ids)

    def add_reference(self, id_: str, reference: str, ids: Collection[int], decoded: str) -> None:
        """Count an example's reference, its tokens, and the text decoded of just these."""
        self._counts["references"] += 1
        self._counts["references_with_unknown_tokens"] += self._has_unknown(ids)
        reference = reference.strip()
        if decoded == reference:
            return
        self._counts["references_changed"] += 1
        self._counts["references_changed_beyond_space"] += decoded.split() != reference.split()
        if not self._first:
            # Both texts are quoted from shortly before they differ.
            pairs = zip(reference, decoded, strict=False)
            equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            start = max(0, equal - QUOTED_TEXT // 3)
            first, became = (text[start : start + QUOTED_TEXT] for text in (reference, decoded))
            self._first = {"first_id": id_, "first_reference": first, "first_decoded": became}

    def facts(self) -> dict[str, Any]:
        """Return counts, and the first changed reference with what it became."""
        return {**self._counts, **self._first}

    def _has_unknown(self, ids: Collection[int]) -> bool:
        return self.unknown is not None and self.unknown in ids


def round_trip_notes(split: str, facts: dict[str, Any]) -> list[str]:
    """Note which texts of a split the tokenizer does not give back."""
    found = []
    if facts["references_changed"]:
        found.append(
            f"{facts['references_changed']} of {facts['references']} references of {split} are not "
            "what the tokenizer gives back "
            f"({facts['references_changed_beyond_space']} of them beyond white space), so that no "
            f"answer can equal them; first at id {facts['first_id']!r}: "
            f"{facts['first_reference']!r} becomes {facts['first_decoded']!r}"
        )
    for what in ("references", "inputs"):
        if count := facts[f"{what}_with_unknown_tokens"]:
            unknown = f"{count} of {facts[what]} {what} of {split}"
            found.append(f"{unknown} have characters that the vocabulary lacks")
    return found
