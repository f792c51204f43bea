"""Settings of reports: display names, and what is known before anything has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from longwatt.config.expansion import VARIANT_OF
from longwatt.layout.escaping import in_one_line
from longwatt.provenance.stamps import digest
from longwatt.study import settings
from longwatt.study.cascades import CASCADE
from longwatt.study.cells import TEACHER_FORCED, Cell, classifies
from longwatt.study.claims import left_out
from longwatt.study.model_settings import INITIAL_WEIGHTS, TRAINED_WEIGHTS, initial_weights
from longwatt.study.settings import StudyDocument
from longwatt.study.settings_in_force import rule_columns

Cells = Mapping[str, tuple[Cell, Sequence[str]]]  # each with its inference points, by name
Inference = Callable[[str, str], dict[str, Any]]  # settings of a cell's inference point
# Facts about a cell that figures of models with exits show.
DRAWN = ("cell", "dataset", "model", "seq_len", "budget", "seed", "encoder")


def titles(study: StudyDocument) -> dict[str, str]:
    """Return the display names in figures, the model's where two things share a name."""
    entries = {**study["budgets"], **study["datasets"], **study["models"]}
    variants = [model for model in study["models"].values() if VARIANT_OF in model]
    of_searches = {model[VARIANT_OF]: model["search_title"] for model in variants}
    found = {**{name: entry.get("title", name) for name, entry in entries.items()}, **of_searches}
    found |= _told_apart(study, found)
    return {name: in_one_line(title) or name for name, title in found.items()}


def _told_apart(study: StudyDocument, called: Mapping[str, str]) -> dict[str, str]:
    """Name the path of attention in titles that models of another path have too."""
    models, found = list(study["models"]), dict[str, str]()
    often = Counter(called[name] for name in models)
    shared = {name: settings.attention(study, name) for name in models if often[called[name]] > 1}
    for name, path in shared.items():
        paths = {own for other, own in shared.items() if called[other] == called[name]}
        found |= {name: f"{called[name]}, {path} attention"} if len(paths) > 1 else {}
    return found


def headings(study: StudyDocument, cells: Mapping[str, Cell]) -> dict[str, str]:
    """Return the display name of each cell, by its id."""
    called = titles(study)
    return {
        name: f"{called[cell.dataset]}, {called[cell.model]}, {cell.seq_len} tokens "
        f"({cell.budget}, {cell.protocol}, seed {cell.seed})"
        for name, cell in cells.items()
    }


def rows(study: StudyDocument, cells: Cells, inference: Inference) -> list[dict[str, Any]]:
    """List what is known of every summary row before anything has run.

    Args:
        study: the mapping from `longwatt.config.studies.read_study`, here and below.
        cells: the cells of the study, here and below.
        inference: asked about cells with labels only.
    """
    found = []
    for name, (cell, points) in cells.items():
        model = study["models"][cell.model]
        known = {**vars(cell), "cell": name, "initialisation": model["initialisation"]}
        known |= {VARIANT_OF: model[VARIANT_OF]} if VARIANT_OF in model else {}
        for point in points:
            labels = classifies(study, cell.dataset)
            rule = rule_columns(inference(name, point)) if labels else {}
            before = initial_weights(study["inference"][point])
            weights = {"weights": INITIAL_WEIGHTS if before else TRAINED_WEIGHTS}
            found.append({**known, "inference": point, **weights, **rule})
    return found


def compared(study: StudyDocument, cells: Cells, inference: Inference) -> list[dict[str, Any]]:
    """List what is known of cells with labels beforehand, for their comparison."""
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


# Settings of an inference point by which two of its kind may differ: whose examples they predict.
OF_EXAMPLES_ALONE = ("split", "max_examples", "warmup_batches", "regroup_batches", CASCADE)


def answering(study: StudyDocument, cells: Cells, inference: Inference) -> list[dict[str, Any]]:
    """List the inference points whose answers can be those of a cascade.

    Points of one `kind` differ in whose examples they predict, and in that some are cascades.
    """
    found = []
    for name, (cell, points) in cells.items():
        for point in points:
            given = study["inference"][point]
            if cell.protocol == TEACHER_FORCED or initial_weights(given) or given.get("exit"):
                continue
            rest = {key: value for key, value in given.items() if key not in OF_EXAMPLES_ALONE}
            own = inference(name, point)
            cascade = {CASCADE: own[CASCADE]} if CASCADE in own else {}
            known = {"inference": point, "split": own["split"], "kind": digest(rest)[:8], **cascade}
            random = {"random_weights": study["models"][cell.model]["initialisation"] == "random"}
            found.append({**vars(cell), "cell": name, **known, **random})
    return found


def drawn(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Reduce compared cells to what figures show."""
    return [{key: cell[key] for key in DRAWN} for cell in cells]


def claimed(study: StudyDocument, cell: Cell) -> str:
    """Name a cell's model in claims: its entry, or the origin of its search."""
    return str(study["models"][cell.model].get(VARIANT_OF, cell.model))


def claim_cells(
    study: StudyDocument, cells: Mapping[str, Cell], points: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """List every row that the grid means, with the reason if `exclude` takes it away.

    The points include those of the cells that `exclude` takes away.
    """
    there: dict[str, tuple[Cell, str | None]] = {name: (cell, None) for name, cell in cells.items()}
    found = []
    for name, (cell, reason) in {**there, **left_out(study)}.items():
        known = {**vars(cell), "model": claimed(study, cell), "cell": name}
        known |= {"attention": settings.attention(study, cell.model)}
        known |= {"alike": settings.alike_but_for_attention(study, cell.model)}
        for point in points[name]:
            before = {"initial": True} if initial_weights(study["inference"][point]) else {}
            found.append({**known, "inference": point, "left_out": reason, **before})
    return found


def with_splits(cells: Sequence[Mapping[str, Any]], inference: Inference) -> list[dict[str, Any]]:
    """Add its split to each row of `claim_cells`, None where `exclude` takes the row away."""
    splits = [
        inference(row["cell"], row["inference"])["split"] if row["left_out"] is None else None
        for row in cells
    ]
    return [{**row, "split": split} for row, split in zip(cells, splits, strict=True)]


def dataset_facts(
    study: StudyDocument, cells: Iterable[tuple[Cell, Mapping[str, str]]]
) -> list[dict[str, str]]:
    """List the datasets and tokenizers in use, with the files that hold their statistics.

    The cells have the paths of their `dataset` and `tokenized`. Each dataset and tokenizer has at
    least one.
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


def compare_settings(study_id: str, study: StudyDocument, against: str | None) -> dict[str, Any]:
    """Return the settings to compare two studies: their names, display names and intervals."""
    scoring = settings.resampling_settings(study)
    return {"study": study_id, "against": against, "titles": titles(study), "scoring": scoring}


def answered(study_id: str, study: StudyDocument, currency: str | None) -> dict[str, Any]:
    """Return the settings of a study's answer: its names, and how it is made.

    The currency is that of config.yaml's prices.
    """
    return {
        "study": study_id,
        "title": in_one_line(study.get("title", study_id)) or study_id,
        "titles": titles(study),
        "scoring": settings.resampling_settings(study),
        "currency": currency,
        **settings.answer_settings(study),
    }
