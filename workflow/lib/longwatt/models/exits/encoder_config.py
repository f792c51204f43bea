"""Facts about an encoder from its configuration alone, without loading a library."""

from __future__ import annotations

from collections.abc import Mapping

from longwatt.models.configurations import whole_number
from longwatt.models.family import Config

# The kind of a trained encoder with exits; its `encoder` is the encoder's configuration.
MODEL_TYPE = "longwatt_early_exit"
LEARNED, FROZEN_RANDOM = "learned", "frozen_random"
LAYER_WEIGHTS = (LEARNED, FROZEN_RANDOM)
DEPTH = ("num_hidden_layers", "n_layers", "num_layers")  # DistilBERT says n_layers
# These kinds count positions from pad_token_id + 1, so that many fewer tokens fit.
ROBERTAS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm")
OFFSET_POSITIONS = (*ROBERTAS, "mpnet", "longformer")
_BERT = {"num_hidden_layers": 12, "max_position_embeddings": 512, "type_vocab_size": 2}
# Defaults of the classes of transformers, for what a configuration leaves out.
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "bert": _BERT,
    "roberta": {**_BERT, "pad_token_id": 1},
    "distilbert": {"n_layers": 6, "max_position_embeddings": 512},
    "electra": _BERT,
    "modernbert": {"num_hidden_layers": 22, "max_position_embeddings": 8192},
}


def encoder_of(config: Config) -> Config:
    """Return the encoder's configuration, given its own or that of a trained model around it."""
    inner, trained = config.get("encoder"), config.get("model_type") == MODEL_TYPE
    return inner if trained and isinstance(inner, Mapping) else config


def setting(config: Config, key: str) -> int | None:
    """Return a whole number (else a ModelError) of a configuration, its kind's default or None."""
    known = DEFAULTS.get(str(config.get("model_type")), {})
    return whole_number(key, config.get(key, known.get(key)), least=0)


def depth(config: Config) -> int | None:
    """Return the number of an encoder's layers, or None if it is not known."""
    encoder = encoder_of(config)
    stated = [key for key in DEPTH if key in encoder] or DEPTH
    return next((value for key in stated if (value := setting(encoder, key)) is not None), None)


def most_tokens(config: Config) -> int | None:
    """Return the most tokens of an input, or None if no limit is known."""
    encoder = encoder_of(config)
    positions = setting(encoder, "max_position_embeddings")
    if positions is None or encoder.get("model_type") not in OFFSET_POSITIONS:
        return positions
    padding = setting(encoder, "pad_token_id")
    return positions - (1 if padding is None else padding) - 1


def has_segments(config: Config) -> bool:
    """Check whether an encoder's token types tell a second text from a first."""
    return (setting(encoder_of(config), "type_vocab_size") or 0) > 1
