"""Read the recorded logits of every classifier from exits/logits.jsonl.

Temperatures are fitted on them, and predictions rest on this code. It holds nothing that is only
reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt.provenance.artefacts import check_beside, json_rows

LogitArray = NDArray[Any]


class ExitsError(ValueError):
    """Recorded logits, temperatures or a rule that cannot be used.

    The message names the file, the split and the key.
    """


@dataclass(frozen=True)
class Recorded:
    """One split's logits of every classifier, uncalibrated.

    Attributes:
        ids: of the examples (N).
        logits: (exits, N, classes), float32.
        gold: index of the right label (N).
        label_names: of the right labels (N).
        input_tokens: (N).
    """

    ids: tuple[str, ...]
    logits: LogitArray
    gold: LogitArray
    label_names: tuple[str, ...]
    input_tokens: LogitArray


def read_logits(path: Path) -> dict[str, Recorded]:
    """Read every split of exits/logits.jsonl, in the file's order.

    Raises:
        ExitsError: a logit is no finite number. The message names file, split and example.
        longwatt.provenance.artefacts.Damaged: the file is not what was recorded.
    """
    by_split: dict[str, list[Mapping[str, Any]]] = {}
    check_beside(path.with_name("exits.json"), path)
    for row in json_rows(path):
        by_split.setdefault(row["split"], []).append(row)
    return {split: _recorded(path, split, rows) for split, rows in by_split.items()}


def _recorded(path: Path, split: str, rows: Sequence[Mapping[str, Any]]) -> Recorded:
    try:
        logits = np.array([row["logits"] for row in rows], np.float32)
    except ValueError:
        raise ExitsError(
            f"{path}: rows of the split {split!r} have other numbers of exits or classes"
        ) from None
    broken = ~np.isfinite(logits).all(axis=(1, 2))
    if broken.any():
        first = rows[int(broken.argmax())]["id"]
        raise ExitsError(
            f"{path}: {int(broken.sum())} examples of the split {split!r} have logits that are no "
            f"finite numbers, {first!r} first; the training diverged: lower its learning_rate, or "
            "use precision bf16 or fp32"
        )
    return Recorded(
        ids=tuple(row["id"] for row in rows),
        logits=logits.transpose(1, 0, 2),
        gold=np.array([row["label"] for row in rows]),
        label_names=tuple(row["label_name"] for row in rows),
        input_tokens=np.array([row["input_tokens"] for row in rows]),
    )
