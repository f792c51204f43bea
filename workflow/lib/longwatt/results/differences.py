"""Differences between results in their data, weights, code, libraries and machine.

A value that was not recorded, as in older results, counts as no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from longwatt.jobs.pinning import NOT_PINNED
from longwatt.layout.wording import NA, is_known, plain
from longwatt.study import summary_columns
from longwatt.study.summary_columns import BETWEEN_VALUES, ENVIRONMENT, INFERENCE

RecordedRow = Mapping[Any, Any]
# Column of the summary -> what is said of rows that differ in it.
MACHINE_FACTS = {
    "device": "other devices",
    "processor": "other processors",
    "threads": "other thread counts",
    "pinned": "other pinning to cores",
    "wait_policy": "other wait policies of threads",
    "processes": "other numbers of processes",
}
MADE_WITH = {
    "data_digest": "other data",
    "weights_digest": "other weights",
    "train_code_digest": "other code",
    "inference_code_digest": "other code",
    "train_libraries": "other library versions",
    "inference_libraries": "other library versions",
}
# The same of paths of attention, which a model's settings choose.
PATHS = {
    "attention": "other attention paths",
    "inference_attention": "other attention paths in inference",
}
LIBRARIES = ("train_libraries", "inference_libraries")
PINNED = "pinned"
SHORT_DIGEST = 12  # of a digest


def recorded_machine(training: RecordedRow, inference: RecordedRow) -> dict[str, str | None]:
    """Read what a row was made with and measured on, None where unrecorded.

    Args:
        training: training.json, empty for the model before training.
        inference: inference.json.
    """
    # Without a training the inference says it all.
    identity = (training or inference).get("identity") or {}
    return {
        **machine_of(training),
        **{f"{INFERENCE}{name}": value for name, value in machine_of(inference).items()},
        "attention": (training or inference).get("attention"),
        "attention_asked": _asked(training or inference),
        "inference_attention": inference.get("attention"),
        "data_digest": _short(identity.get("data")),
        "weights_digest": _short(identity.get("weights")),
        "train_code_digest": _short((training.get("provenance") or {}).get("code_digest")),
        "inference_code_digest": _short((inference.get("provenance") or {}).get("code_digest")),
        "train_libraries": _libraries(training),
        "inference_libraries": _libraries(inference),
    }


def _short(digest: str | None) -> str | None:
    return digest[:SHORT_DIGEST] if digest else None


def _asked(training: RecordedRow) -> str | None:
    """Return the path of attention that the settings of a training or an inference choose."""
    settings = (training.get("provenance") or {}).get("settings") or {}
    found: str | None = (settings.get("model") or settings).get("attention")
    return found


def _libraries(artefact: Mapping[str, Any]) -> str | None:
    versions: Mapping[str, str] = artefact.get("versions") or {}
    return ", ".join(f"{name} {number}" for name, number in versions.items()) or None


def words_of(column: str) -> str:
    """Describe rows that differ in a column, such as "other devices" or "other data"."""
    return {**MADE_WITH, **PATHS}.get(column) or MACHINE_FACTS[column.removeprefix(INFERENCE)]


def machine_of(artefact: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the machine that an artefact's times and energies come from."""
    found = {name: artefact.get(name) for name in ENVIRONMENT}
    return {**found, PINNED: _was_pinned(found[PINNED])}


def _was_pinned(cores: str | None) -> str | None:
    """Say whether attempts were pinned, whatever their cores (`no`, or such as `0,1 / 2,3`)."""
    if cores is None:
        return None
    each = cores.split(BETWEEN_VALUES)
    return BETWEEN_VALUES.join(sorted({NOT_PINNED if one == NOT_PINNED else "yes" for one in each}))


def threads_in_words(row: RecordedRow) -> str:
    """Write the threads of each process behind a row's training and inference."""
    training, inference = (row.get(name) for name in ("threads", f"{INFERENCE}threads"))
    both = [plain(value) if is_known(value) else NA for value in (training, inference)]
    return both[0] if both[0] == both[1] else f"{both[0]}, inference {both[1]}"


def unlike_machines(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Describe how two machines (`machine_of`) differ, or return None if they are alike."""
    return ", ".join(unlike_words([one, other], ENVIRONMENT)) or None


def difference_notes(values: Sequence[tuple[RecordedRow, str]], apart: bool = False) -> list[str]:
    """List the caveats to print beside a number computed from these values.

    Args:
        values: rows of a summary, each with the column that is read of it.
        apart: whether values of different columns are never compared, as in a correlation.
    """
    rows, columns = [row for row, _ in values], dict.fromkeys(column for _, column in values)
    groups: list[Sequence[tuple[RecordedRow, str]]] = [values]
    if apart:
        groups = [[one for one in values if one[1] == column] for column in columns]
    found = [word for group in groups for word in unlike_words(_measured_on(group), ENVIRONMENT)]
    if len({row.get("budget") for row in rows}) > 1:  # budgets are what is compared
        found = [word for word in found if word != MACHINE_FACTS["processes"]]
    # Rows of one dataset and model should share path of attention, data, weights and code.
    alike: dict[tuple[Any, Any], list[RecordedRow]] = {}
    for row in rows:
        alike.setdefault((row.get("dataset"), row.get("model")), []).append(row)
    same = (*PATHS, *MADE_WITH)
    found += [word for group in alike.values() for word in unlike_words(group, same)]
    found += unlike_words(rows, LIBRARIES)
    for row, column in values:
        number = summary_columns.number_of(column)
        across = row.get(summary_columns.RELATIVE_TO_BASELINE.get(number, ""))
        found += [f"relative to a baseline with {across}"] if is_known(across) else []
    return list(dict.fromkeys(found))


def _measured_on(values: Iterable[tuple[RecordedRow, str]]) -> list[RecordedRow]:
    """Return the machine behind each value, a training's or an inference's or none."""
    facts = ((row, summary_columns.machine_columns(column)) for row, column in values)
    # No column says it of a number that depends on no machine.
    return [dict(zip(ENVIRONMENT, map(row.get, names), strict=False)) for row, names in facts]


def unlike_words(rows: Sequence[RecordedRow], columns: Iterable[str]) -> Iterator[str]:
    """Yield a description of each column in which rows or their attempts differ, once."""
    known = {name: _known(rows, name) for name in columns}
    unlike = (
        name for name, texts in known.items() if len(texts) > 1 or BETWEEN_VALUES in "".join(texts)
    )
    yield from dict.fromkeys(words_of(name) for name in unlike)


def between(
    first: Sequence[RecordedRow], second: Sequence[RecordedRow]
) -> dict[str, tuple[str, str]]:
    """Return the values of every column in which two groups of rows differ.

    Args:
        first: rows of one study, with the columns of a summary.
        second: those of the other.
    """
    names = summary_columns.RECORDED
    both = {name: (_known(first, name), _known(second, name)) for name in names}
    return {
        name: (BETWEEN_VALUES.join(one), BETWEEN_VALUES.join(other))
        for name, (one, other) in both.items()
        if one and other and one != other
    }


def _known(rows: Sequence[RecordedRow], column: str) -> list[str]:
    """List the distinct known values of a column, as texts in order."""
    return sorted({plain(row[column]) for row in rows if is_known(row.get(column))})
