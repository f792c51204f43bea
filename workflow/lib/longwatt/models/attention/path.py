"""Attach the fast path to a built model, which stays transformers' own in all else."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import Seq2SeqLMOutput

from longwatt.models.attention.decoder import (
    Encoded,
    decode_packed,
    logits_of,
    target_packing,
)
from longwatt.models.attention.flex import device_refusal
from longwatt.models.attention.loss import linear_cross_entropy
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.steps import StepDecoder
from longwatt.models.family import IGNORED, Batch

# Encodes the packed tokens of a batch: (encoder, input_ids (tokens), packing) -> (tokens, width).
EncodePacked = Callable[[Any, Tensor, Packing], Tensor]
# Settings that drop or return what a fast path never makes, and what they are called.
UNSUPPORTED = {
    "attention_dropout": "dropout of attention weights",
    "encoder_layerdrop": "dropping whole layers",
    "decoder_layerdrop": "dropping whole layers",
    "output_attentions": "returning attention weights",
    "output_hidden_states": "returning hidden states",
}
# Arguments of `forward` that the fast path takes; with any other the model's own is called.
TAKEN = {"input_ids", "attention_mask", "global_attention_mask", "labels"}


def configuration_refusal(config: Any) -> str | None:
    """Say why a configuration cannot be computed exactly by the fast path, or return None."""
    for name, what in UNSUPPORTED.items():
        if value := getattr(config, name, None):
            return f"{name} is {value}, and {what} needs the stock path"
    return None


# Types that products are computed in, by a budget's precision; in all others it is the model's.
MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@functools.cache
def _say(reason: str) -> None:
    warnings.warn(f"attention takes the stock path: {reason}", stacklevel=2)


@dataclass(frozen=True)
class FastPath:
    """The fast path of one built model.

    Attributes:
        model: transformers' model with its head.
        encode: encodes packed documents.
        norm_first: whether the layers normalise their input.
    """

    model: Any
    encode: EncodePacked
    norm_first: bool

    def attach(self) -> None:
        """Let the model's `forward` take this path wherever it can.

        Calling the model stays the way to its loss, so that what wraps a model (several devices,
        mixed precision) keeps its hold on it.
        """
        stock = type(self.model).forward

        @functools.wraps(stock)
        def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(steps := kwargs.get("past_key_values"), StepDecoder):
                logits = steps.logits(kwargs["decoder_input_ids"][:, -1])
                return Seq2SeqLMOutput(logits=logits[:, None], past_key_values=steps)
            packing = None if args else self.packing(kwargs)
            if packing is None or kwargs.get("labels") is None:
                return stock(model, *args, **kwargs)
            return Seq2SeqLMOutput(loss=self._loss(kwargs, packing))

        self.model.forward = MethodType(forward, self.model)

    def detach(self) -> None:
        """Give the model its own `forward` back."""
        del self.model.forward

    def refusal_on(self, device: torch.device, precision: str | None = None) -> str | None:
        """Say why a device cannot take this path, or return None.

        Args:
            precision: of a budget. None for what torch computes in at this moment.
        """
        config, dtype = self.model.config, self.model.dtype
        if precision is not None:
            dtype = MIXED.get(precision, dtype)
        elif device.type != "meta" and torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        return device_refusal(device, dtype, config.d_model // config.encoder_attention_heads)

    def packing(self, batch: Batch) -> Packing | None:
        """Pack a batch, or return None where this path cannot take it."""
        given = {name for name, value in batch.items() if value is not None}
        if not {"input_ids", "attention_mask"} <= given <= TAKEN:
            return None
        everywhere = batch.get("global_attention_mask")
        if everywhere is not None and not _is_first_token(everywhere):
            return None
        if reason := self.refusal_on(batch["input_ids"].device):
            _say(reason)
            return None
        return Packing.of(batch["attention_mask"])

    def encoded(self, batch: Batch, packing: Packing) -> Encoded:
        """Encode a packed batch."""
        ids = packing.pack(batch["input_ids"])
        return Encoded(self.encode(self.model.get_encoder(), ids, packing), packing)

    def label_states(self, batch: Batch, packing: Packing) -> tuple[Tensor, Tensor]:
        """Decode to the hidden states (labels, width) of all labels that count, row by row.

        Returns:
            The states, and which places of the batch's labels they belong to.
        """
        encoded, labels = self.encoded(batch, packing), batch["labels"]
        targets = target_packing(labels)
        ids = self.model.prepare_decoder_input_ids_from_labels(labels=labels)
        decoder = self.model.get_decoder()
        hidden = decode_packed(decoder, targets.pack(ids), targets, encoded, self.norm_first)
        counted = labels != IGNORED
        return hidden[targets.pack(counted)], counted

    def label_logits(self, batch: Batch, packing: Packing) -> tuple[Tensor, Tensor]:
        """Compute the logits (labels, vocabulary) of all labels that count, as `label_states`."""
        states, counted = self.label_states(batch, packing)
        return logits_of(self.model, states), counted

    def _loss(self, batch: Batch, packing: Packing) -> Tensor:
        states, counted = self.label_states(batch, packing)
        bias = self.model.final_logits_bias[0]
        weight, labels = self.model.lm_head.weight, batch["labels"][counted]
        return linear_cross_entropy(states, weight, labels, bias)


def _is_first_token(mask: Tensor) -> bool:
    """Check whether a global attention mask marks just the first token of each row."""
    return bool((mask[:, 0] != 0).all()) and int((mask != 0).sum()) == len(mask)
