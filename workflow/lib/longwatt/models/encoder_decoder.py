"""What Hugging Face encoder-decoders have in common; families build on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.models.configurations import check_keys, check_vocabulary, without_kind
from longwatt.models.errors import ModelError
from longwatt.models.family import Answer, Batch, Example
from longwatt.provenance import read_object
from longwatt.tasks import TEXT
from longwatt.tokenization import SpecialTokens, decode

if TYPE_CHECKING:
    from torch import Tensor, nn

IGNORED = -100  # the label that cross_entropy leaves out
# Roles of special tokens, in the order in which a decoder's start token is looked for among them.
ROLES = ("pad_token_id", "eos_token_id", "bos_token_id")


class EncoderDecoder:
    """Configuration, collation, loss and both prediction protocols of an encoder-decoder with `generate`.

    Attributes:
        kind: the `model_type` of its configurations; None where there are many.
        config_class: name of the transformers configuration class.
        model_class: name of the transformers model class.
        encoder_positions: the configuration's key for the most input tokens.
        decoder_positions: the configuration's key for the most target tokens.
        defaults: of the configuration class, where `check` needs them before transformers is loaded.
    """

    task: ClassVar[str] = TEXT
    kind: str | None = None
    config_class: str
    model_class: str
    encoder_positions = "max_position_embeddings"
    decoder_positions = "max_position_embeddings"
    defaults: ClassVar[Mapping[str, Any]] = {}
    pad_token_id: int = 1

    def check(
        self,
        config: Mapping[str, Any],
        given: Mapping[str, Any],
        seq_len: int,
        target_tokens: int,
        exits: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Family.check`."""
        if exits is not None:
            raise ModelError(
                "`exits` is for encoders (family: early_exit); take it out of the model's entry"
            )
        self._check_kind(config.get("model_type"))
        needs = (
            (self.encoder_positions, "seq_len", seq_len),
            (self.decoder_positions, "max_target_tokens or max_new_tokens", target_tokens),
        )
        for key, what, need in needs:
            limit = self.whole(config, key)
            if limit is not None and need > limit:
                raise ModelError(
                    f"{what} {need} is above the model's {key} of {limit}; lower it, or raise {key} in the model's "
                    "config"
                )

    def _check_kind(self, kind: str | None) -> None:
        if None not in (kind, self.kind) and kind != self.kind:
            raise ModelError(
                f"this family is for models of the kind {self.kind!r}, not {kind!r}; name another family"
            )

    def whole(self, config: Mapping[str, Any], key: str) -> int | None:
        """A setting that must be a whole number from 1, from the configuration or the known defaults; None if neither.

        Raises:
            ModelError: it is something else; names the key.
        """
        value = config.get(key, self.defaults.get(key))
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise ModelError(
                f"{key} in the model's config must be a whole number from 1, but is {value!r}"
            )
        return value

    def regime(self, config: Mapping[str, Any], seq_len: int) -> str | None:
        """See `Family.regime`; most encoder-decoders are one kind of model at every length."""
        return None

    def notes(self, config: Mapping[str, Any], seq_len: int) -> list[str]:
        """See `Family.notes`."""
        return []

    def facts(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.facts`."""
        return {}

    def build(
        self,
        model: Mapping[str, Any],
        tokenizer: Any,
        checkpoint: Path | None,
        seq_len: int,
        target_tokens: int,
        labels: Sequence[str] = (),
    ) -> nn.Module:
        """See `Family.build`."""
        if tokenizer.pad_token_id is None:
            raise ModelError("the tokenizer has no padding token; set pad_token and save it again")
        self.pad_token_id = int(tokenizer.pad_token_id)
        given = dict(model.get("config") or {})
        config = (
            self._read_config(checkpoint, given)
            if checkpoint
            else self._new_config(given, tokenizer)
        )
        check_vocabulary(config.vocab_size, tokenizer)
        self.check(config.to_dict(), given, seq_len, target_tokens)
        if checkpoint:
            _check_special_tokens(config, tokenizer)
        built = self._load(checkpoint, config) if checkpoint else self._new(config)
        built.generation_config = _generation_config(config, built.generation_config)
        _check_start(built)
        return built  # type: ignore[no-any-return]

    def collate(
        self, examples: Sequence[Example], pad_to: int | None, targets: int | None
    ) -> Batch:
        """See `Family.collate`: input_ids, attention_mask (batch, length) and labels (batch, targets)."""
        ids = _pad([e.input_ids for e in examples], self.pad_token_id, pad_to)
        ones = _pad([[1] * len(e.input_ids) for e in examples], 0, pad_to)
        labels = _pad([e.labels for e in examples], IGNORED, targets)
        return {"input_ids": ids, "attention_mask": ones, "labels": labels}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Family.loss`."""
        loss: Tensor = model(**batch).loss
        return loss

    def predict(self, model: nn.Module, batch: Batch, how: Mapping[str, Any]) -> list[list[int]]:
        """See `Family.predict`: token ids per example, special tokens and padding included."""
        if how["protocol"] == "teacher_forced":
            return self._teacher_forced(model, batch)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        given = {key: value for key, value in how["generation"].items() if value is not None}
        if given.get("num_beams", 1) == 1:  # transformers warns about beam settings that are unused
            given = {
                k: v for k, v in given.items() if k not in ("length_penalty", "early_stopping")
            }
        output: Tensor = model.generate(**inputs, **given, do_sample=False)  # type: ignore[operator]
        return [row for row in output[:, 1:].tolist()]  # the first token only starts the decoder

    def answers(self, predicted: list[list[int]], tokenizer: Any) -> list[Answer]:
        """See `Family.answers`."""
        pad = tokenizer.pad_token_id
        counts = [sum(token != pad for token in row) for row in predicted]
        return [Answer(*pair) for pair in zip(decode(tokenizer, predicted), counts, strict=True)]

    def _teacher_forced(self, model: nn.Module, batch: Batch) -> list[list[int]]:
        """Argmax under gold decoder inputs, as arXiv 2204.07288 scored its models."""
        best = model(**batch).logits.argmax(-1)
        kept = [row[mask] for row, mask in zip(best, batch["labels"] != IGNORED, strict=True)]
        return [row.tolist() for row in kept]

    def _default_config(self, given: Mapping[str, Any]) -> Any:
        """A configuration of the study's kind with nothing stated."""
        import transformers

        return getattr(transformers, self.config_class)()

    def _new_config(self, given: Mapping[str, Any], tokenizer: Any) -> Any:
        default = self._default_config(given)
        check_keys(given, default)
        own = {"vocab_size": len(tokenizer), **_special_tokens(default, tokenizer)}
        return type(default)(**{**own, **without_kind(given)})

    def _read_config(self, checkpoint: Path, given: Mapping[str, Any]) -> Any:
        import transformers

        # transformers would read another kind's file without a word.
        self._check_kind(read_object(checkpoint / "config.json").get("model_type"))
        read = getattr(transformers, self.config_class).from_pretrained
        known = read(str(checkpoint), local_files_only=True)
        check_keys(given, known)
        if given.get("model_type", known.model_type) != known.model_type:
            raise ModelError(
                f"the checkpoint is of the kind {known.model_type!r}, not {given['model_type']!r}"
            )
        return read(str(checkpoint), local_files_only=True, **without_kind(given))

    def _new(self, config: Any) -> Any:
        import transformers

        return getattr(transformers, self.model_class)(config)

    def _load(self, checkpoint: Path, config: Any) -> Any:
        import torch
        import transformers

        # Safetensors only: a pickle can run code when it is loaded. Nor is a repository's own code ever run.
        built, said = getattr(transformers, self.model_class).from_pretrained(
            str(checkpoint),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        absent = sorted(said["missing_keys"])  # transformers would go on with random ones
        if absent:
            raise ModelError(
                f"the checkpoint lacks {len(absent)} of the model's weights, {absent[0]} first; is it of another kind, "
                "or does the study's config ask for more layers than it has?"
            )
        return built


def _check_special_tokens(config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that ends or pads otherwise than the checkpoint: generation would never see its end."""
    for role in ("pad_token_id", "eos_token_id"):
        theirs, ours = getattr(config, role, None), getattr(tokenizer, role)
        if theirs is not None and ours not in (theirs if isinstance(theirs, list) else [theirs]):
            raise ModelError(
                f"the tokenizer's {role} is {ours} but the checkpoint's is {theirs}; use the checkpoint's own "
                "tokenizer (kind: checkpoint)"
            )


def _check_start(model: Any) -> None:
    """Refuse a kind of model that starts its decoder otherwise in training than in generation."""
    import torch

    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    end = model.generation_config.eos_token_id
    labels = torch.tensor([[3, end[0] if isinstance(end, list) else end]], device="cpu")
    trained = int(shift(labels=labels)[0, 0]) if shift else None
    generated = model.generation_config.decoder_start_token_id
    if trained != generated:
        raise ModelError(
            f"{type(model).__name__} starts its decoder with token {trained} in training and {generated} in "
            "generation; such a kind needs a family of its own (docs/how-to/add_family.md)"
        )


def _special_tokens(default: Any, tokenizer: Any) -> dict[str, int | None]:
    """The tokenizer's special ids in the roles that the model's kind gives them.

    BART starts its decoder with the end token, T5 with padding, BigBird-Pegasus with the beginning (its targets have
    none); a kind's defaults say which, but for a vocabulary of its own.
    """
    ids: dict[str, int | None] = {role: getattr(tokenizer, role) for role in ROLES}
    start = getattr(default, "decoder_start_token_id", None)
    same = [role for role in ROLES if start is not None and getattr(default, role, None) == start]
    role = next((role for role in same if ids[role] is not None), "pad_token_id")
    if ids[role] in SpecialTokens.of(tokenizer).prefix:
        # Every target begins with that token: a decoder that starts with it too learns to repeat it.
        role = "eos_token_id"
    forced = (
        {"forced_eos_token_id": ids["eos_token_id"]}
        if getattr(default, "forced_eos_token_id", None)
        else {}
    )
    return {**ids, "decoder_start_token_id": ids[role], **forced}


def _generation_config(config: Any, loaded: Any) -> Any:
    """Only which tokens start, end and pad; how to generate is the study's to say, not a checkpoint's."""
    from transformers import GenerationConfig

    names = (*ROLES, "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
    own = {name: getattr(config, name, None) for name in names}
    saved = {name: getattr(loaded, name, None) for name in names} if loaded is not None else {}
    known = {name: value for name, value in {**own, **_known(saved)}.items() if value is not None}
    return GenerationConfig(**known)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _pad(rows: Sequence[Sequence[int]], value: int, length: int | None) -> Tensor:
    import torch

    width = length if length is not None else max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)
