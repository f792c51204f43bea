"""Bring pretrained weights into resources/: safetensors and configuration, never a pickle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.models.errors import ModelError
from longwatt.provenance import sha256, whole_path, write_json


def download_model(settings: Mapping[str, Any], folder: Path, provenance: Mapping[str, Any]) -> None:
    """Copy a local checkpoint folder's safetensors and JSON files, with their SHA-256, into `folder`.

    Raises:
        ModelError: no configuration, or no safetensors (a pickled checkpoint can run code when loaded).
    """
    source = Path(settings["path"]).expanduser()
    files = checkpoint_files(source)
    problem = missing_weights(source)
    if problem:
        raise ModelError(problem)
    # What an earlier source left (shards beside a single file) must not be taken for part of this one.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    digests = {}
    for file in files:
        _copy(file, folder / file.name)
        digests[file.name] = sha256(folder / file.name)
    write_json(folder / "model.json", {"sha256": digests, "provenance": provenance})


def missing_weights(folder: Path) -> str | None:
    """What a folder lacks to be a checkpoint that may be loaded; None if nothing."""
    if not (folder / "config.json").is_file():
        return f"{folder} is no checkpoint folder: it has no config.json"
    if not list(folder.glob("*.safetensors")):
        return (
            f"{folder} has no *.safetensors file; pickled weights are not loaded. Convert them once with "
            "model.save_pretrained(folder, safe_serialization=True)"
        )
    return None


def missing_tokenizer(folder: Path) -> str | None:
    """What a folder lacks to be a fast tokenizer's; None if nothing."""
    if (folder / "tokenizer.json").is_file():
        return None
    return (
        f"{folder} has no tokenizer.json; save the tokenizer there with "
        "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that are taken; none where there is no such folder."""
    return [path for kind in ("*.safetensors", "*.json") for path in sorted(folder.glob(kind))]


def _copy(source: Path, target: Path) -> None:
    with whole_path(target) as partial:
        shutil.copyfile(source, partial)
