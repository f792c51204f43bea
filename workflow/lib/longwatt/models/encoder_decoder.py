"""The common part of families of Hugging Face encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longwatt.models.errors import ModelError
from longwatt.models.family import BOTH, FAST, IGNORED, STOCK, Batch, Config, Example
from longwatt.models.text_generation import (
    TOKEN_ID_ROLES,
    TextGeneration,
    generate_options,
    known_values,
    padded_rows,
    padding_mask,
)
from longwatt.tokens.special_tokens import SpecialTokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from longwatt.models.attention.path import FastPath


class EncoderDecoder(TextGeneration):
    """An encoder-decoder: its lengths, its decoder's start, collation, both protocols."""

    # The configuration's keys for the most input tokens and for the most target tokens.
    encoder_positions = decoder_positions = "max_position_embeddings"
    fast: FastPath | None = None  # of the model built last, where it takes that path
    _reason: str | None = None

    @property
    def attention(self) -> str:  # type: ignore[override]  # an attribute of other families
        """Return the path in use, or both where batches have needed the other one."""
        return BOTH if self.fast is not None and self.fast.refused else self._path

    @property
    def attention_reason(self) -> str | None:  # type: ignore[override]
        """Say why the path in use is not always the chosen one."""
        refused = sorted(self.fast.refused) if self.fast is not None else []
        return self._reason or "; ".join(refused) or None

    def _check_lengths(
        self, config: Config, given: Config, seq_len: int, target_tokens: int
    ) -> None:
        needs = (
            (self.encoder_positions, "seq_len", seq_len),
            (self.decoder_positions, "max_target_tokens or max_new_tokens", target_tokens),
        )
        for key, what, need in needs:
            limit = self.whole(config, key)
            if limit is not None and need > limit:
                raise ModelError(
                    f"{what} {need} is above the model's {key} of {limit}; lower it, or raise "
                    f"{key} in the model's config"
                )

    def _check_tokenizer(self, config: Any, tokenizer: Any) -> None:
        """Refuse a tokenizer of other ends or padding: generation would never see its end."""
        for role in ("pad_token_id", "eos_token_id"):
            theirs, ours = getattr(config, role, None), getattr(tokenizer, role)
            known = theirs if isinstance(theirs, list) else [theirs]
            if theirs is not None and ours not in known:
                raise ModelError(
                    f"the tokenizer's {role} is {ours} but the checkpoint's is {theirs}; use the "
                    "checkpoint's own tokenizer (kind: checkpoint)"
                )

    def _prepare(self, built: Any, tokenizer: Any) -> None:
        built.generation_config = _generation_config(built.config, built.generation_config)
        _check_start(built)

    def _choose(self, built: Any, path: str) -> str:
        self.fast = self._reason = None
        if path not in (FAST, STOCK):
            return super()._choose(built, path)
        self._reason = self._attach(built, path)
        return STOCK if self._reason else path

    def _attach(self, built: Any, path: str) -> str | None:
        """Let a built model compute attention by the fast path or not.

        Returns:
            A sentence on why this model needs the stock path instead, which is then in use. None
            where the path is in use.
        """
        self.fast = None
        if path == STOCK:
            return None
        from longwatt.models.attention import path as paths

        if (reason := paths.model_refusal(built)) is None:
            self.fast = self._fast_path(built)
            self.fast.attach()
        return reason

    def place(self, model: nn.Module, device: torch.device, precision: str) -> nn.Module:
        """See `Family.place`."""
        placed = super().place(model, device, precision)
        if self.fast is not None and (reason := self.fast.refusal_on(device, precision)):
            self.fast.detach()
            self.fast, self._path, self._reason = None, STOCK, reason
        return placed

    def _fast_path(self, built: Any) -> FastPath:
        """Make the fast path of a built model, in families that offer one."""
        raise NotImplementedError(f"{type(self).__name__} offers no fast path of attention")

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`: input_ids, attention_mask (rows, length), labels (rows, most)."""
        ids = padded_rows([e.input_ids for e in chosen], self.pad_token_id, pad_to)
        mask = padding_mask([len(e.input_ids) for e in chosen], ids.shape[1])
        labels = padded_rows([e.labels for e in chosen], IGNORED, targets)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def predict(self, model: nn.Module, batch: Batch, how: Mapping[str, Any]) -> list[list[int]]:
        """See `Family.predict`: token ids per example, special tokens and padding included."""
        if (found := self._predict_fast(model, batch, how)) is not None:
            return found
        if how["protocol"] == "teacher_forced":
            # The argmax under gold decoder inputs, as arXiv 2204.07288 scored its models.
            # By the class's own: what is attached to a model returns no logits.
            best = type(model).forward(model, **batch).logits.argmax(-1)
            kept = zip(best, batch["labels"] != IGNORED, strict=True)
            return [row[mask].tolist() for row, mask in kept]
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        given = generate_options(how["generation"])
        output: Tensor = model.generate(**inputs, **given, do_sample=False)  # type: ignore[operator]
        return list(output[:, 1:].tolist())  # the first token only starts the decoder

    def _predict_fast(
        self, model: nn.Module, batch: Batch, how: Mapping[str, Any]
    ) -> list[list[int]] | None:
        """Predict by the fast path, or return None where it cannot."""
        if self.fast is None or self.fast.model is not model:
            return None
        from longwatt.models.attention import generation

        if how["protocol"] == "teacher_forced":
            return generation.label_argmax(self.fast, batch)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        return generation.generate(self.fast, inputs, generate_options(how["generation"]))

    def _special_tokens(self, default: Any, tokenizer: Any) -> dict[str, int | None]:
        """Return the tokenizer's special ids in the roles that the model's kind gives them.

        BART starts its decoder with the end token, T5 with padding, BigBird-Pegasus with the
        beginning (its targets have none). A kind's default names the role, by an id of its own
        vocabulary.
        """
        ids = super()._special_tokens(default, tokenizer)
        start = getattr(default, "decoder_start_token_id", None)
        same = [
            role
            for role in TOKEN_ID_ROLES
            if start is not None and getattr(default, role, None) == start
        ]
        role = next((role for role in same if ids[role] is not None), "pad_token_id")
        if ids[role] in SpecialTokens.of(tokenizer).prefix:
            # Every target begins with that token: a decoder started with it would learn to repeat
            # it.
            role = "eos_token_id"
        chosen = {**ids, "decoder_start_token_id": ids[role]}
        if getattr(default, "forced_eos_token_id", None):
            chosen["forced_eos_token_id"] = ids["eos_token_id"]
        return chosen


def _check_start(model: Any) -> None:
    """Refuse a model whose decoder starts differently in training and in generation."""
    import torch

    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    end = model.generation_config.eos_token_id
    labels = torch.tensor([[3, end[0] if isinstance(end, list) else end]], device="cpu")
    trained = int(shift(labels=labels)[0, 0]) if shift else None
    generated = model.generation_config.decoder_start_token_id
    if trained != generated:
        raise ModelError(
            f"{type(model).__name__} starts its decoder with token {trained} in training and "
            f"{generated} in generation; such a kind needs a family of its own "
            "(docs/how-to/add_family.md)"
        )


def _generation_config(config: Any, loaded: Any) -> Any:
    """Keep only the tokens that start, end and pad: the study decides how to generate."""
    from transformers import GenerationConfig

    names = (
        *TOKEN_ID_ROLES,
        "decoder_start_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
    )
    held = [{name: getattr(one, name, None) for name in names} for one in (config, loaded)]
    return GenerationConfig(**{**known_values(held[0]), **known_values(held[1])})
