"""Checks of a study's model configuration and weights against those of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from longwatt.files import read_object
from longwatt.models.errors import ModelError
from longwatt.models.family import Config
from longwatt.spelling import nearest

ADAPTER_FILE = "adapter_config.json"  # peft's file beside adapters


def check_keys(given: Config, known: Any) -> None:
    """Raise a ModelError for an unknown key, which transformers would take and ignore."""
    for key in given:
        if not hasattr(known, key):
            names = [name for name in known.to_dict() if not name.startswith("_")]
            raise ModelError(f"the model's config has the unknown key {key!r}{nearest(key, names)}")


def read_known(load: Callable[..., Any], folder: Path, given: Config) -> Any:
    """Read a checkpoint's configuration with a study's settings in place of its own.

    Raises:
        ModelError: a key is unknown, or the checkpoint is of another kind.
    """
    read = partial(load, str(folder), local_files_only=True)
    known = read()
    check_keys(given, known)
    theirs, ours = known.model_type, given.get("model_type", known.model_type)
    if ours != theirs:
        raise ModelError(f"the checkpoint is of the kind {theirs!r}, not {ours!r}")
    return read(**without_kind(given))


def whole_number(key: str, value: Any, least: int) -> int | None:
    """Return a setting, or raise a ModelError unless it is None or whole from `least`."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if value is None or whole:
        return value  # type: ignore[no-any-return]
    what = f"a whole number from {least}, but is {value!r}"
    raise ModelError(f"{key} in the model's config must be {what}")


def without_kind(given: Config) -> dict[str, Any]:
    """Return a configuration without its model_type, which chose the class."""
    return {key: value for key, value in given.items() if key != "model_type"}


def pad_token_of(tokenizer: Any) -> int:
    """Return a tokenizer's padding id, or raise a ModelError if it has none."""
    if tokenizer.pad_token_id is None:
        raise ModelError("the tokenizer has no padding token; set pad_token and save it again")
    return int(tokenizer.pad_token_id)


def check_vocabulary(vocab_size: int, tokenizer: Any) -> None:
    """Raise a ModelError for a tokenizer with ids that lack embeddings in the model."""
    if len(tokenizer) > vocab_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens but the model's vocab_size is "
            f"{vocab_size}; use the checkpoint's own tokenizer (kind: checkpoint), or another "
            "vocab_size"
        )


def check_unquantised(config: Config) -> None:
    """Raise a ModelError for a configuration of quantised weights, which cannot be trained."""
    if (found := config.get("quantization_config")) is not None:
        kind = found.get("quant_method") if isinstance(found, dict) else None
        method = f" ({kind})" if kind else ""
        raise ModelError(
            f"the model's weights are quantised{method}, which is neither trained nor measured "
            "here; name the checkpoint that they were made from"
        )


def check_whole_model(folder: Path) -> None:
    """Raise a ModelError for a folder of adapters in place of a model."""
    adapters = read_object(folder / ADAPTER_FILE)
    if adapters and not (folder / "config.json").exists():
        base = adapters.get("base_model_name_or_path")
        named = f" ({base})" if base else ""
        raise ModelError(
            f"{folder} holds an adapter and no model; name its base{named} as the checkpoint, or "
            "merge the adapter into its base and save the whole model"
        )


def load_weights(load: Callable[..., Any], folder: Path, **kwargs: Any) -> tuple[Any, list[str]]:
    """Load a model in float32 with a `from_pretrained`, from safetensors only.

    A pickle can run code when it is loaded. A repository's own code is never run either.

    Returns:
        The model, and the sorted names of weights that the folder lacks.

    Raises:
        ModelError: weights have other sizes than the configuration's.
    """
    import torch

    fixed = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        model, said = load(str(folder), dtype=torch.float32, **fixed, **kwargs)
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ModelError(
            f"{folder} holds weights of other sizes than the model's config says; leave out keys "
            "of the study's config that change them, such as the number of absolute positions"
        ) from None
    return model, sorted(said["missing_keys"])


def check_complete(absent: Sequence[str], part: str) -> None:
    """Raise a ModelError where weights that a part of the model needs are absent."""
    if absent:
        raise ModelError(
            f"the checkpoint lacks {len(absent)} of the {part}'s weights, {absent[0]} first; is it "
            "of another kind, or does the study's config ask for more layers than it has?"
        )
