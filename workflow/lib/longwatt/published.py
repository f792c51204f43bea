"""Values that others published for a study's cells.

A published value belongs to a dataset, a model, an input length and a budget, whatever the protocol
and the seed. Every Snakemake process checks that the study has such cells, so this module imports
nothing heavy.

A published value belongs to a dataset, a model, an input length and a budget, whatever the protocol
and the seed. Checked by every Snakemake process, so this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from longwatt.cells import AXES, Cell
from longwatt.study import StudyError, check_name


class Place(NamedTuple):
    """The dataset, model, budget and input length of a published value."""

    dataset: str
    model: str
    budget: str
    seq_len: int

    @classmethod
    def of(cls, cell: Cell) -> Place:
        """Return the place of a cell, which cells of several protocols and seeds share."""
        return cls(cell.dataset, cell.model, cell.budget, cell.seq_len)


def scores(published: Mapping[str, Any]) -> dict[Place, float]:
    """Return published scores by place, in the order of publication.

    Args:
        published: a study's `published`, or an empty mapping; here and below.
    """
    return {place: float(value) for _, place, value in _scores(published)}


def tables(published: Mapping[str, Any]) -> dict[Place, str]:
    """Return the published table that each score is from, where the study names it."""
    keys = {
        f"published.scores[{n}]": entry.get("table")
        for n, entry in enumerate(published.get("scores", ()))
    }
    return {place: table for key, place, _ in _scores(published) if (table := keys[key])}


def batch_sizes(published: Mapping[str, Any]) -> dict[Place, int]:
    """Return published examples per optimiser step by place, in the order of publication."""
    return {place: int(value) for _, place, value in _batch_sizes(published)}


def check(study: Mapping[str, Any], cells: Iterable[Cell], source: str) -> None:
    """Refuse published values of cells that the study does not have.

    Raises:
        StudyError: names the key and the name or the cell that is not there, or has two values.
    """
    published, there = study.get("published", {}), list(cells)
    for values in (_scores(published), _batch_sizes(published)):
        _check_places(values, {Place.of(cell) for cell in there}, source)
    for name in published.get("datasets", {}):
        where = f"{source}: published.datasets"
        check_name("dataset", name, {cell.dataset for cell in there}, where, INHERITED)


def _scores(published: Mapping[str, Any]) -> Iterator[tuple[str, Place, float]]:
    """Yield (key, place, score) of every published score."""
    for number, entry in enumerate(published.get("scores", ())):
        for length, value in _by_length(entry["scores"]):
            place = Place(entry["dataset"], entry["model"], entry["budget"], length)
            yield f"published.scores[{number}]", place, value


def _batch_sizes(published: Mapping[str, Any]) -> Iterator[tuple[str, Place, int]]:
    """Yield (key, place, examples per step) of every published batch size."""
    for number, entry in enumerate(published.get("batch_sizes", ())):
        for dataset in entry["datasets"]:
            for length, value in _by_length(entry["effective"]):
                place = Place(dataset, entry["model"], entry["budget"], length)
                yield f"published.batch_sizes[{number}]", place, value


def _by_length(values: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """Sort a mapping's values by length as a number.

    YAML keys are text, in which '512' is greater than '1024'.
    """
    return sorted((int(length), value) for length, value in values.items())


def _check_places(values: Iterable[tuple[str, Place, Any]], there: set[Place], source: str) -> None:
    seen: dict[Place, str] = {}
    for key, place, _ in values:
        where = f"{source}: {key}"
        for axis in ("dataset", "model", "budget"):
            check_name(
                axis,
                getattr(place, axis),
                {getattr(known, axis) for known in there},
                where,
                INHERITED,
            )
        if place not in there:
            raise StudyError(
                f"{where}: the study has no cell {_spoken(place)}{_lengths(place, there)}; {REMEDY}"
            )
        if place in seen:
            raise StudyError(
                f"{where}: {_spoken(place)} has a value already, by {seen[place]}; keep one"
            )
        seen[place] = key


# Known are the names of the grid; a study that extends another has its published values too.
INHERITED = " in the grid. Take cells away by `exclude`, which keeps what is said of them, or leave all out (`published:`)"
REMEDY = (
    f"add it to the grid ({', '.join(AXES[axis] for axis in Place._fields)}), or remove its published value (an empty "
    "`published:` leaves all of them out)"
)


def _spoken(place: Place) -> str:
    return f"{place.dataset}/{place.model}/{place.seq_len}/{place.budget}"


def _lengths(place: Place, there: Iterable[Place]) -> str:
    """List the lengths that such cells do have."""
    found = sorted(known.seq_len for known in there if known[:-1] == place[:-1])
    return f" (there it has the lengths {', '.join(map(str, found))})" if found else ""
