"""Check a trained model by its digests, and replace damaged files by sound copies."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from longwatt.files import sha256, whole_path
from longwatt.jobs.errors import WorkerError
from longwatt.models.adapters import BASE
from longwatt.progress import say
from longwatt.provenance.artefacts import (
    check_beside,
    damaged,
    differing_files,
    look_at,
    model_files,
    read_artefact,
)

CHANGES_NO_RESULT = "It only refuses or replaces what is damaged."

__all__ = ["ensure_checkpoint", "ensure_sound", "model_files", "result_damage"]


def result_damage(result: Path) -> str:
    """Say what is damaged in a work folder's result, or "" if nothing."""
    # The published files are these, under second names, so bit rot strikes both.
    facts, problem = look_at(result / "training.json")
    if problem:
        return f"{result}/training.json is damaged ({problem})"
    wrong = differing_files(result, facts.get("sha256", {}))
    return "; ".join(f"{result}/{name} is damaged ({problem})" for name, problem in wrong.items())


def ensure_checkpoint(paths: Mapping[str, str]) -> None:
    """Refuse pretrained weights other than those that were brought here, if there are any.

    Args:
        paths: has the model.json of the `checkpoint`.

    Raises:
        longwatt.provenance.artefacts.Damaged: names the file.
    """
    if "checkpoint" not in paths or not paths["checkpoint"]:
        return
    report = Path(paths["checkpoint"])
    names = read_artefact(report, shared=True).get("sha256", {})
    check_beside(report, *(report.with_name(name) for name in names), shared=True)


def ensure_base(paths: Mapping[str, str]) -> None:
    """Refuse a base whose files are no more those that adapters were trained beside.

    Args:
        paths: the `model`, a folder of adapters, and the model.json of their `checkpoint`.

    Raises:
        WorkerError: names the first file that differs, and what to do.
    """
    adapters, folder = Path(paths["model"]), Path(paths["checkpoint"]).parent
    known = read_artefact(adapters / BASE)
    if wrong := differing_files(folder, known["sha256"]):
        name, problem = next(iter(wrong.items()))
        raise WorkerError(
            f"the base of the adapters in {adapters} changed under them: {folder / name} is not "
            f"the file that they were trained beside ({problem}); put that back, or train the "
            "cell again"
        )


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
