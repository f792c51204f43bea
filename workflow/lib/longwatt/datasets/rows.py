"""Rows of users' JSON lines, and the records made of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.canonical import text_of
from longwatt.datasets.records import DatasetError, Record
from longwatt.datasets.stored import StoredRecords

OTHER_TEXT = " (is it Latin-1? iconv -f ISO-8859-1 -t UTF-8)"
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a character, escaped


@dataclass(frozen=True)
class Row:
    """One JSON object of a file.

    Attributes:
        values: the object.
        place: file and line, for messages.
    """

    values: Mapping[str, Any]
    place: str

    def text(self, field: str) -> str:
        """Return the text of a field that must have some.

        Raises:
            DatasetError: the field is missing, empty or no text.
        """
        value = self._value(field)
        if not isinstance(value, str):
            raise DatasetError(
                f"{self.place}: the field {field!r} must be text, but is {_kind(value)}"
            )
        if not value.strip():
            raise DatasetError(
                f"{self.place}: the field {field!r} is empty; remove the row or fill it in"
            )
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """Return the texts of a field with one or several, without empty ones.

        Raises:
            DatasetError: the field is missing, holds something else, or no text is left.
        """
        value = self._value(field)
        given = value if isinstance(value, list) else [value]
        wrong = [item for item in given if not isinstance(item, str)]
        if wrong:
            raise DatasetError(
                f"{self.place}: the field {field!r} must be text or a list of texts, but holds {_kind(wrong[0])}"
                + (
                    "; SCROLLS hides the outputs of its test splits, so leave that split out"
                    if value is None
                    else ""
                )
            )
        texts = tuple(item for item in given if item.strip())
        if not texts:
            raise DatasetError(
                f"{self.place}: the field {field!r} has no reference; remove the row or fill it in"
            )
        return texts

    def id(self, field: str) -> str:
        """Spell an identifier, which is text or a whole number (1.0 is 1).

        Raises:
            DatasetError: the field is missing or holds something else.
        """
        value = self._value(field)
        if isinstance(value, float) and value.is_integer():  # parquet has them so beside empty ones
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DatasetError(
                f"{self.place}: the field {field!r} must be text or a whole number, but is {_kind(value)}"
            )
        return str(value)

    def is_empty(self, field: str) -> bool:
        """Return whether a field holds nothing but white space.

        Raises:
            DatasetError: the field is missing.
        """
        value = self._value(field)
        return value is None or (isinstance(value, str) and not value.strip())

    def label(self, field: str) -> str:
        """Spell a label's value as `longwatt.canonical.text_of` does.

        Raises:
            DatasetError: the field is missing or holds something else.
        """
        value = self._value(field)
        text = text_of(value)
        if not text:
            raise DatasetError(
                f"{self.place}: the field {field!r} must be a label (text, true, false, a date or a whole number), "
                f"but is {_kind(value)}"
            )
        return text

    def share(self, field: str) -> float:
        """Return a number from 0 to 1, also from text that says one.

        Raises:
            DatasetError: the field is missing, no number, or outside that range.
        """
        value = self._value(field)
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not 0 <= found <= 1:
            raise DatasetError(
                f"{self.place}: the field {field!r} must be a number from 0 to 1, but is {_kind(value)}"
            )
        return found

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise DatasetError(
                f"{self.place}: the field {field!r} is missing; the row has "
                + (", ".join(map(repr, self.values)) or "none")
            )
        return self.values[field]


def read_rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Yield the rows of JSON lines, without blank lines.

    Args:
        lines: of a file opened in binary mode.
        name: of the file, for messages.

    Raises:
        DatasetError: a line is not UTF-8, not JSON or no object. Names file and line.
    """
    for number, line in enumerate(lines, 1):
        place = f"{name}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            where = f"{error.reason} at byte {error.start + 1} of the line"
            raise DatasetError(
                f"{place} is not UTF-8 ({where}); save the file as UTF-8{OTHER_TEXT}"
            ) from None
        if text.strip():
            yield Row(_object(text, place), place)


def records_of(
    rows: Iterable[Row], record: Callable[[Row], Record]
) -> tuple[StoredRecords, list[str]]:
    """Store the records of rows, one for each id.

    That record has all references in order (as SCROLLS counts them) and the input of the first row.

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
    return stored, [
        f"{differing} rows repeat an id with another input, first {place}"
    ] if differing else []


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if HALF.search(text):  # of a pair, as a rule; alone it is no text
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DatasetError(
            f"{place} holds half of a character (a lone surrogate); remove or mend it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{place} is not JSON ({error}); one object per line is expected"
        ) from None
    if not isinstance(value, dict):
        raise DatasetError(f"{place} must be a JSON object, but is {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "not a number (NaN)"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    kind = kinds.get(
        type(value), f"of the type {type(value).__name__}"
    )  # parquet knows dates, bytes and more
    return "null" if value is None else f"{kind} ({str(value)[:40]!r})"
