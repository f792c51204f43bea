"""Shapes of models and their operations, as far as their configurations are known.

A model is an encoder-decoder, or an encoder with classifiers after some of its layers, above which
nothing is built. Decoder-only models are in `longwatt.plan.causal_shapes`.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from longwatt.models.family import FAST, SDPA, STOCK
from longwatt.plan.causal_shapes import (
    CAUSAL_FAMILY,
    CAUSAL_HUB_CONFIGS,
    CausalShape,
    causal_shape,
)
from longwatt.plan.operations import (
    INNER,
    KEY_WEIGHTS,
    MIXING,
    OUTER,
    QUERY_WEIGHTS,
    VALUE,
    Matrix,
    PassOperations,
    PlannedAdapters,
    products,
)

# BigBird gathers its blocks in memory. arXiv 2204.07288 reports 48 h for it where LED-large takes
# 14, on GovReport at 4096 tokens; a third more operations explain 19 of these hours.
BIGBIRD_COST = 3.0
DEFAULT_VOCABULARY = 50265  # BART's, and so LED's


@dataclass(frozen=True)
class Shape:
    """Sizes that decide a model's operations, by default BART-large's and so LED-large's.

    Attributes:
        d_model: width of the residual stream.
        encoder_layers, decoder_layers: layers that are built; an encoder alone has no decoder.
        encoder_ffn, decoder_ffn: width of the feed-forward blocks.
        vocabulary: entries of the output layer.
        window: tokens around it that a token of the encoder attends to, itself and BigBird's global
            ones included; None for all.
        slides: whether the window is LED's: the same on both sides, and a global token beside it.
        chunk: length of the overlapping chunks in which LED's stock attention computes a window,
            over inputs padded to a multiple of it; None for all other attention.
        projections: matrices of the encoder's attention by which every token is multiplied.
        full_below: length in tokens up to which attention is full nevertheless.
        sparse_cost: factor by which sparse attention takes longer than its operations say.
        exits: layers of an encoder alone with a classifier after them, counted from 0, ascending.
        adapters: of its matrices; None where all its weights are trained.
    """

    d_model: int = 1024
    encoder_layers: int = 12
    decoder_layers: int = 12
    encoder_ffn: int = 4096
    decoder_ffn: int = 4096
    vocabulary: int = DEFAULT_VOCABULARY
    window: int | None = None
    slides: bool = False
    chunk: int | None = None
    projections: int = 4
    full_below: int = 0
    sparse_cost: float = 1.0
    exits: tuple[int, ...] = ()
    adapters: PlannedAdapters | None = None

    @property
    def passed_layers(self) -> int:
        """Layers of a forward pass over an input and its target."""
        return self.encoder_layers + self.decoder_layers

    def encode(self, length: float) -> float:
        """Return the operations of encoding `length` tokens through all layers."""
        return self.encoding(length).forward

    def encoding(self, length: float) -> PassOperations:
        """Return the operations of encoding `length` tokens, by their kind."""
        if self.chunk:
            length = math.ceil(length / self.chunk) * self.chunk
        sparse = self.window is not None and length > self.full_below
        pairs = 4 * self.encoder_layers * self.d_model * length * self._seen(length)
        further = (self.projections - 4) * self.d_model**2  # LED's of global tokens
        matrices = [*_attending(self.d_model), *_feeding(self.d_model, self.encoder_ffn)]
        own = products(matrices, length, self.encoder_layers, self.adapters, rest=further)
        found = own + PassOperations(attention=pairs)
        return found.times(self.sparse_cost) if sparse else found

    def _seen(self, length: float) -> float:
        """Return the keys that are multiplied with a mean query of the encoder."""
        if self.chunk:  # each chunk begins in the middle of the one before it
            return 2 * self.chunk - self.chunk**2 / length
        if self.window is None or length <= self.full_below:
            return length
        side = (self.window - 1) / 2
        if not self.slides or length <= side:
            return min(length, float(self.window))
        # The first and the last tokens have less of it. All see the global one, which sees all.
        return min(length, self.window - side * (side + 1) / length + 2)

    def decode(self, targets: float, length: float) -> float:
        """Return the operations of decoding `targets` tokens over `length` encoded ones."""
        return self.decoding(targets, length).forward

    def decoding(self, targets: float, length: float) -> PassOperations:
        """Return the operations of decoding, by their kind. Arguments: see `decode`."""
        if not self.decoder_layers:
            return PassOperations()
        width, layers, adapters = self.d_model, self.decoder_layers, self.adapters
        own = [*_attending(width), *_feeding(width, self.decoder_ffn)]
        pairs = 4 * layers * width * targets * (targets / 2 + length)
        head = 2 * targets * width * self.vocabulary
        # Keys and values of the input are made once for each layer.
        return (
            products([*own, *_reading(width)], targets, layers, adapters)
            + products(_memory(width), length, layers, adapters)
            + PassOperations(attention=pairs, head=head)
        )

    def teaching(self, targets: float, length: float) -> PassOperations:
        """Return the operations of one pass over an input and its target."""
        return self.encoding(length) + self.decoding(targets, length)

    @property
    def parameters(self) -> int:
        """Weights of its matrices, without positions, biases and norms."""
        encoder = 4 * self.d_model**2 + 2 * self.d_model * self.encoder_ffn
        decoder = 8 * self.d_model**2 + 2 * self.d_model * self.decoder_ffn
        layers = self.encoder_layers * encoder + self.decoder_layers * decoder
        return layers + self.vocabulary * self.d_model

    def depth(self, rule: Mapping[str, Any] | None) -> float:
        """Assume the share of its layers that a mean example runs through, 0 to 1.

        It leaves half way between the first exit at which it can and the last; the true depth is a
        result.

        Args:
            rule: by which examples leave, as an inference point's `exit`; None if none does before
                the last exit.
        """
        if rule is None or len(self.exits) < 2:
            return 1.0
        needed = min(int(rule.get("patience", 1)), len(self.exits))  # so many must have agreed
        first, last = self.exits[needed - 1] + 1, self.exits[-1] + 1
        return (first + last) / 2 / last


AnyShape = Shape | CausalShape


def _attending(width: int) -> list[Matrix]:
    """List the matrices of a layer's attention to its own tokens."""
    kinds = (QUERY_WEIGHTS, KEY_WEIGHTS, VALUE)
    first = [Matrix(names, width, width, first=True) for names in kinds]
    return [*first, Matrix(MIXING, width, width)]


def _feeding(width: int, inner: int) -> list[Matrix]:
    """List the matrices of a feed-forward block."""
    return [Matrix(INNER, width, inner), Matrix(OUTER, inner, width)]


def _reading(width: int) -> list[Matrix]:
    """List the matrices by which a decoder's own tokens read the input."""
    return [Matrix(QUERY_WEIGHTS, width, width), Matrix(MIXING, width, width)]


def _memory(width: int) -> list[Matrix]:
    """List the matrices that make a decoder's keys and values of the input."""
    return [Matrix(KEY_WEIGHTS, width, width), Matrix(VALUE, width, width)]


# Names of the same thing in the configurations of different families.
KEYS = {
    "d_model": ("d_model", "hidden_size", "dim"),
    "encoder_layers": ("encoder_layers", "num_layers", "num_hidden_layers", "n_layers"),
    "decoder_layers": ("decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers"),
    "encoder_ffn": ("encoder_ffn_dim", "d_ff", "intermediate_size", "hidden_dim"),
    "decoder_ffn": ("decoder_ffn_dim", "d_ff", "intermediate_size"),
    "vocabulary": ("vocab_size",),
}
# Defaults of transformers where they are not those of `Shape`.
FAMILY_DEFAULTS: dict[str, dict[str, int]] = {
    "bigbird_pegasus": {"encoder_layers": 16, "decoder_layers": 16, "vocab_size": 96103}
}
BIGBIRD = "bigbird_pegasus"
EXITS_FAMILY = "early_exit"  # the family of encoders with exits
BERT_LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096, "vocab_size": 30522,
}  # fmt: skip
BERT_BASE = {
    "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "vocab_size": 30522,
}  # fmt: skip
MODERNBERT = {"num_hidden_layers": 22, "intermediate_size": 1152, "vocab_size": 50368}
# Defaults of encoders by `model_type`; one without a name is taken for the published BERT-large.
ENCODER_DEFAULTS: dict[str, dict[str, int]] = {
    "bert": BERT_BASE,
    "roberta": BERT_BASE | {"vocab_size": 50265},
    "distilbert": {"dim": 768, "n_layers": 6, "hidden_dim": 3072, "vocab_size": 30522},
    "electra": BERT_BASE | {"hidden_size": 256, "intermediate_size": 1024},
    "modernbert": {**BERT_BASE, **MODERNBERT},
}
# Matrices in their feed-forward blocks for each two of the others; one is a gate.
GATED = {"modernbert": 1.5}
# Configurations of checkpoints on the hub that are known before they are here.
LED_BASE = {
    "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072, "attention_window": 1024,
}  # fmt: skip
HUB_CONFIGS: dict[str, dict[str, Any]] = {
    **CAUSAL_HUB_CONFIGS,
    "allenai/led-base-16384": LED_BASE,
    "allenai/led-large-16384": {"attention_window": 1024},
    "google/bigbird-pegasus-large-pubmed": {},
    "google-bert/bert-large-uncased": {"model_type": "bert", **BERT_LARGE},
    "google-bert/bert-base-uncased": {"model_type": "bert", **BERT_BASE},
    "distilbert/distilbert-base-uncased": {"model_type": "distilbert"},
    "FacebookAI/roberta-base": {"model_type": "roberta"},
    "answerdotai/ModernBERT-base": {"model_type": "modernbert"},
    "huawei-noah/TinyBERT_General_6L_768D": {
        "model_type": "bert", **BERT_BASE, "num_hidden_layers": 6,
    },
    "huawei-noah/TinyBERT_General_4L_312D": {
        "model_type": "bert", "hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1200,
    },
    "microsoft/MiniLM-L12-H384-uncased": {
        "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536,
    },
}  # fmt: skip


def shape_of(
    family: str,
    config: Mapping[str, Any],
    exits: Mapping[str, Any] | None = None,
    attention: str = STOCK,
    lora: Mapping[str, Any] | None = None,
) -> AnyShape:
    """Find the shape of a model.

    Args:
        family: its `family` in the study; led and bigbird_pegasus have sparse attention, early_exit
            is an encoder, causal is a decoder alone.
        config: its configuration as far as it is known; the rest is as in `Shape`, or as the kind
            of encoder has it.
        exits: its `exits` in the study; None for a whole encoder, as a checkpoint has it, or
            another family.
        attention: the path that it takes.
        lora: its adapters in the study; None where all its weights are trained.
    """
    if family == CAUSAL_FAMILY:
        return causal_shape(config, SDPA if attention == STOCK else attention, lora)
    adapters = PlannedAdapters.of(lora)
    if family == EXITS_FAMILY:
        return replace(_encoder(config, exits), adapters=adapters)
    return replace(_encoder_decoder(family, config, attention), adapters=adapters)


def _encoder_decoder(family: str, config: Mapping[str, Any], attention: str) -> Shape:
    """Find the shape of an encoder-decoder. Arguments are as in `shape_of`."""
    config = {**FAMILY_DEFAULTS.get(family, {}), **config}
    shape = _named(config)
    if family == "led":
        given = config.get("attention_window", 512)  # where it differs by layer, their mean
        each = given if isinstance(given, list) else [given]
        return _led(shape, round(sum(each) / len(each)), attention)
    if family == "bigbird_pegasus" and config.get("attention_type") != "original_full":
        block, drawn = int(config.get("block_size", 64)), int(config.get("num_random_blocks", 3))
        # Three blocks around a token, two global ones, and those drawn; dense up to the threshold
        # of transformers.
        window, dense = (5 + drawn) * block, (5 + 2 * drawn) * block
        cost = 1.0 if attention == FAST else BIGBIRD_COST
        return replace(shape, window=window, full_below=dense, sparse_cost=cost)
    return shape


def _led(shape: Shape, window: int, attention: str) -> Shape:
    """Add LED's window, of which the fast path computes no more pairs than there are."""
    shape = replace(shape, window=window + 1, slides=True)
    # The stock path also makes keys and values of every token for the global one.
    return shape if attention == FAST else replace(shape, chunk=window, projections=6)


def _encoder(config: Mapping[str, Any], exits: Mapping[str, Any] | None) -> Shape:
    """Find an encoder's shape up to its last exit. All attention counts as full."""
    kind = str(config.get("model_type"))
    shape = _named({**ENCODER_DEFAULTS.get(kind, BERT_LARGE), **config})
    layers = tuple(int(layer) for layer in (exits or {}).get("layers", ()))
    return replace(
        shape,
        encoder_layers=layers[-1] + 1 if layers else shape.encoder_layers,
        decoder_layers=0,
        encoder_ffn=round(shape.encoder_ffn * GATED.get(kind, 1.0)),
        exits=layers,
    )


def _named(config: Mapping[str, Any]) -> Shape:
    """Read a configuration's sizes under whatever name."""
    values: dict[str, Any] = {}
    for name, keys in KEYS.items():
        stated = [int(config[key]) for key in keys if config.get(key)]
        values |= {name: stated[0]} if stated else {}
    return Shape(**values)
