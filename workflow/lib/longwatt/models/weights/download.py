"""Bring a checkpoint into resources/ as safetensors, from a folder or a hub's repository.

A user's folder must hold safetensors or one GGUF file. A repository may hold pickled weights (the
published study's do). They are opened as plain tensors only, which cannot run code, and saved as
safetensors.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from longwatt.files import read_object, sha256, whole_path
from longwatt.hub import checkpoints, client
from longwatt.models.configurations import check_whole_model
from longwatt.models.errors import ModelError
from longwatt.models.weights import gguf
from longwatt.provenance.source_files import SourceChanged, folder_files, recorded_facts
from longwatt.provenance.stamps import write_json


def download_model(
    settings: Mapping[str, Any], folder: Path, provenance: Mapping[str, Any]
) -> None:
    """Write a checkpoint's files into `folder`, and their SHA-256 and origin into `model.json`.

    Args:
        settings: `path` of a local checkpoint folder, `package` and `folder` of one in a Python
            package, or `repository` and `revision`.

    Raises:
        ModelError: no configuration, or no weights that may be loaded, such as quantised ones.
        HubError: the repository's files cannot be had.
    """
    repository = checkpoints.repository_of(settings)
    problem = checkpoints.missing_checkpoint(settings, checkpoints.missing_weights)
    fetched = client.fetch(repository, checkpoints.choose_model) if repository else None
    source = fetched or checkpoints.local_folder(settings)
    if fetched:
        problem = checkpoints.quantised(fetched)
    if source is not None:
        check_whole_model(source)
    if problem or source is None:
        raise ModelError(problem)
    # Files of an earlier source (shards beside a single file) must not be taken for this one's.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = checkpoints.checkpoint_files(source) if "path" in settings else []
    try:
        with recorded_facts(folder_files(source, files)) as sources:
            if repository:
                origin = _take(repository, source, folder)
            else:
                origin = {**checkpoints.local_origin(settings), **_bring(source, folder)}
    except SourceChanged as error:
        raise ModelError(str(error)) from None
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    facts = {"sha256": digests, "origin": origin, "sources": sources, "provenance": provenance}
    write_json(folder / "model.json", facts)


def _bring(source: Path, folder: Path) -> dict[str, Any]:
    """Copy a checkpoint's files, or convert its GGUF file and return which it was."""
    if found := checkpoints.gguf_files(source):
        gguf.convert(found[0], folder)
        name = found[0].name
        return {"files": {name: sha256(found[0])}, "converted": [name]}
    for file in checkpoints.checkpoint_files(source):
        _copy(file, folder / file.name)
    return {}


def _take(repository: client.Repository, source: Path, folder: Path) -> dict[str, Any]:
    """Link or convert a repository's files into `folder`, and return their origin."""
    files = checkpoints.choose_model([path.name for path in source.iterdir()])
    pickled = [name for name in files if name.endswith(".bin")]
    for name in files:
        if name in pickled:
            convert_pickle(source / name, folder / _safe(name))
        elif name.endswith(".index.json"):
            known = read_object(source / name)
            shards = {key: _safe(shard) for key, shard in known["weight_map"].items()}
            write_json(folder / _safe(name), {**known, "weight_map": shards})
        else:
            _link_or_copy(source / name, folder / name)
    return {
        "repository": repository.name,
        "revision": repository.revision,
        "files": {name: sha256(source / name) for name in files},
        "verified": client.verified(repository, source, files),
        "converted": sorted(pickled),
    }


def _safe(name: str) -> str:
    """Return the name as safetensors of a file of pickled weights, or of their index."""
    return name.replace("pytorch_model", "model").replace(".bin", ".safetensors")


def convert_pickle(source: Path, target: Path) -> None:
    """Write pickled weights as safetensors, bit by bit the same.

    Tied weights keep the first of their names: transformers ties the others to it when it loads.

    Raises:
        ModelError: it holds anything but named tensors, or cannot be opened without running code.
    """
    import torch
    from safetensors.torch import save_file

    try:
        # Only tensors and plain containers: nothing in the file is ever run.
        held = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle makes of it
        said = str(error).partition("\n")[0]
        why = f"{type(error).__name__}: {said}"
        raise ModelError(f"{source} cannot be opened as weights alone ({why})") from None
    if not isinstance(held, dict) or not all(map(torch.is_tensor, held.values())):
        raise ModelError(f"{source} holds something else than named tensors")
    with whole_path(target) as partial:
        save_file(_untied(held), partial, metadata={"format": "pt"})


def _untied(held: Mapping[str, Any]) -> dict[str, Any]:
    """Keep one name for each tensor, with its own memory, since safetensors cannot share any."""
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in held.items():
        view = (tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride())
        place = (_memory(tensor), *view)
        first.setdefault(place if tensor.numel() else (name,), name)
    kept = {name: held[name] for name in first.values()}
    uses = Counter(map(_memory, kept.values()))
    return {
        name: (tensor.clone() if uses[_memory(tensor)] > 1 else tensor).contiguous()
        for name, tensor in kept.items()
    }


def _memory(tensor: Any) -> int:
    """Return the address of a tensor's memory, the same for all that share it."""
    return int(tensor.untyped_storage().data_ptr())


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link weights in the client's cache to save room, else (or on another disk) copy."""
    if source.is_symlink() and source.suffix == ".safetensors":
        with suppress(OSError):
            target.hardlink_to(source.resolve())
            return
    _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with whole_path(target) as partial:
        shutil.copyfile(source, partial)
