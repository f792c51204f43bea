"""Any Hugging Face encoder-decoder that needs nothing special: BART, T5, LongT5, Pegasus-X and their like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.models.encoder_decoder import EncoderDecoder
from longwatt.models.errors import ModelError
from longwatt.spelling import nearest

# Kinds that need something special; a family of the same name knows what.
OWN_FAMILIES = ("bigbird_pegasus", "led")


class Seq2Seq(EncoderDecoder):
    """The kind of model is `model_type` in the study's config, or in a checkpoint's config.json."""

    config_class = "AutoConfig"
    model_class = "AutoModelForSeq2SeqLM"

    def check(
        self,
        config: Mapping[str, Any],
        given: Mapping[str, Any],
        seq_len: int,
        target_tokens: int,
        exits: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Family.check`; kinds that need something special have their own family."""
        kind = config.get("model_type")
        if kind in OWN_FAMILIES:
            raise ModelError(
                f"models of the kind {kind!r} need their own family; say `family: {kind}`"
            )
        super().check(config, given, seq_len, target_tokens, exits)

    def _default_config(self, given: Mapping[str, Any]) -> Any:
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as KINDS,
        )

        kind = given.get("model_type")
        if kind not in KINDS:
            raise ModelError(
                f"the family seq2seq needs the model's config to name a model_type; {kind!r} is none"
                f"{nearest(str(kind), KINDS)}. Known: {', '.join(sorted(KINDS))}"
            )
        return AutoConfig.for_model(kind)

    def _new(self, config: Any) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        return AutoModelForSeq2SeqLM.from_config(config)


FAMILY = Seq2Seq
