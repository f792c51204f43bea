"""What Hugging Face encoder-decoders have in common; families build on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longwatt.models.errors import ModelError
from longwatt.models.family import Batch, Example

IGNORED = -100  # the label that cross_entropy leaves out


class EncoderDecoder:
    """Collation, loss and both prediction protocols of an encoder-decoder with `labels` and `generate`.

    Attributes:
        config_class: the transformers configuration class.
        model_class: the transformers model class.
    """

    config_class: Any
    model_class: Any
    pad_token_id: int = 1

    def build(self, model: Mapping[str, Any], tokenizer: Any, checkpoint: Path | None, seq_len: int) -> nn.Module:
        """See `Family.build`."""
        self.pad_token_id = int(tokenizer.pad_token_id)
        if checkpoint is not None:
            overrides = model.get("config") or {}
            # Safetensors only: a pickle can run code when it is loaded.
            built = self.model_class.from_pretrained(
                str(checkpoint),
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                **overrides,
            )
        else:
            built = self.model_class(self.config_class(**self._config(model["config"], tokenizer)))
            built.generation_config = self._generation_config(tokenizer)
        self.check_length(built.config, seq_len)
        return built  # type: ignore[no-any-return]

    def check_length(self, config: Any, seq_len: int) -> None:
        """Raise ModelError unless the configuration has a position for each of `seq_len` tokens."""
        positions = getattr(config, "max_encoder_position_embeddings", None)
        if positions is not None and seq_len > positions:
            raise ModelError(
                f"seq_len {seq_len} is above the model's max_encoder_position_embeddings of {positions}; "
                "lower seq_len or raise it in the model's config"
            )

    def collate(self, examples: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`: input_ids, attention_mask (batch, length) and labels (batch, targets)."""
        ids = _pad([e.input_ids for e in examples], self.pad_token_id, pad_to)
        ones = _pad([[1] * len(e.input_ids) for e in examples], 0, pad_to)
        labels = _pad([e.labels for e in examples], IGNORED, targets)
        return {"input_ids": ids, "attention_mask": ones, "labels": labels}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Family.loss`."""
        loss: Tensor = model(**batch).loss
        return loss

    def predict(self, model: nn.Module, batch: Batch, protocol: str, generation: Mapping[str, Any]) -> list[list[int]]:
        """See `Family.predict`."""
        if protocol == "teacher_forced":
            return self._teacher_forced(model, batch)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        given = {key: value for key, value in generation.items() if value is not None}
        if given.get("num_beams", 1) == 1:  # transformers warns about beam settings that are unused
            given = {k: v for k, v in given.items() if k not in ("length_penalty", "early_stopping")}
        output: Tensor = model.generate(**inputs, **given, do_sample=False)  # type: ignore[operator]
        return [row for row in output[:, 1:].tolist()]  # the first token only starts the decoder

    def _teacher_forced(self, model: nn.Module, batch: Batch) -> list[list[int]]:
        """Argmax under gold decoder inputs, as arXiv 2204.07288 scored its models."""
        best = model(**batch).logits.argmax(-1)
        kept = [row[mask] for row, mask in zip(best, batch["labels"] != IGNORED, strict=True)]
        return [row.tolist() for row in kept]

    def _config(self, given: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
        eos = tokenizer.eos_token_id
        special = {
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": eos,
            "decoder_start_token_id": eos,  # as BART and LED do
        }
        return {"vocab_size": len(tokenizer), **special, **given}

    def _generation_config(self, tokenizer: Any) -> Any:
        from transformers import GenerationConfig

        return GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
        )


def _pad(rows: Sequence[Sequence[int]], value: int, length: int | None) -> Tensor:
    width = length if length is not None else max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)
