"""The shapes of models and the operations that follow from them, as far as their configurations are known.

Read at parse time: the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# BigBird gathers its blocks in memory: arXiv 2204.07288 reports 48 h for it where LED-large takes 14, on GovReport at
# 4096 tokens; a third more operations explain 19 of these hours.
BIGBIRD_COST = 3.0
DEFAULT_VOCABULARY = 50265  # BART's, and so LED's


@dataclass(frozen=True)
class Shape:
    """What decides an encoder-decoder's operations; defaults are those of BART-large, and so of LED and its like.

    Attributes:
        d_model: width of the residual stream.
        encoder_layers, decoder_layers: layers.
        encoder_ffn, decoder_ffn: width of the feed-forward blocks.
        vocabulary: entries of the output layer.
        window: tokens that a token of the encoder attends to around it, global ones included; None for all.
        full_below: length in tokens up to which attention is full nevertheless.
        sparse_cost: how many times longer the encoder takes with sparse attention than its operations say.
    """

    d_model: int = 1024
    encoder_layers: int = 12
    decoder_layers: int = 12
    encoder_ffn: int = 4096
    decoder_ffn: int = 4096
    vocabulary: int = DEFAULT_VOCABULARY
    window: int | None = None
    full_below: int = 0
    sparse_cost: float = 1.0

    def encode(self, length: float) -> float:
        """Operations of the encoder's forward pass over one input of `length` tokens."""
        full = self.window is None or length <= self.full_below
        seen = length if full else min(length, float(self.window or length))
        projections = 8 * self.d_model**2 + 4 * self.d_model * self.encoder_ffn
        cost = 1.0 if full else self.sparse_cost
        return cost * length * self.encoder_layers * (projections + 4 * self.d_model * seen)

    def decode(self, targets: float, length: float) -> float:
        """Operations of the decoder's forward pass over `targets` tokens that attend to `length` encoded ones."""
        own = 12 * self.d_model**2 + 4 * self.d_model * (self.decoder_ffn + targets / 2 + length)
        memory = 4 * self.d_model**2 * length  # keys and values of the encoded input, once for each layer
        return self.decoder_layers * (targets * own + memory) + targets * 2 * self.d_model * self.vocabulary


# How configurations of different families call the same thing.
KEYS = {
    "d_model": ("d_model", "hidden_size"),
    "encoder_layers": ("encoder_layers", "num_layers", "num_hidden_layers"),
    "decoder_layers": ("decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers"),
    "encoder_ffn": ("encoder_ffn_dim", "d_ff", "intermediate_size"),
    "decoder_ffn": ("decoder_ffn_dim", "d_ff", "intermediate_size"),
    "vocabulary": ("vocab_size",),
}


# What transformers takes for a key that a configuration does not have, where it is not as in `Shape`.
FAMILY_DEFAULTS: dict[str, dict[str, int]] = {
    "bigbird_pegasus": {"encoder_layers": 16, "decoder_layers": 16, "vocab_size": 96103}
}
# Configurations of checkpoints on the hub that are known before they are here.
LED_BASE = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
            "attention_window": 1024}  # fmt: skip
HUB_CONFIGS: dict[str, dict[str, Any]] = {
    "allenai/led-base-16384": LED_BASE,
    "allenai/led-large-16384": {"attention_window": 1024},
    "google/bigbird-pegasus-large-pubmed": {},
}


def shape_of(family: str, config: Mapping[str, Any]) -> Shape:
    """The shape of a model.

    Args:
        family: its `family` in the study; led and bigbird_pegasus have sparse attention.
        config: what is known of its configuration; what is not is taken from `Shape`.
    """
    config = {**FAMILY_DEFAULTS.get(family, {}), **config}
    values = {name: _first(config, keys) for name, keys in KEYS.items()}
    shape = Shape(**{name: int(value) for name, value in values.items() if value})
    if family == "led":
        return replace(shape, window=_window(config.get("attention_window", 512)) + 1)
    if family == "bigbird_pegasus" and config.get("attention_type") != "original_full":
        block, drawn = int(config.get("block_size", 64)), int(config.get("num_random_blocks", 3))
        # Three blocks around a token, two global ones, and those drawn; dense up to the threshold of transformers.
        return replace(shape, window=(5 + drawn) * block, full_below=(5 + 2 * drawn) * block, sparse_cost=BIGBIRD_COST)
    return shape


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((config[key] for key in keys if config.get(key)), None)


def _window(given: Any) -> int:
    """LED's attention window; where it differs by layer, their mean."""
    return round(sum(given) / len(given)) if isinstance(given, list) else int(given)
