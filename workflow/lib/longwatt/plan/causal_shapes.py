"""Shapes of decoder-only models and their operations, as far as configurations say them.

Read at parse time: the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwatt.models.family import FLASH, FLEX, SDPA
from longwatt.plan.operations import (
    ATTENDING,
    GATE,
    GATED_INNER,
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

CAUSAL_FAMILY = "causal"  # the family of decoder-only models
# Defaults of transformers by `model_type`; one without a name is taken for a Llama.
LLAMA = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "intermediate_size": 11008, "vocab_size": 32000,
}  # fmt: skip
CAUSAL_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": {
        **LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8, "sliding_window": 4096,
    },
    "qwen2": {**LLAMA, "intermediate_size": 22016, "num_key_value_heads": 32, "vocab_size": 151936},
    "qwen3": {
        **LLAMA, "intermediate_size": 22016, "num_key_value_heads": 32, "vocab_size": 151936,
        "head_dim": 128,
    },
    "gemma": {
        "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24576,
        "vocab_size": 256000, "tie_word_embeddings": True,
    },
    "gemma2": {
        "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 9216,
        "vocab_size": 256000, "tie_word_embeddings": True,
    },
    "phi": {
        "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
        "intermediate_size": 8192, "vocab_size": 51200,
    },
    "phi3": {
        "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32,
        "intermediate_size": 8192, "vocab_size": 32064,
    },
    "gpt2": {
        "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
# Configurations of checkpoints on the hub that are known before they are here.
SMOLLM2 = {"model_type": "llama", "vocab_size": 49152, "tie_word_embeddings": True}
SMOLLM2_135M = {
    **SMOLLM2, "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536,
}  # fmt: skip
SMOLLM2_360M = {
    **SMOLLM2, "hidden_size": 960, "num_hidden_layers": 32, "num_attention_heads": 15,
    "num_key_value_heads": 5, "intermediate_size": 2560,
}  # fmt: skip
QWEN25_HALF_B = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936,
    "tie_word_embeddings": True,
}  # fmt: skip
CAUSAL_HUB_CONFIGS: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolLM2-135M": SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-360M": SMOLLM2_360M,
    "HuggingFaceTB/SmolLM2-360M-Instruct": SMOLLM2_360M,
    "Qwen/Qwen2.5-0.5B": QWEN25_HALF_B,
    "Qwen/Qwen2.5-0.5B-Instruct": QWEN25_HALF_B,
    "meta-llama/Llama-3.2-1B": {
        "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True,
    },
    "mistralai/Mistral-7B-v0.1": {"model_type": "mistral"},
    "openai-community/gpt2": {"model_type": "gpt2"},
}  # fmt: skip
# Kinds whose feed-forward blocks have no gate; those whose projections are one matrix.
UNGATED = {
    "gpt2", "gpt_neo", "gpt_neox", "gpt_bigcode", "gptj", "phi", "opt", "bloom", "falcon", "mpt",
    "codegen", "starcoder2",
}  # fmt: skip
FUSED_PROJECTIONS = {"gpt2", "gpt_neox", "gpt_bigcode", "phi3", "falcon", "bloom", "mpt", "codegen"}
FUSED_GATE = {"phi3"}
# Kinds whose feed-forward block reads what attention reads, beside it.
PARALLEL = {"phi", "gptj", "gpt_neox", "falcon", "codegen"}
SKIPPING = (FLASH, FLEX)  # paths that leave out the pairs which masks hide
WIDER_BY = 4  # times the width is that of a feed-forward block that a configuration does not state


@dataclass(frozen=True)
class CausalShape:
    """Sizes that decide a decoder-only model's operations.

    Attributes:
        d_model: width of the residual stream.
        layers: how many.
        heads, kv_heads: of queries, and of keys and values.
        head_dim: width of a head.
        ffn: width of the feed-forward blocks.
        vocabulary: entries of the output layer.
        gated: whether feed-forward blocks have a gate beside their inner matrix.
        fused: whether queries, keys and values come from one matrix.
        fused_gate: whether gate and inner matrix are one.
        parallel: whether feed-forward blocks stand beside attention, not after it.
        tied: whether the output layer shares its weights with the embedding.
        window: tokens that a token attends to, itself included; None for all before it.
        attention: path by which attention is computed.
        adapters: of its matrices; None where all its weights are trained.
    """

    d_model: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    gated: bool = True
    fused: bool = False
    fused_gate: bool = False
    parallel: bool = False
    tied: bool = False
    window: int | None = None
    attention: str = SDPA
    adapters: PlannedAdapters | None = None
    exits: tuple[int, ...] = ()  # it has none; an encoder's shape says where it has some

    @property
    def query_width(self) -> int:
        """Width of all heads' queries."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all heads' keys, or of their values."""
        return self.kv_heads * self.head_dim

    @property
    def encoder_layers(self) -> int:
        """Layers that a prompt runs through."""
        return self.layers

    @property
    def decoder_layers(self) -> int:
        """Layers that a generated token runs through."""
        return self.layers

    @property
    def passed_layers(self) -> int:
        """Layers of a forward pass over prompt and answer."""
        return self.layers

    @property
    def encoder_ffn(self) -> int:
        """Width of a feed-forward block of two matrices with as many weights."""
        return round(self.ffn * (1.5 if self.gated else 1.0))

    @property
    def matrices(self) -> list[Matrix]:
        """Matrices of a layer."""
        return [*self._projections(), *self._feed_forward()]

    def _projections(self) -> list[Matrix]:
        width, query, key = self.d_model, self.query_width, self.kv_width
        mixing = Matrix(MIXING, query, width)
        if self.fused:
            return [Matrix(ATTENDING, width, query + 2 * key, first=True), mixing]
        kinds = ((QUERY_WEIGHTS, query), (KEY_WEIGHTS, key), (VALUE, key))
        return [*(Matrix(names, width, wide, first=True) for names, wide in kinds), mixing]

    def _feed_forward(self) -> list[Matrix]:
        width, outer = self.d_model, Matrix(OUTER, self.ffn, self.d_model)
        if self.fused_gate:
            return [Matrix(GATED_INNER, width, 2 * self.ffn), outer]
        gate = [Matrix(GATE, width, self.ffn)] if self.gated else []
        return [Matrix(INNER, width, self.ffn, first=self.parallel), *gate, outer]

    @property
    def parameters(self) -> int:
        """Weights of its matrices, without positions, biases and norms."""
        tables = 1 if self.tied else 2
        layer = sum(matrix.weights for matrix in self.matrices)
        return self.layers * layer + tables * self.vocabulary * self.d_model

    def depth(self, rule: Mapping[str, Any] | None) -> float:
        """Return the share of its layers that an example runs through: all of them."""
        return 1.0

    def encoding(self, length: float) -> PassOperations:
        """Return the operations of reading a prompt of `length` tokens into the cache."""
        return self._read(length, length * self._seen(length))

    def decoding(self, tokens: float, length: float) -> PassOperations:
        """Return the operations of generating `tokens` tokens after a prompt that was read.

        The first of them follows from the prompt itself. Every other needs a pass of its own.
        """
        passes = max(0.0, tokens - 1)
        seen = length + (passes + 1) / 2
        if self.window is not None:
            seen = min(seen, float(self.window))
        return self._read(passes, passes * seen) + self._head(tokens)

    def teaching(self, targets: float, length: float) -> PassOperations:
        """Return the operations of one pass over a prompt and its answer of `targets` tokens.

        There are logits of the answer alone.
        """
        whole = length + targets
        return self._read(whole, whole * self._seen(whole)) + self._head(targets)

    def encode(self, length: float) -> float:
        """Return the sum of `encoding`."""
        return self.encoding(length).forward

    def decode(self, targets: float, length: float) -> float:
        """Return the sum of `decoding`."""
        return self.decoding(targets, length).forward

    def _read(self, tokens: float, pairs: float) -> PassOperations:
        attention = 4 * self.layers * self.query_width * pairs
        own = products(self.matrices, tokens, self.layers, self.adapters)
        return own + PassOperations(attention=attention)

    def _head(self, tokens: float) -> PassOperations:
        return PassOperations(head=2 * tokens * self.d_model * self.vocabulary)

    def _seen(self, length: float) -> float:
        """Return the keys that are multiplied with a mean token of a row.

        Products of `eager` and `sdpa` are of whole rows, and masks hide what comes later and what
        lies outside a window. So does torch's own counter count them.
        """
        if self.attention not in SKIPPING:
            return length
        if self.window is None or length <= self.window:
            return (length + 1) / 2
        return self.window - self.window * (self.window - 1) / 2 / length


def causal_shape(
    config: Mapping[str, Any], attention: str = SDPA, lora: Mapping[str, Any] | None = None
) -> CausalShape:
    """Find the shape of a decoder-only model.

    Args:
        config: its configuration as far as it is known; the rest is as its kind has it.
        attention: the path that it takes.
        lora: its adapters in the study; None where all its weights are trained.
    """
    kind, own = str(config.get("model_type")), {k: v for k, v in config.items() if v is not None}
    default = CAUSAL_DEFAULTS.get(kind, LLAMA)

    def first(*names: str) -> int:
        """Return what is stated, or else assumed, under one of some names."""
        stated = (known[name] for known in (own, default) for name in names if name in known)
        return int(next(stated, 0))

    width = first("hidden_size", "n_embd", "d_model")
    heads = first("num_attention_heads", "n_head", "n_heads")
    shared = 1 if own.get("multi_query") else heads
    return CausalShape(
        d_model=width,
        layers=first("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        heads=heads,
        kv_heads=first("num_key_value_heads") or shared,
        head_dim=first("head_dim") or width // heads,
        ffn=first("intermediate_size", "n_inner", "ffn_dim") or WIDER_BY * width,
        vocabulary=first("vocab_size"),
        gated=kind not in UNGATED,
        fused=kind in FUSED_PROJECTIONS,
        fused_gate=kind in FUSED_GATE,
        parallel=kind in PARALLEL,
        tied=bool({**default, **own}.get("tie_word_embeddings", False)),
        window=_window({**default, **own}),
        attention=attention,
        adapters=PlannedAdapters.of(lora),
    )


def _window(config: Mapping[str, Any]) -> int | None:
    """Return the window that all layers of a model have, if they do."""
    kinds = set(config.get("layer_types") or ())
    slides = config.get("use_sliding_window", True) and "full_attention" not in kinds
    return int(config["sliding_window"]) if slides and config.get("sliding_window") else None
