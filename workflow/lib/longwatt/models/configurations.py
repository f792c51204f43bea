"""What families check of a study's configuration against that of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.models.errors import ModelError
from longwatt.spelling import nearest


def check_keys(given: Mapping[str, Any], known: Any) -> None:
    """Refuse keys that a configuration does not have; transformers would take and ignore them.

    Raises:
        ModelError: names the first one, and the nearest known.
    """
    for key in given:
        if not hasattr(known, key):
            names = [name for name in known.to_dict() if not name.startswith("_")]
            raise ModelError(f"the model's config has the unknown key {key!r}{nearest(key, names)}")


def without_kind(given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without its model_type, which chose the class."""
    return {key: value for key, value in given.items() if key != "model_type"}


def check_vocabulary(vocab_size: int, tokenizer: Any) -> None:
    """Refuse a tokenizer with ids that the model has no embeddings for.

    Raises:
        ModelError: says both sizes.
    """
    if len(tokenizer) > vocab_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens but the model's vocab_size is {vocab_size}; "
            "use the checkpoint's own tokenizer (kind: checkpoint), or another vocab_size"
        )
