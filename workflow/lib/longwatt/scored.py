"""How a study scores each of its datasets, as far as that decides which references can be scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from longwatt import settings
from longwatt.cells import classifies
from longwatt.datasets.records import SPLITS
from longwatt.datasets.visibility import Scoring
from longwatt.stages import Stages


def scorings(stages: Stages) -> dict[str, list[Scoring]]:
    """How texts are scored, by the folder of their dataset; two entries of a study may share one.

    Args:
        stages: the study's.
    """
    study, found = stages.study, dict[str, list[Scoring]]()
    for dataset in sorted({cell.dataset for cell in stages.cells.values()}):
        if not classifies(study, dataset):
            scoring = _scoring(
                study, dataset, f"studies/{stages.study_id}.yaml: datasets.{dataset}"
            )
            found.setdefault(settings.dataset_key(study, dataset), []).append(scoring)
    return found


def _scoring(study: Mapping[str, Any], dataset: str, entry: str) -> Scoring:
    compared = {**settings.COMPARISON_DEFAULTS, **study.get("scoring", {})}
    used = {settings.INFERENCE_DEFAULTS["split"], settings.TRAINING_DEFAULTS["validation"]["split"]}
    used |= set(_named_splits(study, dataset))
    splits = tuple(split for split in SPLITS if split in used)
    return Scoring(entry, study["datasets"][dataset]["metric"], compared["text"], splits)


def _named_splits(study: Mapping[str, Any], dataset: str) -> Iterator[str]:
    """Every split that some part of the study would score."""
    layers = [
        study,
        study["datasets"][dataset],
        *study["budgets"].values(),
        *study["models"].values(),
    ]
    blocks = [layer.get("training", {}).get("validation", {}) for layer in layers]
    blocks += [layer.get("inference", {}) for layer in layers[1:]]
    blocks += study["inference"].values()
    yield from (block["split"] for block in blocks if "split" in block)
