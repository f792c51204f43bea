"""Values that others published for a study's cells.

A published value belongs to a dataset, a model, an input length and a budget, whatever the protocol
and the seed. Every Snakemake process checks that the study has such cells, so this module imports
nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from longwatt.config.documents import check_name
from longwatt.config.errors import StudyError
from longwatt.study.cells import AXES, Cell


class PublishedPlace(NamedTuple):
    """The dataset, model, budget and input length of a published value."""

    dataset: str
    model: str
    budget: str
    seq_len: int

    @classmethod
    def of(cls, cell: Cell) -> PublishedPlace:
        """Return the place of a cell, which cells of several protocols and seeds share."""
        return cls(cell.dataset, cell.model, cell.budget, cell.seq_len)


def scores(published: Mapping[str, Any]) -> dict[PublishedPlace, float]:
    """Return published scores by place, in the order of publication.

    Args:
        published: a study's `published`, or an empty mapping; here and below.
    """
    return {place: float(value) for _, place, value in _scores(published)}


def published_tables(published: Mapping[str, Any]) -> dict[PublishedPlace, str]:
    """Return the published table that each score is from, where the study names it."""
    entries = enumerate(published.get("scores", ()))
    keys = {f"published.scores[{number}]": entry.get("table") for number, entry in entries}
    return {place: table for key, place, _ in _scores(published) if (table := keys[key])}


def published_batch_sizes(published: Mapping[str, Any]) -> dict[PublishedPlace, int]:
    """Return published examples per optimiser step by place, in the order of publication."""
    return {place: int(value) for _, place, value in _batch_sizes(published)}


def check_published(study: Mapping[str, Any], cells: Iterable[Cell], source: str) -> None:
    """Refuse published values of cells that the study does not have.

    Raises:
        StudyError: names the key and the name or the cell that is not there, or has two values.
    """
    published, there = study.get("published", {}), list(cells)
    for values in (_scores(published), _batch_sizes(published)):
        _check_places(values, {PublishedPlace.of(cell) for cell in there}, source)
    for name in published.get("datasets", {}):
        where = f"{source}: published.datasets"
        check_name("dataset", name, {cell.dataset for cell in there}, where, INHERITED_HINT)


def _scores(published: Mapping[str, Any]) -> Iterator[tuple[str, PublishedPlace, float]]:
    """Yield (key, place, score) of every published score."""
    for number, entry in enumerate(published.get("scores", ())):
        for length, value in _by_length(entry["scores"]):
            place = PublishedPlace(entry["dataset"], entry["model"], entry["budget"], length)
            yield f"published.scores[{number}]", place, value


def _batch_sizes(published: Mapping[str, Any]) -> Iterator[tuple[str, PublishedPlace, int]]:
    """Yield (key, place, examples per step) of every published batch size."""
    for number, entry in enumerate(published.get("batch_sizes", ())):
        for dataset in entry["datasets"]:
            for length, value in _by_length(entry["effective"]):
                place = PublishedPlace(dataset, entry["model"], entry["budget"], length)
                yield f"published.batch_sizes[{number}]", place, value


def _by_length(values: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """Sort values by length as a number, since '512' is greater than '1024' as text."""
    return sorted((int(length), value) for length, value in values.items())


def _check_places(
    values: Iterable[tuple[str, PublishedPlace, Any]], there: set[PublishedPlace], source: str
) -> None:
    seen: dict[PublishedPlace, str] = {}
    for key, place, _ in values:
        where = f"{source}: {key}"
        for axis in ("dataset", "model", "budget"):
            known = {getattr(one, axis) for one in there}
            check_name(axis, getattr(place, axis), known, where, INHERITED_HINT)
        spoken = f"{place.dataset}/{place.model}/{place.seq_len}/{place.budget}"
        if place not in there:
            lengths = ", ".join(str(one.seq_len) for one in sorted(there) if one[:-1] == place[:-1])
            has = f" (there it has the lengths {lengths})" if lengths else ""
            raise StudyError(f"{where}: the study has no cell {spoken}{has}; {REMEDY}")
        if place in seen:
            raise StudyError(f"{where}: {spoken} has a value already, by {seen[place]}; keep one")
        seen[place] = key


# A study that extends another has its published values too, but the names of its own grid.
INHERITED_HINT = (
    " in the grid. Take cells away by `exclude`, which keeps what is said of them, or leave all "
    "out (`published:`)"
)
REMEDY = (
    f"add it to the grid ({', '.join(AXES[axis] for axis in PublishedPlace._fields)}), or remove "
    "its published value (an empty `published:` leaves all of them out)"
)
