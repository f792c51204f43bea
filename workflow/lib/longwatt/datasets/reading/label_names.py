"""Class names of the label values in a file's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from longwatt.canonical import text_of, value_key
from longwatt.datasets.reading.rows import SourceRow
from longwatt.datasets.records import DatasetError


def label_of(row: SourceRow, field: str, options: Mapping[str, Any]) -> str | None:
    """Return the name of a row's class, or None for a row to leave out.

    Args:
        row: a row of a file.
        field: the field with the label, or with `score_classes` a number from 0 to 1.
        options: `labels` (names by number or by value), `score_classes`, `drop`.

    Raises:
        DatasetError: the options do not know the value. Names file, line, field and value.
    """
    dropped = {value_key(text_of(value) or str(value)) for value in options.get("drop", ())}
    found: str | None
    if "score_classes" in options:
        # Classes have equal width; the highest score falls in the last.
        classes, names = options["score_classes"]["classes"], options["score_classes"]["names"]
        found = names[min(int(classes * row.share(field)), classes - 1)]
    else:
        value = row.label(field)
        known = value_key(value) not in dropped
        found = _named(row, field, value, options.get("labels")) if known else None
    return None if found is None or value_key(found) in dropped else found


def twice_named(labels: Collection[str] | Mapping[str, str]) -> list[str]:
    """Find values in a mapping of labels that spell one value twice (1, 1.0)."""
    keys = Counter(map(value_key, labels if isinstance(labels, Mapping) else ()))
    return [value for value in labels if keys[value_key(value)] > 1]


def _named(
    row: SourceRow, field: str, value: str, labels: list[str] | Mapping[str, str] | None
) -> str:
    if labels is None:
        return value_key(value)  # or 1 and 1.0, True and true would be two classes
    # A list names the values 0, 1, ...
    numbered = {str(number): name for number, name in enumerate(labels)}
    names = labels if isinstance(labels, Mapping) else numbered
    by_key = {value_key(known): name for known, name in names.items()}
    if value_key(value) not in by_key:
        known = ", ".join(map(repr, names))
        raise DatasetError(
            f"{row.place}: the field {field!r} holds {value!r}, but options.labels names {known}; "
            "name it there, or leave such rows out with options.drop"
        )
    return by_key[value_key(value)]
