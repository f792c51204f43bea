"""A trained model with exits, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from longwatt.models.exits.answers import ExitAnswer
from longwatt.models.exits.encoder_config import has_segments, most_tokens
from longwatt.models.exits.inference import Leaver
from longwatt.models.exits.model import EarlyExitModel, load_trained, padded
from longwatt.models.exits.rules import PATIENCE, THRESHOLD, exit_rule
from longwatt.tokens.special_tokens import load_tokenizer

TOGETHER = 8  # batches whose unfinished texts are regrouped in plain Python's `predict`
Text = str | tuple[str, str]  # a text, or a pair


class ExitClassifier:
    """A trained model, in evaluation mode, and its tokenizer, for use in plain Python."""

    def __init__(self, model: EarlyExitModel, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(
        cls, folder: Path | str, device: str = "cpu", temperatures: Sequence[float] | None = None
    ) -> ExitClassifier:
        """Load a model from its folder.

        Args:
            folder: as training or calibration saved it.
            device: the device to run on.
            temperatures: one per classifier, in place of the folder's.

        Raises:
            ModelError: the folder holds no such model, or the temperatures are not one positive
                number per classifier.
        """
        model = load_trained(Path(folder), temperatures)
        return cls(model.to(device).eval(), load_tokenizer(folder))

    def predict(
        self,
        texts: Sequence[Text],
        threshold: float | None = None,
        patience: int | None = None,
        batch_size: int = 1,
        max_length: int | None = None,
    ) -> list[ExitAnswer]:
        """Answer texts, or pairs of texts.

        Each leaves as soon as the rule allows; without a rule at the last exit.

        Args:
            texts: one string or a pair each; cut by the tokenizer's own truncation.
            threshold: leave at the first classifier this confident, in (0, 1].
            patience: leave once so many classifiers in a row agree.
            batch_size: texts at a time; more are faster together and get the same answers.
            max_length: most tokens of a text, special ones included. None for the limit of
                training, which is also that of calibration and measurement (or, in a folder that
                does not state it, for the encoder's).

        Raises:
            ExitRuleError: threshold or patience is out of its range, or both are given.
            ModelError: there is a threshold, but the model has no temperatures.
            TypeError: texts is one string.
            ValueError: batch_size is below 1, or max_length is above the encoder's limit or too
                small for any text.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list; pass [text]")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but is {batch_size!r}")
        given = {THRESHOLD: threshold, PATIENCE: patience}
        rule = exit_rule({key: value for key, value in given.items() if value is not None})
        leaver = Leaver(self.model, rule, batch_size)
        step, longest = batch_size * TOGETHER, self._longest(texts, max_length)
        parts = [list(texts[first : first + step]) for first in range(0, len(texts), step)]
        left = [one for part in parts for one in leaver.leave(self._encode(part, longest))]
        return [self.model.answer(one) for one in left]

    def _longest(self, texts: Sequence[Text], max_length: int | None) -> int:
        """Return the most tokens of a text."""
        config = self.model.config
        limit = most_tokens(config.encoder)
        if max_length is None:
            return config.seq_len or limit or int(self.tokenizer.model_max_length)
        if limit is not None and max_length > limit:
            most = f"the {limit} tokens that the encoder holds"
            raise ValueError(f"max_length {max_length} is above {most}")
        paired = any(not isinstance(text, str) for text in texts)
        special = self.tokenizer.num_special_tokens_to_add(pair=paired)
        least = special + (2 if paired else 1)
        if max_length < least:
            room = f"no room for text beside {special} special tokens"
            raise ValueError(f"max_length {max_length} leaves {room}; it must be at least {least}")
        return max_length

    def _encode(self, texts: Sequence[Text], longest: int) -> dict[str, Tensor]:
        how = {"truncation": True, "max_length": longest, "return_token_type_ids": True}
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        rows = [self.tokenizer(*pair, **how) for pair in pairs]
        ids, types = ([row[key] for row in rows] for key in ("input_ids", "token_type_ids"))
        segments = types if has_segments(self.model.config.encoder) else None
        return padded(ids, segments, int(self.tokenizer.pad_token_id), None, self.model.device)
