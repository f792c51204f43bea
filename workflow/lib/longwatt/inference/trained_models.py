"""Check a trained model by its digests, and replace damaged files by sound copies."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from longwatt.files import sha256, whole_path
from longwatt.progress import say
from longwatt.provenance.artefacts import (
    damaged,
    differing_files,
    look_at,
    model_files,
    read_artefact,
)

CHANGES_NO_RESULT = "It only refuses or replaces what is damaged."

__all__ = ["ensure_sound", "model_files", "result_damage"]


def result_damage(result: Path) -> str:
    """Say what is damaged in a work folder's result, or "" if nothing."""
    # The published files are these, under second names, so bit rot strikes both.
    facts, problem = look_at(result / "training.json")
    if problem:
        return f"{result}/training.json is damaged ({problem})"
    wrong = differing_files(result, facts.get("sha256", {}))
    return "; ".join(f"{result}/{name} is damaged ({problem})" for name, problem in wrong.items())


def ensure_sound(paths: Mapping[str, str]) -> None:
    """Compare a model's files with their digests, and replace damaged ones by sound copies.

    Args:
        paths: the `model`, its `training` and, where it is calibrated, its `temperatures`. Nothing
            is compared where both of these are missing.

    Raises:
        longwatt.provenance.artefacts.Damaged: there is no sound copy; the model is set aside and
            the next run makes it again.
    """
    said = paths.get("temperatures") or paths.get("training")
    if said is None:
        return
    model, artefact = Path(paths["model"]), Path(said)
    named = read_artefact(artefact).get("sha256", {})
    expected = {name: digest for name, digest in named.items() if name.startswith(f"{model.name}/")}
    cell = artefact.parent.parent
    for name, problem in differing_files(artefact.parent, expected).items():
        copies = [folder / name for folder in (cell / "work" / "result", cell / "finetune")]
        whole = (copy for copy in copies if copy.is_file() and sha256(copy) == expected[name])
        sound = next(whole, None)
        if sound is None:
            calibrated = "temperatures" in paths
            then = "the model is calibrated again" if calibrated else "the cell is trained again"
            raise damaged(artefact.parent / name, problem, output=model, then=then)
        say(f"{artefact.parent / name} is damaged ({problem}); it is copied from {sound}")
        with whole_path(artefact.parent / name) as partial:
            shutil.copyfile(sound, partial)
