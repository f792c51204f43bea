"""Records on disk while a dataset is read, so that memory does not limit it."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from functools import cached_property

from longwatt.datasets.records import Record
from longwatt.datasets.temporary import temporary_file
from longwatt.datasets.text_digests import Digests

RECORD_FIELD_NAMES = tuple(field.name for field in fields(Record))


class StoredRecords(Collection[Record]):
    """Records in the order they were added, read back as one for each id."""

    def __init__(self) -> None:
        self._stream = temporary_file()
        self._offsets = array("Q")
        self._ids = Digests()

    def add(self, record: Record, place: str) -> None:
        """Append a record, whose id may repeat an earlier one, from a file and line."""
        self._ids.add(record.id)
        self._offsets.append(self._stream.tell())
        pickle.dump((place, *(getattr(record, name) for name in RECORD_FIELD_NAMES)), self._stream)

    def repeats(self) -> Iterator[tuple[Record, Record, str]]:
        """Yield (first record of that id, record, place) for each record that repeats an id."""
        pairs = ((later, first) for first, all_later in self._later.items() for later in all_later)
        for later, first in sorted(pairs):
            record, place = self._row(later)
            yield self._row(first)[0], record, place

    def __len__(self) -> int:
        return len(self._offsets) - sum(map(len, self._later.values()))

    def __contains__(self, record: object) -> bool:
        return any(found == record for found in self)

    def __iter__(self) -> Iterator[Record]:
        skipped = {number for later in self._later.values() for number in later}
        for number in range(len(self._offsets)):
            if number not in skipped:
                record, _ = self._row(number)
                others = [self._row(later)[0].references for later in self._later.get(number, ())]
                yield replace(record, references=sum(others, record.references))

    @cached_property
    def _later(self) -> dict[int, list[int]]:
        return self._ids.later()

    def _row(self, number: int) -> tuple[Record, str]:
        self._stream.seek(self._offsets[number])
        place, *values = pickle.load(self._stream)
        return Record(*values), place


class ChosenRecords(Collection[Record]):
    """Records of a collection at some positions, or at all `others`, in its order."""

    def __init__(
        self, records: Collection[Record], numbers: Collection[int], *, others: bool = False
    ) -> None:
        self._records, self._others = records, others
        self._numbers = frozenset(numbers)

    def __len__(self) -> int:
        chosen = len(self._numbers)
        return len(self._records) - chosen if self._others else chosen

    def __contains__(self, record: object) -> bool:
        return any(found == record for found in self)

    def __iter__(self) -> Iterator[Record]:
        for number, record in enumerate(self._records):
            if (number in self._numbers) != self._others:
                yield record
