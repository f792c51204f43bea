"""The common part of families whose models generate texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.files import read_object
from longwatt.models import attention_choice, configurations
from longwatt.models.errors import ModelError
from longwatt.models.family import (
    STOCK,
    Answer,
    Batch,
    Config,
    Exits,
    Family,
    attention_path,
    is_to_adapt,
)
from longwatt.tasks import TEXT
from longwatt.tokens.special_tokens import decode

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Roles of special tokens, in the order in which a decoder's start token is looked for among them.
TOKEN_ID_ROLES = ("pad_token_id", "eos_token_id", "bos_token_id")


class TextGeneration(Family):
    """A model with `generate`: its configuration, its weights, its loss and its answers."""

    task: ClassVar[str] = TEXT
    kind: str | None = None  # `model_type` of its configurations; None where there are many
    config_class: str  # name of the transformers configuration class
    model_class: str  # name of the transformers model class
    # Those of the configuration class that `check` needs without transformers.
    defaults: ClassVar[Mapping[str, Any]] = {}
    pad_token_id: int = 1
    _path: str = STOCK

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """See `Family.check`."""
        if exits is not None:
            whose = "encoders (family: early_exit)"
            raise ModelError(f"`exits` is for {whose}; take it out of the model's entry")
        self._check_kind(config.get("model_type"))
        configurations.check_unquantised(config)
        self._check_lengths(config, given, seq_len, target_tokens)

    def _check_kind(self, kind: str | None) -> None:
        if None not in (kind, self.kind) and kind != self.kind:
            own = f"models of the kind {self.kind!r}, not {kind!r}"
            raise ModelError(f"this family is for {own}; name another family")

    def _check_lengths(
        self, config: Config, given: Config, seq_len: int, target_tokens: int
    ) -> None:
        """Refuse lengths beyond the model's positions, by a ModelError."""

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
        self.pad_token_id = self._padding(tokenizer)
        given = dict(model.get("config") or {})
        read, described = self._read_config, model.get("adapters") or checkpoint
        config = read(Path(described), given) if described else self._new_config(given, tokenizer)
        configurations.check_vocabulary(config.vocab_size, tokenizer)
        self.check(config.to_dict(), given, seq_len, target_tokens)
        if checkpoint:
            self._check_tokenizer(config, tokenizer)
        path = attention_path(self, model)
        built = self._load(checkpoint, config) if checkpoint else self._new(config)
        self._prepare(built, tokenizer)
        self._adapt(built, seq_len)
        if is_to_adapt(model):
            from longwatt.models import adapters

            adapters.adapt(built, model)
        self._path = self._choose(built, path)
        return built  # type: ignore[no-any-return]

    def _padding(self, tokenizer: Any) -> int:
        return configurations.pad_token_of(tokenizer)

    def _check_tokenizer(self, config: Any, tokenizer: Any) -> None:
        """Refuse a tokenizer that a checkpoint was not trained with, by a ModelError."""

    def _prepare(self, built: Any, tokenizer: Any) -> None:
        """Give a model its special tokens, or refuse one that cannot be used."""

    def _adapt(self, built: Any, seq_len: int) -> None:
        """Change a built model as its family needs it at this length."""

    def _choose(self, built: Any, path: str) -> str:
        """Let a built model compute attention by a path, and return the one in use."""
        attention_choice.choose(built, path)
        return path

    def place(self, model: nn.Module, device: torch.device, precision: str) -> nn.Module:
        """See `Family.place`. It may raise a ModelError: the device lacks the path chosen."""
        placed = model.to(device)
        attention_choice.choose_on(placed, self._path, device, precision)
        return placed

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Family.loss`."""
        loss: Tensor = model(**batch).loss
        return loss

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
        own = {"vocab_size": len(tokenizer), **self._special_tokens(default, tokenizer)}
        return type(default)(**{**own, **configurations.without_kind(given)})

    def _special_tokens(self, default: Any, tokenizer: Any) -> dict[str, int | None]:
        """Return the tokenizer's special ids in the roles that the model's kind gives them."""
        return {role: getattr(tokenizer, role) for role in TOKEN_ID_ROLES}

    def _read_config(self, checkpoint: Path, given: Config) -> Any:
        import transformers

        configurations.check_whole_model(checkpoint)
        known = read_object(checkpoint / "config.json")
        # transformers would read another kind's file without a word.
        self._check_kind(known.get("model_type"))
        configurations.check_unquantised(known)
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


def generate_options(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the arguments of `generate` from a study's `generation`.

    transformers warns about settings of beams that nothing uses.
    """
    given = known_values(generation)
    unused = ("length_penalty", "early_stopping") if given.get("num_beams", 1) == 1 else ()
    return {key: value for key, value in given.items() if key not in unused}


def known_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in values.items() if value is not None}


def padded_rows(rows: Sequence[Sequence[int]], value: int, length: int | None) -> Tensor:
    """Pad rows on the right to `length` or the longest: (rows, width), of 64-bit numbers."""
    import numpy as np
    import torch

    width = length if length is not None else max(map(len, rows))
    # Filled by numpy: a tensor made of lists takes four times as long, in every step.
    padded = np.full((len(rows), width), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)


def padding_mask(lengths: Sequence[int], width: int) -> Tensor:
    """Return 1 for each row's first tokens and 0 for its padding: (rows, width)."""
    import torch

    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
