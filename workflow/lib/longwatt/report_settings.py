"""Settings of reports: names for people, and what is known before anything has run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from longwatt import settings
from longwatt.cells import Cell, classifies
from longwatt.claim_settings import left_out
from longwatt.escaping import in_one_line
from longwatt.expansion import VARIANT_OF
from longwatt.hyperparameters import rule_columns

Cells = Mapping[str, tuple[Cell, Sequence[str]]]  # each with its inference points, by name
Inference = Callable[[str, str], dict[str, Any]]  # settings of a cell's inference point
# What figures of models with exits show of a cell.
DRAWN = ("cell", "dataset", "model", "seq_len", "budget", "seed", "encoder")


def titles(study: Mapping[str, Any]) -> dict[str, str]:
    """Return how datasets, models and budgets are called in figures.

    One name for two things is the model's.
    """
    entries = {**study["budgets"], **study["datasets"], **study["models"]}
    of_searches = {
        m[VARIANT_OF]: m["search_title"] for m in study["models"].values() if VARIANT_OF in m
    }
    found = {**{name: entry.get("title", name) for name, entry in entries.items()}, **of_searches}
    return {name: in_one_line(title) or name for name, title in found.items()}


def headings(study: Mapping[str, Any], cells: Mapping[str, Cell]) -> dict[str, str]:
    """Return how people call each cell, by its name."""
    called = titles(study)
    return {name: _heading(cell, called) for name, cell in cells.items()}


def _heading(cell: Cell, called: Mapping[str, str]) -> str:
    names = f"{called[cell.dataset]}, {called[cell.model]}, {cell.seq_len} tokens"
    return f"{names} ({cell.budget}, {cell.protocol}, seed {cell.seed})"


def rows(study: Mapping[str, Any], cells: Cells, inference: Inference) -> list[dict[str, Any]]:
    """List what is known of every summary row before anything has run.

    Args:
        study: as `longwatt.study.read_study` reads it; here and below.
        cells: of the study; here and below.
        inference: asked of labels alone.
    """
    return [
        {
            **_known(study, name, cell),
            "inference": point,
            **(rule_columns(inference(name, point)) if classifies(study, cell.dataset) else {}),
        }
        for name, (cell, points) in cells.items()
        for point in points
    ]


def _known(study: Mapping[str, Any], name: str, cell: Cell) -> dict[str, Any]:
    model = study["models"][cell.model]
    known = {**vars(cell), "cell": name, "initialisation": model["initialisation"]}
    return {**known, **{key: model[key] for key in (VARIANT_OF,) if key in model}}


def compared(study: Mapping[str, Any], cells: Cells, inference: Inference) -> list[dict[str, Any]]:
    """List what is known of each cell of labels before it has run, for comparing it with others."""
    return [
        {
            **vars(cell),
            "cell": name,
            "encoder": settings.encoder(study["models"][cell.model]),
            "variant_of": study["models"][cell.model].get(VARIANT_OF),
            "model": claimed(study, cell),
            "points": {point: inference(name, point) for point in points},
        }
        for name, (cell, points) in cells.items()
        if classifies(study, cell.dataset)
    ]


def drawn(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Take of compared cells what figures show."""
    return [{key: cell[key] for key in DRAWN} for cell in cells]


def claimed(study: Mapping[str, Any], cell: Cell) -> str:
    """Return what claims call a cell's model: its entry, or the one that a search made it from."""
    return str(study["models"][cell.model].get(VARIANT_OF, cell.model))


def claim_cells(
    study: Mapping[str, Any], cells: Mapping[str, Cell], points: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """List every row that the grid means, and why `exclude` takes it away, if it does.

    Args:
        study: as in `rows`.
        cells: the study's cells by name.
        points: inference points of these and of those that `exclude` takes away.
    """
    there: dict[str, tuple[Cell, str | None]] = {name: (cell, None) for name, cell in cells.items()}
    return [
        {
            **vars(cell),
            "model": claimed(study, cell),
            "cell": name,
            "inference": point,
            "left_out": reason,
        }
        for name, (cell, reason) in {**there, **left_out(study)}.items()
        for point in points[name]
    ]


def with_splits(cells: Iterable[Mapping[str, Any]], inference: Inference) -> list[dict[str, Any]]:
    """Add its split to each row of `claim_cells`; None where `exclude` takes it away."""
    return [
        {
            **row,
            "split": inference(row["cell"], row["inference"])["split"]
            if row["left_out"] is None
            else None,
        }
        for row in cells
    ]


def dataset_facts(
    study: Mapping[str, Any], cells: Iterable[tuple[Cell, Mapping[str, str]]]
) -> list[dict[str, str]]:
    """List the datasets and tokenizers in use: their names, and the files with their statistics.

    Args:
        study: as in `rows`.
        cells: one or more for each dataset and tokenizer, with the paths of its `dataset` and
            `tokenized`.
    """
    text = {**settings.COMPARISON_DEFAULTS, **study.get("scoring", {})}["text"]
    facts = {
        inputs["tokenized"]: {
            "dataset": cell.dataset,
            "metric": study["datasets"][cell.dataset]["metric"],
            "text": text,
            "tokenizer": study["models"][cell.model]["tokenizer"],
            "records": inputs["dataset"],
            "tokens": inputs["tokenized"],
        }
        for cell, inputs in cells
    }
    return list(facts.values())


def compare_settings(
    study_id: str, study: Mapping[str, Any], against: str | None
) -> dict[str, Any]:
    """Return two studies to set side by side, and how to call things and find intervals."""
    scoring = {**settings.SCORING_DEFAULTS, **study.get("scoring", {})}
    chosen = {key: scoring[key] for key in settings.SCORING_DEFAULTS}
    return {"study": study_id, "against": against, "titles": titles(study), "scoring": chosen}
