"""Models with exits: their analysis, and their use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longwatt.models.exits.classifier import ExitClassifier


def load_classifier(
    folder: Path | str, device: str = "cpu", temperatures: Sequence[float] | None = None
) -> ExitClassifier:
    """Load a trained model with exits.

    Use it as `load_classifier(folder).predict(texts, threshold=0.9)`.

    Args:
        folder: results/{study}/{cell}/calibrate/model.
        device: "cpu", "cuda" or "cuda:1".
        temperatures: one per exit, instead of the folder's.
    """
    # torch is needed only here.
    from longwatt.models.exits.classifier import ExitClassifier

    return ExitClassifier.load(folder, device, temperatures)
