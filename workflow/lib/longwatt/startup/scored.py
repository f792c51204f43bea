"""Find how a study scores each dataset, which decides which references can be scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.datasets.records import SPLITS
from longwatt.datasets.visibility import Scoring
from longwatt.study import settings
from longwatt.study.cells import classifies
from longwatt.study.stages import Stages


def scorings(stages: Stages) -> dict[str, list[Scoring]]:
    """List how texts are scored, by the folder of their dataset, which entries may share."""
    study, found = stages.study, dict[str, list[Scoring]]()
    for dataset in sorted({cell.dataset for cell in stages.cells.values()}):
        if not classifies(study, dataset):
            scoring = _scoring(study, dataset, f"{stages.source}: datasets.{dataset}")
            found.setdefault(settings.dataset_key(study, dataset), []).append(scoring)
    return found


def _scoring(study: Mapping[str, Any], dataset: str, entry: str) -> Scoring:
    """Describe the scoring of one dataset, over all splits that may be scored."""
    compared = {**settings.COMPARISON_DEFAULTS, **study.get("scoring", {})}
    used = {settings.INFERENCE_DEFAULTS["split"], settings.TRAINING_DEFAULTS["validation"]["split"]}
    entries = [study["datasets"][dataset], *study["budgets"].values(), *study["models"].values()]
    blocks = [one.get("training", {}).get("validation", {}) for one in (study, *entries)]
    blocks += [*(one.get("inference", {}) for one in entries), *study["inference"].values()]
    used |= {block["split"] for block in blocks if "split" in block}
    splits = tuple(split for split in SPLITS if split in used)
    return Scoring(entry, study["datasets"][dataset]["metric"], compared["text"], splits)
