"""Split a user's rows into train, validation and test, no document in two of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from longwatt.files import whole_file
from longwatt.first_study.errors import FirstStudyError
from longwatt.first_study.fields import RowFields, RowValues, value_of
from longwatt.first_study.row_sources import rows_of_file
from longwatt.first_study.texts_seen import RowTexts, example_of

FEW_ROWS = 1000  # below these a larger share is held out, or scores would rest on too few
SHARE_OF_FEW, SHARE_OF_MANY = 0.15, 0.1  # of the rows, for each split that is held out
MOST_HELD_OUT = 2000  # rows: more make scores no surer than that, and cost at every validation
DIGEST_BYTES_OF_GROUP = 12


def assigned(
    groups: Mapping[bytes, tuple[int, str]], missing: Sequence[str], stratified: bool
) -> dict[bytes, str]:
    """Say to which split every document belongs, by its text's digest alone.

    Args:
        groups: rows and label of each document, by its digest.
        missing: splits to hold out of the rows, beside `train`.
        stratified: whether every split should have every label.

    Raises:
        FirstStudyError: there are too few documents.
    """
    classes: dict[str, list[bytes]] = {}
    for digest in sorted(groups):
        classes.setdefault(groups[digest][1] if stratified else "", []).append(digest)
    found = dict.fromkeys(groups, "train")
    rows = sum(count for count, _ in groups.values())
    share = SHARE_OF_FEW if rows < FEW_ROWS else SHARE_OF_MANY
    held = min(share * rows, MOST_HELD_OUT) / rows
    for digests in classes.values():
        counts = [groups[digest][0] for digest in digests]
        # Enough documents for one in each split; else all of a label's are trained on.
        if len(digests) > len(missing):
            found |= _held_out(digests, counts, missing, held * sum(counts))
    _check_enough(found, groups, missing, stratified)
    return found


def _held_out(
    digests: Sequence[bytes], counts: Sequence[int], missing: Sequence[str], wanted: float
) -> dict[bytes, str]:
    """Give each missing split documents until it has its rows, and leave one for training."""
    found, at = {}, 0
    for number, split in enumerate(missing):
        taken, reserve = 0, len(missing) - number  # a document for each later split, and training
        while at < len(digests) - reserve and (taken == 0 or taken + counts[at] / 2 < wanted):
            found[digests[at]], taken, at = split, taken + counts[at], at + 1
    return found


def _check_enough(
    found: Mapping[bytes, str],
    groups: Mapping[bytes, tuple[int, str]],
    missing: Sequence[str],
    stratified: bool,
) -> None:
    there = {split: {groups[d][1] for d in found if found[d] == split} for split in missing}
    least = 2 if stratified else 1
    empty = [split for split, labels in there.items() if len(labels) < least]
    if not empty:
        return
    rows = sum(count for count, _ in groups.values())
    need = (
        "two labels with three different inputs each"
        if stratified
        else f"{len(missing) + 1} different inputs"
    )
    raise FirstStudyError(
        f"{rows} rows with {len(groups)} different inputs cannot be split into "
        f"{', '.join(['train', *missing])} without one input in two splits: that takes {need}. "
        f"Give more rows, or files of your own: --data train=FILE --data {empty[0]}=FILE"
    )


def digest_of(example: RowTexts) -> bytes:
    """Digest a row's document, so that its text need not be kept."""
    data = example.document.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=DIGEST_BYTES_OF_GROUP).digest()


def rows_by_document(path: Path, fields: RowFields) -> tuple[dict[bytes, tuple[int, str]], int]:
    """Count the rows of each document of a file, and the rows without texts."""
    groups: dict[bytes, tuple[int, str]] = {}
    lacking = 0
    for example in (example_of(row.values, fields) for row in rows_of_file(path)):
        if example is None:
            lacking += 1
            continue
        count, label = groups.get(digest := digest_of(example), (0, example.references[0]))
        groups[digest] = count + 1, label
    if not groups:
        raise FirstStudyError(
            f"--data {path}: no row has both {fields.input!r} and {fields.output!r}; name the "
            "fields: --input FIELD --output FIELD"
        )
    return groups, lacking


def plain_row(
    row: RowValues, fields: RowFields, example: RowTexts, number: int, labels: bool
) -> RowValues:
    """Write a row anew, with flat fields that hold texts alone."""
    found: dict[str, Any] = {"id": str(number)}
    if fields.id and isinstance(value := value_of(row, fields.id), str | int):
        found["id"] = str(value)
    if fields.query:
        found["query"] = example.query
    found["input"] = example.input
    references = list(example.references)
    found["label" if labels else "output"] = references if len(references) > 1 else references[0]
    return found


Rewrite = Callable[[RowValues, RowTexts, int], RowValues]


def write_splits(
    source: Path, places: Mapping[str, Path], of: Mapping[bytes, str], fields: RowFields,
    rewrite: Rewrite | None,
) -> dict[str, int]:  # fmt: skip
    """Write the rows of a file into those of its splits, and count them.

    Args:
        source: of the rows.
        places: the file of each split.
        of: the split of each document.
        fields: of the rows.
        rewrite: makes the row that is written; None keeps it as it is.
    """
    counts = dict.fromkeys(places, 0)
    for split, path in places.items():
        with whole_file(path) as stream:
            for row, example, number in _texts(source, fields):
                if of[digest_of(example)] != split:
                    continue
                kept = rewrite(row, example, number) if rewrite else row
                stream.write(json.dumps(kept, ensure_ascii=False, default=str) + "\n")
                counts[split] += 1
    return counts


def write_whole(source: Path, place: Path, fields: RowFields, rewrite: Rewrite) -> int:
    """Write all rows of a file anew, and count them."""
    count = 0
    with whole_file(place) as stream:
        for row, example, number in _texts(source, fields):
            made = rewrite(row, example, number)
            stream.write(json.dumps(made, ensure_ascii=False, default=str) + "\n")
            count += 1
    return count


def _texts(source: Path, fields: RowFields) -> Iterator[tuple[RowValues, RowTexts, int]]:
    for number, row in enumerate(rows_of_file(source), 1):
        if example := example_of(row.values, fields):
            yield row.values, example, number
