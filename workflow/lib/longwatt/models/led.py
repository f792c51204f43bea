"""LED: Longformer Encoder-Decoder (Beltagy et al. 2020), sliding-window attention with global tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from longwatt.models.encoder_decoder import EncoderDecoder
from longwatt.models.family import Batch, Example


class LED(EncoderDecoder):
    """The first token attends globally, in training and in generation, as in the published study.

    The tokenizer does not pad a global attention mask, so it is made here, after padding. Padding to a
    multiple of the attention window happens inside the model.
    """

    kind = "led"
    config_class = "LEDConfig"
    model_class = "LEDForConditionalGeneration"
    encoder_positions = "max_encoder_position_embeddings"
    decoder_positions = "max_decoder_position_embeddings"
    defaults: ClassVar[Mapping[str, Any]] = {
        "max_encoder_position_embeddings": 16384,
        "max_decoder_position_embeddings": 1024,
    }

    def collate(
        self, examples: Sequence[Example], pad_to: int | None, targets: int | None
    ) -> Batch:
        """See `Family.collate`; adds global_attention_mask (batch, length)."""
        import torch

        batch = super().collate(examples, pad_to, targets)
        mask = torch.zeros_like(batch["attention_mask"])
        mask[:, 0] = 1
        return {**batch, "global_attention_mask": mask}


FAMILY = LED
