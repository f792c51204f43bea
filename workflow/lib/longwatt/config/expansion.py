"""Expand the lists of a study: thresholds, patiences, batch sizes and learning rates.

All other modules see only the points and models that come out of it. Every Snakemake process
parses this module, so it imports nothing heavy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from longwatt.config.documents import check_name, merge
from longwatt.config.errors import StudyError

# Key of an exit rule with a list of values -> the rule of one value, and its letter in the name.
RULE_LISTS = {"thresholds": ("threshold", "t"), "patiences": ("patience", "p")}
SEARCH = "search"
VARIANT_OF = "variant_of"  # of a model that a search made: the entry that it was made from
KINDS = {"inference": "inference point", "models": "model"}  # blocks of a study with lists
Entries = Mapping[str, Mapping[str, Any]]
Made = Mapping[str, Mapping[str, Sequence[str]]]


def write_out(study: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the study with every list written out as separate points and models.

    `early: {batch_sizes: [1, 32], exit: {thresholds: [0.8, 0.9]}}` becomes the points
    early-t0.8-b1, early-t0.8-b32, early-t0.9-b1 and early-t0.9-b32. A model `bert` with
    `search: {learning_rate: [2e-5, 3e-5]}` becomes bert-lr2e-05 and bert-lr3e-05. A block of the
    grid that names `early` or `bert` has all of them.

    Raises:
        StudyError: two of them would have one name.
    """
    found = {
        "inference": _written_out(study["inference"], _points, f"{source}: inference"),
        "models": _written_out(study["models"], _variants, f"{source}: models"),
    }
    made = {key: _members(entries) for key, entries in found.items()}
    blocks = enumerate(study["grid"])
    grid = [{**one, **_in_block(one, made, f"{source}: grid[{n}]")} for n, one in blocks]
    flat = {key: merge(*entries.values()) for key, entries in found.items()}
    return {**study, **flat, "grid": grid}


def _written_out(entries: Entries, several: Any, where: str) -> dict[str, dict[str, Any]]:
    """Map each entry to all that it stands for."""
    pairs = {name: list(several(name, entry)) for name, entry in entries.items()}
    names = [made for made_of_one in pairs.values() for made, _ in made_of_one]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(
            f"{where}: {', '.join(twice)} comes out twice; give one of the entries another name"
        )
    return {name: dict(made_of_one) for name, made_of_one in pairs.items()}


def _points(name: str, entry: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    rest = {key: value for key, value in entry.items() if key not in ("batch_sizes", "exit")}
    rules, sizes = list(_rules(entry.get("exit"))), entry.get("batch_sizes")
    for (rule, suffix), size in itertools.product(rules, sizes or [None]):
        batch = {} if size is None else {"batch_size": size}
        of_batch = "" if size is None else f"-b{size}"
        yield f"{name}{suffix}{of_batch}", {**rest, **({"exit": rule} if rule else {}), **batch}


def _rules(rule: Mapping[str, Any] | None) -> Iterable[tuple[Mapping[str, Any] | None, str]]:
    """List the rules that an `exit` stands for, each with its suffix for names."""
    for key, (one, letter) in RULE_LISTS.items():
        if rule and key in rule:
            return [({one: value}, f"-{letter}{value!r}") for value in rule[key]]
    return [(rule, "")]


def _variants(name: str, entry: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    if SEARCH not in entry:
        yield name, dict(entry)
        return
    rest = {key: value for key, value in entry.items() if key != SEARCH}
    title = entry.get("title", name)
    for rate in entry[SEARCH]["learning_rate"]:
        own = {"title": f"{title}, lr {rate!r}", "training": {"learning_rate": rate}}
        yield f"{name}-lr{rate!r}", merge(rest, own, {VARIANT_OF: name, "search_title": title})


def _members(found: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Map each name in the grid to the entries that it stands for.

    An entry stands for all that it became, and each of these stands for itself.
    """
    each = {made: [made] for entries in found.values() for made in entries}
    return {**each, **{name: list(entries) for name, entries in found.items()}}


def _in_block(block: Mapping[str, Any], made: Made, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, members in made.items():
        for name in block.get(key, ()):
            check_name(KINDS[key], name, members, f"{where}.{key}")
        if key in block:
            found[key] = list(dict.fromkeys(one for name in block[key] for one in members[name]))
    return found
