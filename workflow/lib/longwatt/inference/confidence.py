"""Record how sure a model was of each text that it generated.

The log-probabilities of the chosen tokens are read off while a model generates, under its raw
distribution: before anything that forbids or forces tokens. Nothing is computed twice, and no token
changes.

Validations generate by the same code without this, and trainings count by that code. It is
therefore put around generation here, for inference alone: at the one place where transformers makes
its processors of scores, and around the decoder of the fast greedy loop.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from longwatt.models.attention_choice import core
from longwatt.models.family import Answer, Batch, Family
from longwatt.study.cascades import LEAST, MEAN

if TYPE_CHECKING:
    from longwatt.models.attention.steps import StepDecoder

DECIMALS = 6  # beyond them a batch's padding shows
GREEDY_ARGUMENTS = 4  # of the fast path's decoder; with beams it is given their number too
Logs = Sequence[float] | None  # log-probabilities of an answer's tokens, None where unknown


def with_confidence(family: Family) -> Family:
    """Let a family add to its texts how sure it was of them."""
    return cast(Family, _Confident(family))


class _Confident:
    """A family whose predictions carry the log-probabilities of their tokens."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def predict(
        self, model: Any, batch: Batch, how: Mapping[str, Any]
    ) -> tuple[list[list[int]], list[Logs]]:
        """Predict as the family does, and return log-probabilities beside the tokens."""
        own = core(model)
        ends = {*_ends(own), *how.get("stops", ())}
        record = GenerationRecord(len(batch["input_ids"]), sorted(ends))
        with _recording(own, record):
            found = self._family.predict(model, batch, how)
        return found, record.of([_cut(row, ends) for row in found])

    def answers(
        self, predicted: tuple[list[list[int]], list[Logs]], tokenizer: Any
    ) -> list[Answer]:
        """Read the answers as the family does, with what is known of their confidence."""
        tokens, logs = predicted
        answers = self._family.answers(tokens, tokenizer)
        return [
            replace(answer, facts={**answer.facts, **confidence_facts(own)})
            for answer, own in zip(answers, logs, strict=True)
        ]


def confidence_facts(logs: Logs) -> dict[str, float | None]:
    """Return the mean and the least log-probability of an answer's tokens, its end included."""
    if not logs or not all(map(math.isfinite, logs)):
        return {MEAN: None, LEAST: None}
    mean = math.fsum(logs) / len(logs)
    return {MEAN: round(mean, DECIMALS), LEAST: round(min(logs), DECIMALS)}


class GenerationRecord:
    """The log-probabilities of one batch's tokens, step by step.

    A step has a row for each text that goes on, or several: its beams.

    Args:
        texts: of the batch.
        ends: tokens that end a text, sorted.
    """

    def __init__(self, texts: int, ends: Sequence[int]) -> None:
        self.texts, self._ends = texts, list(ends)
        self._last: Tensor | None = None  # scores of the newest step (rows, vocabulary)
        self._at_ends: Tensor | None = None  # `ends` on the device
        self._steps: list[_Step] = []

    def step(
        self,
        scores: Tensor,
        tokens: Tensor,
        parents: Sequence[int] | Tensor | None,
        summed: bool = True,
    ) -> None:
        """Take the scores of every row's next token.

        Args:
            scores: raw ones, or log-probabilities (rows, vocabulary).
            tokens: each row's newest token, which the step before chose (rows).
            parents: the row of the step before that each row goes on from; None for the same.
            summed: whether scores are raw, so that probabilities take the sum of all.
        """
        scores = scores.float()
        if self._at_ends is None:
            self._at_ends = torch.tensor(self._ends, dtype=torch.long, device=scores.device)
        if self._last is not None:
            last, own = self._last, self._steps[-1]
            own.parents = parents
            if parents is None:
                own.chosen = last.gather(1, tokens[:, None])[:, 0]
            else:
                own.chosen = last[torch.as_tensor(parents, device=last.device), tokens]
        whole = scores.logsumexp(-1) if summed else scores.new_zeros(len(scores))
        self._steps.append(_Step(whole, scores.index_select(1, self._at_ends)))
        self._last = scores

    def of_texts(self, places: Sequence[int]) -> None:
        """Say which text each row of the newest step is of, where rows have left."""
        self._steps[-1].texts = places

    def of_beams(self, read: Tensor) -> None:
        """Say of the newest step which tokens each beam has read (rows, length)."""
        self._steps[-1].read = read

    def of(self, texts: Sequence[Sequence[int]]) -> list[Logs]:
        """Return the log-probabilities of each text's tokens.

        Args:
            texts: generated tokens, each text's end included and without its padding.
        """
        held = [_Held(step) for step in self._steps]
        return [self._text(place, list(tokens), held) for place, tokens in enumerate(texts)]

    def _text(self, place: int, tokens: list[int], held: Sequence[_Held]) -> Logs:
        count, last = len(tokens), len(held) - 1
        if not count:
            return None
        row = self._find(held[count], place, tokens) if count <= last else None
        found: list[float] = []
        step = count - 1
        if row is None:  # its last token was chosen, and no row went on from it
            row = self._find(held[step], place, tokens[:-1]) if step <= last else None
            if row is None or (log := self._end(held, step, row, tokens[-1])) is None:
                return None
            found.append(log)
            step -= 1
        while step >= 0:
            one = held[step]
            parent = row if one.parents is None else one.parents[row]
            found.append(one.chosen[row] - one.whole[parent])
            row, step = parent, step - 1
        return found[::-1]

    def _find(self, step: _Held, place: int, tokens: list[int]) -> int | None:
        """Find the row of a text at a step, or None."""
        if step.texts is not None:
            return step.texts.index(place) if place in step.texts else None
        if step.read is None:
            return place
        beams = len(step.read) // self.texts
        rows = range(place * beams, (place + 1) * beams)
        return next((row for row in rows if step.read[row] == tokens), None)

    def _end(self, held: Sequence[_Held], step: int, row: int, token: int) -> float | None:
        """Return the log-probability of a text's last token, with which its row was done."""
        one = held[step]
        if token in self._ends:
            return one.at_ends[row][self._ends.index(token)] - one.whole[row]
        if step < len(held) - 1 or self._last is None:
            return None
        return float(self._last[row, token]) - one.whole[row]


class _Step:
    """One step's numbers, on the device."""

    def __init__(self, whole: Tensor, at_ends: Tensor) -> None:
        self.whole, self.at_ends = whole, at_ends  # log of the summed exponentials (rows)
        self.chosen: Tensor | None = None  # score of the token that each later row has read
        self.parents: Sequence[int] | Tensor | None = None  # rows of this step, by later row
        self.texts: Sequence[int] | None = None
        self.read: Tensor | None = None


class _Held:
    """One step's numbers as plain lists, on the processor."""

    def __init__(self, step: _Step) -> None:
        self.whole: list[float] = step.whole.tolist()
        self.at_ends: list[list[float]] = step.at_ends.tolist()
        self.chosen: list[float] = [] if step.chosen is None else step.chosen.tolist()
        parents = step.parents
        self.parents = parents.tolist() if isinstance(parents, Tensor) else parents
        self.texts = step.texts
        self.read = None if step.read is None else step.read.tolist()


@contextmanager
def _recording(model: Any, record: GenerationRecord) -> Iterator[None]:
    """Let a record see every step of generation, by transformers or by the fast path."""
    from longwatt.models.attention import generation

    fast: Any = generation
    made, decoder = model._get_logits_processor, fast.StepDecoder

    def with_record(*args: Any, **kwargs: Any) -> LogitsProcessorList:
        return LogitsProcessorList([_Watch(record), *made(*args, **kwargs)])

    model._get_logits_processor = with_record
    fast.StepDecoder = partial(_watched(decoder), record)
    try:
        yield
    finally:
        fast.StepDecoder = decoder
        del model._get_logits_processor


@cache
def _watched(decoder: type[StepDecoder]) -> type[StepDecoder]:
    """Make the fast path's decoder one whose steps a record sees."""

    class Watched(decoder):  # type: ignore[misc, valid-type]
        """A decoder of the greedy loop. Beams are transformers' own, and seen there."""

        def __init__(self, record: GenerationRecord, *args: Any) -> None:
            super().__init__(*args)
            self._record = record if len(args) == GREEDY_ARGUMENTS else None
            self._texts = list(range(record.texts))
            self._order: list[int] | None = None

        def logits(self, tokens: Tensor) -> Tensor:
            found: Tensor = super().logits(tokens)
            if self._record is not None:
                self._record.step(found, tokens, self._order)
                self._record.of_texts(self._texts)
                self._order = None
            return found

        def keep(self, going: Sequence[bool]) -> list[int]:
            order: list[int] = super().keep(going)
            self._order = order
            self._texts = [self._texts[place] for place in order]
            return order

    return Watched


class _Watch(LogitsProcessor):  # type: ignore[misc]
    """See the scores of every step before anything changes them, and change none."""

    def __init__(self, record: GenerationRecord) -> None:
        self._record, self._begin = record, 0
        self._read: Tensor | None = None  # tokens that each row had at the step before

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See transformers: scores (rows, vocabulary) for the tokens so far (rows, length)."""
        beams = len(input_ids) // self._record.texts
        if self._read is None:
            self._begin = input_ids.shape[1]
        parents = None
        if beams > 1 and self._read is not None:
            parents = _parents(self._read, input_ids[:, :-1], beams)
        # The search by beams turns scores into log-probabilities before anything sees them.
        self._record.step(scores, input_ids[:, -1], parents, summed=beams == 1)
        if beams > 1:
            self._record.of_beams(input_ids[:, self._begin :])
        self._read = input_ids
        return scores


def _parents(before: Tensor, read: Tensor, beams: int) -> Tensor:
    """Find the row that each row goes on from, by their tokens (rows, length)."""
    width = before.shape[1]
    now, then = (one.view(-1, beams, width) for one in (read, before))
    same = (now[:, :, None] == then[:, None]).all(-1)  # (texts, rows now, rows before)
    first = torch.arange(len(same), device=read.device)[:, None] * beams
    return (same.int().argmax(-1) + first).flatten()


def _ends(model: Any) -> list[int]:
    held = model.generation_config.eos_token_id
    return [] if held is None else list(held) if isinstance(held, list) else [held]


def _cut(row: Sequence[int], ends: Collection[int]) -> list[int]:
    """Drop what stands behind a text's first end."""
    last = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
    return list(row[: last + 1])
