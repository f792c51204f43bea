"""Check a trained model by its digests before it is used, and take a sound copy of what is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from longwatt.artefacts import damaged, differing, look_at, model_files, read_artefact
from longwatt.progress import say
from longwatt.provenance import sha256, whole_path

__all__ = ["ensure_sound", "model_files", "result_damage"]
AGAIN = "the cell is trained again"


def result_damage(result: Path) -> str:
    """Say what is damaged of a training's result that its work folder keeps; empty if nothing is.

    A result shares its files with what was published of it, so bit rot strikes both.
    """
    facts, problem = look_at(result / "training.json")
    if problem:
        return f"{result}/training.json is damaged ({problem})"
    wrong = differing(result, facts.get("sha256", {}))
    return "; ".join(f"{result}/{name} is damaged ({problem})" for name, problem in wrong.items())


def ensure_sound(paths: Mapping[str, str]) -> None:
    """Compare a model's files with the digests that were written with them; a damaged one is replaced by a sound copy.

    Args:
        paths: the `model`, its `training` and, where it is calibrated, its `temperatures`; without either none is
            compared.

    Raises:
        longwatt.artefacts.Damaged: there is no sound copy; the model is set aside and made by the next run.
    """
    said = paths.get("temperatures") or paths.get("training")
    if said is None:
        return
    model, artefact = Path(paths["model"]), Path(said)
    named = read_artefact(artefact).get("sha256", {})
    expected = {name: digest for name, digest in named.items() if name.startswith(f"{model.name}/")}
    cell = artefact.parent.parent
    for name, problem in differing(artefact.parent, expected).items():
        copies = [folder / name for folder in (cell / "work" / "result", cell / "finetune")]
        sound = next(
            (copy for copy in copies if copy.is_file() and sha256(copy) == expected[name]), None
        )
        if sound is None:
            then = AGAIN if "temperatures" not in paths else "the model is calibrated again"
            raise damaged(artefact.parent / name, problem, output=model, then=then)
        say(f"{artefact.parent / name} is damaged ({problem}); it is copied from {sound}")
        with whole_path(artefact.parent / name) as partial:
            shutil.copyfile(sound, partial)
