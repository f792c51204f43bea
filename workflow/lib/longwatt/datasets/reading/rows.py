"""Rows of users' JSON lines, and the records made of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.canonical import text_of
from longwatt.datasets.reading.stored import StoredRecords
from longwatt.datasets.records import DatasetError, Record

Noted = tuple[StoredRecords, list[str]]  # records, and notes on them
OTHER_TEXT = " (is it Latin-1? iconv -f ISO-8859-1 -t UTF-8)"
_NAMES = {bool: "true or false", str: "text", list: "a list", dict: "an object"}
_KINDS = {**dict.fromkeys((int, float), "a number"), **_NAMES}
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escaped half of a character


@dataclass(frozen=True)
class SourceRow:
    """One JSON object of a file.

    Every method raises a DatasetError with file, line and field if the field is missing or holds
    something else.

    Attributes:
        values: the object.
        place: file and line, for messages.
    """

    values: Mapping[str, Any]
    place: str

    def text(self, field: str) -> str:
        """Return the text of a field that must have some."""
        value = self._value(field)
        if not isinstance(value, str):
            raise self._fault(field, f"must be text, but is {_kind(value)}")
        if not value.strip():
            raise self._fault(field, "is empty; remove the row or fill it in")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """Return the texts of a field with one or several, without empty ones."""
        value = self._value(field)
        given = value if isinstance(value, list) else [value]
        wrong = [item for item in given if not isinstance(item, str)]
        if wrong:
            hidden = "; SCROLLS hides the outputs of its test splits, so leave that split out"
            problem = f"must be text or a list of texts, but holds {_kind(wrong[0])}"
            raise self._fault(field, problem + (hidden if value is None else ""))
        texts = tuple(item for item in given if item.strip())
        if not texts:
            raise self._fault(field, "has no reference; remove the row or fill it in")
        return texts

    def id(self, field: str) -> str:
        """Spell an identifier, which is text or a whole number (1.0 is 1)."""
        value = self._value(field)
        if isinstance(value, float) and value.is_integer():  # parquet has them so beside empty ones
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self._fault(field, f"must be text or a whole number, but is {_kind(value)}")
        return str(value)

    def is_empty(self, field: str) -> bool:
        """Return whether a field holds nothing but white space."""
        value = self._value(field)
        return value is None or (isinstance(value, str) and not value.strip())

    def label(self, field: str) -> str:
        """Spell a label's value as `longwatt.canonical.text_of` does."""
        value = self._value(field)
        text = text_of(value)
        if not text:
            wanted = "a label (text, true, false, a date or a whole number)"
            raise self._fault(field, f"must be {wanted}, but is {_kind(value)}")
        return text

    def share(self, field: str) -> float:
        """Return a number from 0 to 1, also from text that says one."""
        value = self._value(field)
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not 0 <= found <= 1:
            raise self._fault(field, f"must be a number from 0 to 1, but is {_kind(value)}")
        return found

    def _value(self, field: str) -> Any:
        if field not in self.values:
            there = ", ".join(map(repr, self.values)) or "none"
            raise self._fault(field, f"is missing; the row has {there}")
        return self.values[field]

    def _fault(self, field: str, problem: str) -> DatasetError:
        return DatasetError(f"{self.place}: the field {field!r} {problem}")


def read_rows(lines: Iterable[bytes], name: str) -> Iterator[SourceRow]:
    """Yield the rows of a file's JSON lines, without blank lines.

    Raises:
        DatasetError: a line is not UTF-8, not JSON or no object. Names file and line.
    """
    for number, line in enumerate(lines, 1):
        place = f"{name}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            where = f"{error.reason} at byte {error.start + 1} of the line"
            problem = f"is not UTF-8 ({where}); save the file as UTF-8{OTHER_TEXT}"
            raise DatasetError(f"{place} {problem}") from None
        if text.strip():
            yield SourceRow(_object(text, place), place)


def records_of(rows: Iterable[SourceRow], record: Callable[[SourceRow], Record]) -> Noted:
    """Store the records of rows, one for each id.

    A record has the input of its first row and all references in order, as SCROLLS counts them.

    Returns:
        The records, and notes on rows whose input differs from that of the first row of their id.
    """
    stored = StoredRecords()
    for row in rows:
        stored.add(record(row), row.place)
    differing, place = 0, ""
    for first, later, where in stored.repeats():
        if later.input != first.input:
            differing, place = differing + 1, place or where
    note = f"{differing} rows repeat an id with another input, first {place}"
    return stored, [note] if differing else []


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if HALF.search(text):  # usually one of a pair; alone it is no text
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        problem = "half of a character (a lone surrogate); remove or mend it"
        raise DatasetError(f"{place} holds {problem}") from None
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON ({error}); one object per line is expected"
        raise DatasetError(f"{place} {problem}") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{place} must be a JSON object, but is {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and math.isnan(value):
        return "not a number (NaN)"
    # Parquet has other types too: dates, bytes and more.
    kind = _KINDS.get(type(value), f"of the type {type(value).__name__}")
    return f"{kind} ({str(value)[:40]!r})"
