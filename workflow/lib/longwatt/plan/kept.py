"""Foretell the bytes of each token that a forward pass keeps for the backward one.

They were counted in models of many sizes with torch's hooks on saved tensors. Read at parse time:
the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from longwatt.models.family import EAGER, FAST
from longwatt.plan.causal_shapes import CausalShape
from longwatt.plan.model_shapes import BIGBIRD, AnyShape, Shape

HALVED = ("bf16", "fp16")
# Keys of configurations for dropout of hidden states, and of attention's shares.
DROPOUT = ("dropout", "hidden_dropout_prob", "resid_pdrop", "hidden_dropout")
ATTENTION_DROPOUT = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")
# Decoder-only kinds that drop out unless they say otherwise.
DROPPING = ("gpt2", "gpt_bigcode")
DROPPED_WIDTH = 8.0  # more bytes of a layer whose hidden states are dropped out
NORMS = 8.0  # fewer bytes of a gated model's layer whose norms are not trained
DROPPED_PAIRS = 8.0  # more bytes of a pair of tokens whose share is dropped out, step by step


@dataclass(frozen=True)
class KeptBytes:
    """State the bytes that one layer keeps of each token, by size.

    Attributes:
        width: of the residual stream.
        ffn: of the feed-forward block.
        query, keys: of all heads' queries, and of their keys; 0 where `width` counts them.
        pairs: of the keys that a token's head sees, in code that makes them all.
    """

    width: float
    ffn: float
    query: float = 0.0
    keys: float = 0.0
    pairs: float = 0.0

    def of(self, width: int, ffn: int, pairs: float = 0.0) -> float:
        """Return the bytes of a token in a layer of these sizes."""
        return self.width * width + self.ffn * ffn + self.pairs * pairs


# By mixed precision or not.
GATED_LAYER = {False: KeptBytes(24, 16, 8, 8), True: KeptBytes(26, 8, 4, 4)}
UNGATED_LAYER = {False: KeptBytes(32, 20), True: KeptBytes(22, 10)}
ENCODER_LAYER = {False: KeptBytes(32, 8), True: KeptBytes(22, 4)}
DECODER_LAYER = {False: KeptBytes(48, 8), True: KeptBytes(34, 4)}
PAIRS = {False: 4.0, True: 6.0}  # of each head and key, where attention goes step by step
MEMORY = {False: 8.0, True: 4.0}  # of a decoder's keys and values of each encoded token
# Sparse encoders by family and whether their path is the fast one. Mixed precision takes
# MIXED_SHARE of their widths and half of the rest.
SPARSE_LAYERS = {
    ("led", True): KeptBytes(41, 8),
    ("led", False): KeptBytes(75, 8, pairs=10.2),
    (BIGBIRD, True): KeptBytes(37, 8),
    (BIGBIRD, False): KeptBytes(84, 20, pairs=26.2),
}
MIXED_SHARE = 0.7


def kept_of_causal(
    shape: CausalShape, config: Mapping[str, Any], length: float, half: bool, on_cpu: bool
) -> float:
    """Return the bytes that all layers of a decoder-only model keep of each token.

    Args:
        shape, config: of the model, the configuration as far as it is known.
        length: tokens of a row.
        half: whether precision is mixed.
        on_cpu: whether it computes on a CPU, whose code makes all pairs where shares are dropped.
    """
    one = GATED_LAYER[half] if shape.gated else UNGATED_LAYER[half]
    width = one.width - (NORMS if shape.gated and shape.adapters else 0.0)
    found = width * shape.d_model + one.ffn * shape.ffn + _dropped(config, shape)
    dropped = _drops(config, ATTENTION_DROPOUT, shape)
    stepwise = shape.attention == EAGER or (on_cpu and dropped)
    if not stepwise:
        found += one.query * shape.query_width + one.keys * shape.kv_width
        return shape.layers * found
    pairs = PAIRS[half] + (DROPPED_PAIRS if dropped else 0.0)
    found += 2 * one.query * shape.query_width  # keys and values are repeated for all queries
    return shape.layers * (found + pairs * shape.heads * length)


def kept_of_encoder(
    shape: Shape, config: Mapping[str, Any], length: float, half: bool, path: str, on_cpu: bool
) -> float:
    """Return the bytes that all layers of an encoder keep of each token.

    Args:
        shape, config: of the model, the configuration as far as it is known.
        length: tokens of a row.
        half: whether precision is mixed.
        path: of attention.
        on_cpu: whether it computes on a CPU, whose code makes all pairs where shares are dropped.
    """
    heads = _heads(config)
    if sparse := _sparse(shape, path, half, length):
        one, pairs = sparse, heads * _span(shape, config)
    else:
        one = ENCODER_LAYER[half]
        dropped = _drops(config, ATTENTION_DROPOUT, shape)
        made = PAIRS[half] + (DROPPED_PAIRS if dropped else 0.0)
        one = replace(one, pairs=made if path == EAGER or (on_cpu and dropped) else 0.0)
        pairs = heads * length
    layer = one.of(shape.d_model, shape.encoder_ffn, pairs) + _dropped(config, shape)
    return shape.encoder_layers * layer


def kept_of_decoder(
    shape: Shape,
    config: Mapping[str, Any],
    length: float,
    targets: float,
    half: bool,
    path: str,
) -> float:
    """Return the bytes that a decoder keeps of one example with `targets` tokens.

    Other arguments are as in `kept_of_encoder`.
    """
    one = DECODER_LAYER[half]
    memory = MEMORY[half] * shape.d_model * length
    layer = targets * (one.of(shape.d_model, shape.decoder_ffn) + _dropped(config, shape))
    stepwise = path == EAGER or (shape.window is not None and path != FAST)
    pairs = PAIRS[half] * _heads(config) * targets * (length + targets) if stepwise else 0.0
    return shape.decoder_layers * (layer + memory + pairs)


def _sparse(shape: Shape, path: str, half: bool, length: float) -> KeptBytes | None:
    """Return what a layer with sparse attention keeps, None where attention is full."""
    if shape.window is None or length <= shape.full_below:
        return None
    one = SPARSE_LAYERS["led" if shape.slides else BIGBIRD, path == FAST]
    if not half:
        return one
    return KeptBytes(MIXED_SHARE * one.width, one.ffn / 2, pairs=one.pairs / 2)


def _span(shape: Shape, config: Mapping[str, Any]) -> float:
    """Return the tokens of LED's window, or of BigBird's blocks."""
    return float(shape.chunk or config.get("block_size", 64))


def _heads(config: Mapping[str, Any]) -> int:
    return int(config.get("encoder_attention_heads") or config.get("num_attention_heads") or 12)


def _drops(config: Mapping[str, Any], keys: tuple[str, ...], shape: AnyShape) -> bool:
    """Check whether a model drops out, by its configuration or its kind's default."""
    stated = [config[key] for key in keys if config.get(key) is not None]
    if stated:
        return bool(stated[0])
    if isinstance(shape, CausalShape):
        return config.get("model_type") in DROPPING
    return keys is DROPOUT or not shape.decoder_layers


def _dropped(config: Mapping[str, Any], shape: AnyShape) -> float:
    """Return the bytes of a token in a layer that dropout of hidden states keeps."""
    return DROPPED_WIDTH * shape.d_model if _drops(config, DROPOUT, shape) else 0.0
