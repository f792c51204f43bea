"""Decoder-only models of Hugging Face: Llama, Qwen, Gemma, Mistral, GPT-2, Phi, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.models.errors import ModelError
from longwatt.models.family import (
    EAGER,
    FLASH,
    FLEX,
    IGNORED,
    SDPA,
    Answer,
    Batch,
    Config,
    Example,
    Exits,
)
from longwatt.models.seq2seq import OWN_FAMILIES
from longwatt.models.text_generation import (
    TextGeneration,
    generate_options,
    known_values,
    padded_rows,
    padding_mask,
)
from longwatt.spelling import nearest
from longwatt.tokens.special_tokens import decode

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Keys of configurations for the most tokens of a sequence.
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
# Settings of rotary positions, by the key of today and by that of older configurations.
ROTARY = ("rope_parameters", "rope_scaling")
ORIGINAL = "original_max_position_embeddings"
STRETCHED = ("linear", "dynamic", "yarn", "longrope", "llama3")  # kinds that go beyond training
WINDOWED = "sliding_attention"  # what transformers calls a layer with a window
FP32 = ("fp32", "tf32")


class Causal(TextGeneration):
    """A decoder-only model whose kind is `model_type` in the study's or the checkpoint's config.

    A batch's rows are prompts with their answers. Only the answers are learnt, and generation goes
    on from the prompts.
    """

    prompted: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    attention_paths: ClassVar[tuple[str, ...]] = (SDPA, EAGER, FLASH, FLEX)
    config_class = "AutoConfig"
    model_class = "AutoModelForCausalLM"
    pad_token_id: int = 0
    ends: tuple[int, ...] = ()  # tokens that end an answer

    @property
    def attention(self) -> str:  # type: ignore[override]  # an attribute of other families
        """Return the path in use, which is the chosen one."""
        return self._path

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """See `Family.check`. An answer's tokens are part of `seq_len`."""
        super().check(config, given, seq_len, target_tokens, exits)
        if config.get("is_encoder_decoder"):
            raise _not_decoder_only(config.get("model_type"))

    def _check_kind(self, kind: str | None) -> None:
        if kind in OWN_FAMILIES:
            raise _not_decoder_only(kind)

    def _check_lengths(
        self, config: Config, given: Config, seq_len: int, target_tokens: int
    ) -> None:
        if target_tokens >= seq_len:
            raise ModelError(
                f"seq_len {seq_len} leaves no room for a prompt: an answer of {target_tokens} "
                "tokens (max_target_tokens or max_new_tokens) is part of it; lower that, or "
                "lengthen seq_len"
            )
        key = next((key for held in (given, config) for key in POSITIONS if key in held), "")
        limit = self.whole(config, key)
        if limit is not None and seq_len > (most := _stretched(config, limit)):
            beyond = "" if most == limit else f", {most} by its scaling of positions"
            raise ModelError(
                f"seq_len {seq_len} is above the model's {key} of {limit}{beyond}; lower it, or "
                f"raise {key} in the `config` of the model's entry"
            )

    def notes(self, config: Config, seq_len: int) -> list[str]:
        """See `Family.notes`."""
        window, layers, deepest = _windows(config)
        if window is None or window >= seq_len:
            return super().notes(config, seq_len)
        seen = f"in {layers} of {deepest} layers a token sees only {window} tokens up to itself"
        return [*super().notes(config, seq_len), f"sliding window: {seen}"]

    def facts(self, config: Config) -> dict[str, Any]:
        """See `Family.facts`: the tokens of a sliding window, for models with one."""
        window, *_ = _windows(config)
        return {} if window is None else {"sliding_window": window}

    def _padding(self, tokenizer: Any) -> int:
        """Choose an id for padding, which all masks cover, so that any will do."""
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end-of-sequence token, so that no answer would end; set "
                "eos_token and save it again"
            )
        own = tokenizer.pad_token_id
        return int(tokenizer.eos_token_id if own is None else own)

    def _special_tokens(self, default: Any, tokenizer: Any) -> dict[str, int | None]:
        """See `TextGeneration`. An end that pads as well would stay unlearnt as padding."""
        found = super()._special_tokens(default, tokenizer)
        if found["pad_token_id"] == found["eos_token_id"]:
            found["pad_token_id"] = None
        return found

    def _default_config(self, given: Config) -> Any:
        from transformers import AutoConfig

        kind = given.get("model_type")
        _check_decoder_only(kind)
        return _of_text(AutoConfig.for_model(kind))

    def _read_config(self, checkpoint: Any, given: Config) -> Any:
        config = super()._read_config(checkpoint, given)
        _check_decoder_only(config.model_type)
        return _of_text(config)

    def _new(self, config: Any) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)

    def _prepare(self, built: Any, tokenizer: Any) -> None:
        from transformers import GenerationConfig

        from longwatt.models.decoder_only import texts
        from longwatt.models.losses import label_loss

        theirs = built.generation_config.eos_token_id
        more = theirs if isinstance(theirs, list) else [theirs]
        known = (tokenizer.eos_token_id, *(one for one in more if one is not None))
        self.ends = tuple(dict.fromkeys(map(int, known)))
        start = known_values({"bos_token_id": tokenizer.bos_token_id})
        own = {"eos_token_id": list(self.ends), "pad_token_id": self.pad_token_id}
        # Only tokens that start, end and pad: the study decides how to generate.
        built.generation_config = GenerationConfig(**own, **start)
        label_loss.attach(built)
        texts.check_padding(built, self.pad_token_id)

    def place(self, model: nn.Module, device: torch.device, precision: str) -> nn.Module:
        """See `Family.place`. On CPUs linear layers become faster, in float32."""
        from longwatt.models.attention import linear

        placed = super().place(model, device, precision)
        if device.type == "cpu" and precision in FP32 and linear.has_onednn():
            linear.speed_up(placed)
        return placed

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`: rows are prompts with answers, padded on the right.

        Returns:
            input_ids, attention_mask and labels, all (rows, length). Labels stand where their
            tokens do; what is not of an answer is ignored.
        """
        rows = list(map(_whole, chosen))
        ids = padded_rows(rows, self.pad_token_id, pad_to)
        mask = padding_mask(list(map(len, rows)), ids.shape[1])
        labels = padded_rows([_labels(one) for one in chosen], IGNORED, ids.shape[1])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def pack(self, chosen: Sequence[Example]) -> Batch:
        """See `Family.pack`."""
        from longwatt.models.decoder_only import packed_rows

        return packed_rows.one_row(list(map(_whole, chosen)), list(map(_labels, chosen)))

    def check_packing(self, model: nn.Module, precision: str) -> None:
        """See `Family.check_packing`."""
        from longwatt.models.decoder_only import packed_rows

        packed_rows.check(model, precision)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Family.loss`."""
        return super().loss(model, self._seen(batch))

    def _seen(self, batch: Batch) -> Batch:
        """Leave out a mask that changes nothing.

        Padding is on the right, where no token sees it, and without a mask the attention is the
        plain causal one, which has faster code. Flash attention leaves padding out by the mask.
        """
        dropped = () if self._path == FLASH else ("attention_mask",)
        return {name: value for name, value in batch.items() if name not in dropped}

    def predict(self, model: nn.Module, batch: Batch, how: Mapping[str, Any]) -> list[list[int]]:
        """See `Family.predict`: token ids per example, up to the end."""
        from longwatt.models.attention_choice import core
        from longwatt.models.decoder_only import texts
        from longwatt.models.losses import label_loss

        own = core(model)
        self.ends = tuple(dict.fromkeys((*self.ends, *how.get("stops", ()))))
        if how["protocol"] == "teacher_forced":
            return label_loss.best_tokens(own, self._seen(batch))
        given = texts.prompts(batch, self.pad_token_id)
        return texts.go_on(own, given, generate_options(how["generation"]), self.ends)

    def answers(self, predicted: list[list[int]], tokenizer: Any) -> list[Answer]:
        """See `Family.answers`."""
        words = [[token for token in row if token not in self.ends] for row in predicted]
        counts = map(len, predicted)
        return [Answer(*pair) for pair in zip(decode(tokenizer, words), counts, strict=True)]


def _whole(example: Example) -> list[int]:
    return [*example.input_ids, *example.labels]


def _labels(example: Example) -> list[int]:
    return [*[IGNORED] * len(example.input_ids), *example.labels]


def _check_decoder_only(kind: Any) -> None:
    """Refuse a kind that transformers has no decoder-only model of."""
    from transformers.models.auto import modeling_auto

    kinds = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    # Some of them have a decoder-only class too, without the encoder that they were trained with.
    if kind in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise _not_decoder_only(kind)
    if kind not in kinds:
        raise ModelError(
            f"the family causal needs the model's config to name a model_type; {kind!r} is none"
            f"{nearest(str(kind), kinds)}; llama, qwen2, qwen3, gemma2, gemma3_text, mistral, gpt2 "
            "and phi are known to work"
        )


def _of_text(config: Any) -> Any:
    """Return a configuration, or refuse one of several models, such as for images and texts."""
    if not hasattr(config, "vocab_size"):
        raise ModelError(
            f"a model of the kind {config.model_type!r} joins several; name its text model alone, "
            "such as gemma3_text for gemma3"
        )
    return config


def _not_decoder_only(kind: Any) -> ModelError:
    family = kind if kind in OWN_FAMILIES else "seq2seq"
    return ModelError(
        f"models of the kind {kind!r} are encoder-decoders; say `family: {family}`, or name a "
        "decoder-only model"
    )


def _stretched(config: Config, limit: int) -> int:
    """Return the most tokens of a sequence, with a scaling of rotary positions."""
    found = (config[key] for key in ROTARY if isinstance(config.get(key), Mapping))
    held: Config = next(found, {})
    kind = held.get("rope_type", held.get("type"))
    if kind not in STRETCHED or not isinstance(held.get("factor"), int | float):
        return limit
    # Configurations state the positions before the scaling, after it, or both.
    return max(limit, int(held["factor"] * (held.get(ORIGINAL) or limit)))


def _windows(config: Config) -> tuple[int | None, int, int]:
    """Return the tokens of a sliding window (None without), its layers and all layers."""
    window, deepest = config.get("sliding_window"), config.get("num_hidden_layers") or 0
    types = config.get("layer_types") or [WINDOWED] * deepest
    layers = sum(kind == WINDOWED for kind in types)
    if not window or not layers or config.get("use_sliding_window") is False:
        return None, 0, deepest
    return int(window), layers, deepest


FAMILY = Causal
