"""The common part of families of Hugging Face encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.files import read_object
from longwatt.models import configurations
from longwatt.models.errors import ModelError
from longwatt.models.family import (
    BOTH,
    IGNORED,
    STOCK,
    Answer,
    Batch,
    Config,
    Example,
    Exits,
    Family,
    attention_path,
    is_to_adapt,
)
from longwatt.tasks import TEXT
from longwatt.tokens.special_tokens import SpecialTokens, decode

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from longwatt.models.attention.path import FastPath

# Roles of special tokens, in the order in which a decoder's start token is looked for among them.
TOKEN_ID_ROLES = ("pad_token_id", "eos_token_id", "bos_token_id")


class EncoderDecoder(Family):
    """An encoder-decoder with `generate`: configuration, collation, loss, both protocols."""

    task: ClassVar[str] = TEXT
    kind: str | None = None  # `model_type` of its configurations; None where there are many
    config_class: str  # name of the transformers configuration class
    model_class: str  # name of the transformers model class
    # The configuration's keys for the most input tokens and for the most target tokens.
    encoder_positions = decoder_positions = "max_position_embeddings"
    # Those of the configuration class that `check` needs without transformers.
    defaults: ClassVar[Mapping[str, Any]] = {}
    pad_token_id: int = 1
    fast: FastPath | None = None  # of the model built last, where it takes that path
    _path: str = STOCK
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

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """See `Family.check`."""
        if exits is not None:
            whose = "encoders (family: early_exit)"
            raise ModelError(f"`exits` is for {whose}; take it out of the model's entry")
        self._check_kind(config.get("model_type"))
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

    def _check_kind(self, kind: str | None) -> None:
        if None not in (kind, self.kind) and kind != self.kind:
            own = f"models of the kind {self.kind!r}, not {kind!r}"
            raise ModelError(f"this family is for {own}; name another family")

    def whole(self, config: Config, key: str) -> int | None:
        """Return a setting or its default, a whole number from 1 (else a ModelError)."""
        return configurations.whole_number(key, config.get(key, self.defaults.get(key)), least=1)

    def build(
        self,
        model: Config,
        tokenizer: Any,
        checkpoint: Path | None,
        seq_len: int,
        target_tokens: int,
        labels: Sequence[str] = (),
    ) -> nn.Module:
        """See `Family.build`."""
        self.pad_token_id = configurations.pad_token_of(tokenizer)
        given = dict(model.get("config") or {})
        read, described = self._read_config, model.get("adapters") or checkpoint
        config = read(Path(described), given) if described else self._new_config(given, tokenizer)
        configurations.check_vocabulary(config.vocab_size, tokenizer)
        self.check(config.to_dict(), given, seq_len, target_tokens)
        if checkpoint:
            _check_special_tokens(config, tokenizer)
        built = self._load(checkpoint, config) if checkpoint else self._new(config)
        built.generation_config = _generation_config(config, built.generation_config)
        _check_start(built)
        self._adapt(built, seq_len)
        if is_to_adapt(model):
            from longwatt.models import adapters

            adapters.adapt(built, model)
        path = attention_path(self, model)
        self._reason = self._attach(built, path)
        self._path = STOCK if self._reason else path
        return built  # type: ignore[no-any-return]

    def _adapt(self, built: Any, seq_len: int) -> None:
        """Change a built model as its family needs it."""

    def _attach(self, built: Any, path: str) -> str | None:
        """Let a built model compute attention by a path.

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
        placed = model.to(device)
        if self.fast is not None and (reason := self.fast.refusal_on(device, precision)):
            self.fast.detach()
            self.fast, self._path, self._reason = None, STOCK, reason
        return placed

    def _fast_path(self, built: Any) -> FastPath:
        """Make the fast path of a built model, in families that offer one."""
        raise NotImplementedError(f"{type(self).__name__} offers no fast path of attention")

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`: input_ids, attention_mask (rows, length), labels (rows, most)."""
        ids = _pad([e.input_ids for e in chosen], self.pad_token_id, pad_to)
        mask = _mask([len(e.input_ids) for e in chosen], ids.shape[1])
        labels = _pad([e.labels for e in chosen], IGNORED, targets)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Family.loss`."""
        loss: Tensor = model(**batch).loss
        return loss

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
        given = _options(how["generation"])
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
        return generation.generate(self.fast, inputs, _options(how["generation"]))

    def answers(self, predicted: list[list[int]], tokenizer: Any) -> list[Answer]:
        """See `Family.answers`."""
        pad = tokenizer.pad_token_id
        counts = [sum(token != pad for token in row) for row in predicted]
        return [Answer(*pair) for pair in zip(decode(tokenizer, predicted), counts, strict=True)]

    def _default_config(self, given: Config) -> Any:
        import transformers

        return getattr(transformers, self.config_class)()

    def _new_config(self, given: Config, tokenizer: Any) -> Any:
        default = self._default_config(given)
        configurations.check_keys(given, default)
        own = {"vocab_size": len(tokenizer), **_special_tokens(default, tokenizer)}
        return type(default)(**{**own, **configurations.without_kind(given)})

    def _read_config(self, checkpoint: Path, given: Config) -> Any:
        import transformers

        # transformers would read another kind's file without a word.
        self._check_kind(read_object(checkpoint / "config.json").get("model_type"))
        read = getattr(transformers, self.config_class).from_pretrained
        return configurations.read_known(read, checkpoint, given)

    def _new(self, config: Any) -> Any:
        import transformers

        return getattr(transformers, self.model_class)(config)

    def _load(self, checkpoint: Path, config: Any) -> Any:
        import transformers

        load = getattr(transformers, self.model_class).from_pretrained
        built, absent = configurations.load_weights(load, checkpoint, config=config)
        configurations.check_complete(absent, "model")  # transformers would go on with random ones
        return built


def _check_special_tokens(config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer of other ends or padding: generation would never see its end."""
    for role in ("pad_token_id", "eos_token_id"):
        theirs, ours = getattr(config, role, None), getattr(tokenizer, role)
        if theirs is not None and ours not in (theirs if isinstance(theirs, list) else [theirs]):
            raise ModelError(
                f"the tokenizer's {role} is {ours} but the checkpoint's is {theirs}; use the "
                "checkpoint's own tokenizer (kind: checkpoint)"
            )


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


def _special_tokens(default: Any, tokenizer: Any) -> dict[str, int | None]:
    """Return the tokenizer's special ids in the roles that the model's kind gives them.

    BART starts its decoder with the end token, T5 with padding, BigBird-Pegasus with the beginning
    (its targets have none). A kind's default names the role, by an id of its own vocabulary.
    """
    ids: dict[str, int | None] = {role: getattr(tokenizer, role) for role in TOKEN_ID_ROLES}
    start = getattr(default, "decoder_start_token_id", None)
    same = [
        role
        for role in TOKEN_ID_ROLES
        if start is not None and getattr(default, role, None) == start
    ]
    role = next((role for role in same if ids[role] is not None), "pad_token_id")
    if ids[role] in SpecialTokens.of(tokenizer).prefix:
        # Every target begins with that token: a decoder started with it would learn to repeat it.
        role = "eos_token_id"
    chosen = {**ids, "decoder_start_token_id": ids[role]}
    if getattr(default, "forced_eos_token_id", None):
        chosen["forced_eos_token_id"] = ids["eos_token_id"]
    return chosen


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
    return GenerationConfig(**{**_known(held[0]), **_known(held[1])})


def _options(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the arguments of `generate`.

    transformers warns about settings of beams that nothing uses.
    """
    given = _known(generation)
    unused = ("length_penalty", "early_stopping") if given.get("num_beams", 1) == 1 else ()
    return {key: value for key, value in given.items() if key not in unused}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _pad(rows: Sequence[Sequence[int]], value: int, length: int | None) -> Tensor:
    import numpy as np
    import torch

    width = length if length is not None else max(map(len, rows))
    # Filled by numpy: a tensor made of lists takes four times as long, in every step.
    padded = np.full((len(rows), width), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)


def _mask(lengths: Sequence[int], width: int) -> Tensor:
    import torch

    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
