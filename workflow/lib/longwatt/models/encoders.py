"""What can be said of an encoder from its configuration alone, without loading a library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.models.errors import ModelError

MODEL_TYPE = "longwatt_early_exit"  # of a trained encoder with exits; its `encoder` is the encoder's configuration
LEARNED, FROZEN_RANDOM = "learned", "frozen_random"
LAYER_WEIGHTS = (LEARNED, FROZEN_RANDOM)
DEPTH = ("num_hidden_layers", "n_layers", "num_layers")  # DistilBERT says n_layers
# Positions are counted from pad_token_id + 1 in these kinds, so that many fewer tokens fit.
OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "roberta-prelayernorm",
    "mpnet",
    "longformer",
)
# What the classes of transformers say where a configuration does not.
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "bert": {"num_hidden_layers": 12, "max_position_embeddings": 512, "type_vocab_size": 2},
    "roberta": {
        "num_hidden_layers": 12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 1,
    },
    "distilbert": {"n_layers": 6, "max_position_embeddings": 512},
    "electra": {"num_hidden_layers": 12, "max_position_embeddings": 512, "type_vocab_size": 2},
    "modernbert": {"num_hidden_layers": 22, "max_position_embeddings": 8192},
}


def encoder_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The encoder's configuration, whether of itself or of a trained model around it."""
    inner = config.get("encoder")
    return (
        inner if config.get("model_type") == MODEL_TYPE and isinstance(inner, Mapping) else config
    )


def setting(config: Mapping[str, Any], key: str) -> int | None:
    """A whole number of an encoder's configuration, stated or known of its kind; None if neither.

    Raises:
        ModelError: it is something else; names the key.
    """
    value = config.get(key, DEFAULTS.get(str(config.get("model_type")), {}).get(key))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ModelError(
            f"{key} in the model's config must be a whole number from 0, but is {value!r}"
        )
    return value


def depth(config: Mapping[str, Any]) -> int | None:
    """How many layers an encoder has, whatever its configuration calls it; None where that is not known.

    Raises:
        ModelError: it says so otherwise than by a whole number.
    """
    encoder = encoder_of(config)
    stated = [key for key in DEPTH if key in encoder] or DEPTH
    return next((value for key in stated if (value := setting(encoder, key)) is not None), None)


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """The most tokens of an input; None where there is no limit or it is not known."""
    encoder = encoder_of(config)
    positions = setting(encoder, "max_position_embeddings")
    if positions is None or encoder.get("model_type") not in OFFSET_POSITIONS:
        return positions
    padding = setting(encoder, "pad_token_id")
    return positions - (1 if padding is None else padding) - 1


def has_segments(config: Mapping[str, Any]) -> bool:
    """Whether an encoder tells a second text from a first by its token types."""
    return (setting(encoder_of(config), "type_vocab_size") or 0) > 1
