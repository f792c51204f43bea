"""Encoder-decoders of Hugging Face that need nothing special: BART, T5, LongT5, Pegasus-X, ..."""

from __future__ import annotations

from typing import Any, ClassVar

from longwatt.models.encoder_decoder import EncoderDecoder
from longwatt.models.errors import ModelError
from longwatt.models.family import EAGER, FLASH, FLEX, SDPA, STOCK, Config
from longwatt.spelling import nearest

# Kinds that need something special, each with a family of the same name.
OWN_FAMILIES = ("bigbird_pegasus", "led")


class Seq2Seq(EncoderDecoder):
    """An encoder-decoder whose kind is `model_type` in the study's or the checkpoint's config."""

    attention_paths: ClassVar[tuple[str, ...]] = (STOCK, SDPA, EAGER, FLASH, FLEX)
    config_class = "AutoConfig"
    model_class = "AutoModelForSeq2SeqLM"

    def _check_kind(self, kind: str | None) -> None:
        if kind in OWN_FAMILIES:
            say = f"say `family: {kind}`"
            raise ModelError(f"models of the kind {kind!r} need their own family; {say}")

    def _default_config(self, given: Config) -> Any:
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as KINDS,
        )

        kind = given.get("model_type")
        if kind not in KINDS:
            raise ModelError(
                f"the family seq2seq needs the model's config to name a model_type; {kind!r} is "
                f"none{nearest(str(kind), KINDS)}. Known: {', '.join(sorted(KINDS))}"
            )
        return AutoConfig.for_model(kind)

    def _choose(self, built: Any, path: str) -> str:
        from longwatt.models.losses import decoder_loss

        decoder_loss.attach_decoder_loss(built)
        return super()._choose(built, path)

    def _new(self, config: Any) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return AutoModelForSeq2SeqLM.from_config(config)


FAMILY = Seq2Seq
