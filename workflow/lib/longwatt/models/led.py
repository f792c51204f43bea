"""LED, the Longformer Encoder-Decoder (Beltagy et al. 2020): sliding windows and global tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.models import configurations
from longwatt.models.encoder_decoder import EncoderDecoder
from longwatt.models.family import FAST, STOCK, Batch, Config, Example, Exits

if TYPE_CHECKING:
    from longwatt.models.attention.path import FastPath

LEAST_WINDOW = 4  # tokens, two on each side


class LED(EncoderDecoder):
    """LED with global attention on the first token, as in the published study.

    It is there in training and in generation. The tokenizer does not pad a global attention mask,
    so `collate` makes it after padding. The model itself pads to a multiple of its window.
    """

    attention_paths: ClassVar[tuple[str, ...]] = (FAST, STOCK)
    kind = "led"
    config_class = "LEDConfig"
    model_class = "LEDForConditionalGeneration"
    encoder_positions = "max_encoder_position_embeddings"
    decoder_positions = "max_decoder_position_embeddings"
    defaults: ClassVar[Mapping[str, Any]] = {encoder_positions: 16384, decoder_positions: 1024}

    def _fast_path(self, built: Any) -> FastPath:
        from longwatt.models.attention import led, path

        return path.FastPath(built, led.encode, norm_first=False, first_is_global=True)

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """See `Family.check`. transformers' own attention fails with a window below four."""
        super().check(config, given, seq_len, target_tokens, exits)
        asked = config.get("attention_window")
        for window in asked if isinstance(asked, list) else [asked]:
            configurations.whole_number("attention_window", window, least=LEAST_WINDOW)

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`. It adds global_attention_mask (batch, length)."""
        import torch

        batch = super().collate(chosen, pad_to, targets)
        mask = torch.zeros_like(batch["attention_mask"])
        mask[:, 0] = 1
        return {**batch, "global_attention_mask": mask}


FAMILY = LED
