"""Attach the fast path to a built model, which stays transformers' own in all else."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqLMOutput

from longwatt.models.adapters import is_adapted
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


def model_refusal(model: Any) -> str | None:
    """Say why the fast path cannot compute a model exactly, or return None."""
    if is_adapted(model):
        return "the model has adapters, and the fast path knows their base's layers alone"
    for name, what in UNSUPPORTED.items():
        if value := getattr(model.config, name, None):
            return f"{name} is {value}, and {what} needs the stock path"
    for name, part in model.named_modules():
        if not _is_plain(part):
            whose = f"{type(part).__module__}.{type(part).__qualname__}"
            return f"its part {name or 'model'!r} is a {whose}, whose own code the fast path skips"
    return None


def _is_plain(part: nn.Module) -> bool:
    """Check whether a module is torch's or transformers' own, without hooks."""
    known = type(part).__module__.startswith(("torch.nn.", "transformers."))
    odd = isinstance(part, nn.Linear) and type(part) is not nn.Linear
    return known and not odd and not part._forward_hooks and not part._forward_pre_hooks


# Types that products are computed in, by a budget's precision; in all others it is the model's.
MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class FastPath:
    """The fast path of one built model.

    Attributes:
        model: transformers' model with its head.
        encode: encodes packed documents.
        norm_first: whether the layers normalise their input.
        first_is_global: whether the first token of each document, and no other, is global.
        refused: reasons why batches took the stock path so far.
    """

    model: Any
    encode: EncodePacked
    norm_first: bool
    first_is_global: bool = False
    refused: set[str] = field(default_factory=set, compare=False)

    def attach(self) -> None:
        """Let the model's `forward` take this path wherever it can.

        Calling the model stays the way to its loss, so that what wraps a model (several devices,
        mixed precision) keeps its hold on it.
        """
        stock = type(self.model).forward

        def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(steps := kwargs.get("past_key_values"), StepDecoder):
                logits = steps.logits(kwargs["decoder_input_ids"][:, -1])
                return Seq2SeqLMOutput(logits=logits[:, None], past_key_values=steps)
            if args or kwargs.get("labels") is None:
                return stock(model, *args, **kwargs)
            # A copy of the model holds this function too, and is to use its own weights.
            path = self if model is self.model else replace(self, model=model)
            packing = path.packing(kwargs)
            if packing is None:
                return stock(model, **kwargs)
            return Seq2SeqLMOutput(loss=path._loss(kwargs, packing))

        # Without `__wrapped__`, by which libraries would unwrap it. Generation asks for arguments.
        forward.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
        forward.__doc__ = stock.__doc__
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
            return None  # more is asked for than a loss or a prediction
        reason = self.refusal_on(batch["input_ids"].device)
        if reason is None and not self._is_pattern(batch.get("global_attention_mask")):
            reason = "other tokens are global than the fast path knows"
        packing = None if reason else Packing.of(batch["attention_mask"])
        if packing is None:
            self._note(reason or "a document is empty, or padding precedes its tokens")
        return packing

    def _is_pattern(self, everywhere: Tensor | None) -> bool:
        """Check whether a global attention mask is that of this path's pattern."""
        if everywhere is None or not self.first_is_global:
            return (everywhere is None) is not self.first_is_global
        marked = everywhere != 0
        return bool(marked[:, 0].all()) and int(marked.sum()) == len(marked)

    def _note(self, reason: str) -> None:
        if reason not in self.refused:
            self.refused.add(reason)
            warnings.warn(f"attention takes the stock path: {reason}", stacklevel=2)

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
