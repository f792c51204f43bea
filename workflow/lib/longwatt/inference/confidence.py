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
from typing import Any, cast

import torch
from torch import Tensor
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from longwatt.models.attention_choice import core
from longwatt.models.family import Answer, Batch, Family
from longwatt.study.cascades import LEAST, MEAN

DECIMALS = 6  # beyond them a batch's padding shows
Logs = Sequence[float] | None  # log-probabilities of an answer's tokens, None where unknown


def with_confidence(family: Family) -> Family:
    """Let a family of generated texts add to its answers how sure it was of them."""
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
        """Predict as the family does; its tokens and their log-probabilities, row by row."""
        own = core(model)
        ends = {*_ends(own), *how.get("stops", ())}
        record = Record(len(batch["input_ids"]), sorted(ends))
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


class Record:
    """The log-probabilities of one batch's tokens, step by step.

    A step has a row for each text that goes on, or several: its beams.

    Args:
        texts: of the batch.
        ends: tokens that end a text, sorted.
    """

    def __init__(self, texts: int, ends: Sequence[int]) -> None:
        self._texts, self._ends = texts, list(ends)
        self._last: Tensor | None = None  # scores of the newest step (rows, vocabulary)
        self._at_ends: Tensor | None = None  # `ends` on the device
        self._steps: list[_Step] = []

    def step(self, scores: Tensor, tokens: Tensor, parents: Sequence[int] | Tensor | None) -> None:
        """Take the scores of every row's next token.

        Args:
            scores: raw, or of log-probabilities (rows, vocabulary).
            tokens: each row's newest token, which the step before chose (rows).
            parents: the row of the step before that each row goes on from; None for the same.
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
                own.chosen = last[parents, tokens]
        whole = scores.logsumexp(-1)
        self._steps.append(_Step(whole, scores.index_select(1, self._at_ends)))
        self._last = scores

    def rows(self, places: Sequence[int] | Tensor) -> None:
        """Say of the newest step which text each row is of, or which tokens it has read."""
        self._steps[-1].rows = places

    def of(self, texts: Sequence[Sequence[int]]) -> list[Logs]:
        """Return the log-probabilities of each text's tokens.

        Args:
            texts: generated tokens, each text's end included and without its padding.
        """
        held = [step.held() for step in self._steps]
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
        if step.rows is None:
            return place
        if isinstance(step.rows, list):
            return step.rows.index(place) if place in step.rows else None
        beams = len(step.rows) // self._texts
        for row in range(place * beams, (place + 1) * beams):
            if step.rows[row].tolist() == tokens:
                return row
        return None

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
        self.rows: Sequence[int] | Tensor | None = None

    def held(self) -> _Held:
        """Bring the numbers to the processor."""
        return _Held(self)


class _Held:
    """One step's numbers as plain lists."""

    def __init__(self, step: _Step) -> None:
        self.whole: list[float] = step.whole.tolist()
        self.at_ends: list[list[float]] = step.at_ends.tolist()
        self.chosen: list[float] = [] if step.chosen is None else step.chosen.tolist()
        parents = step.parents
        self.parents = parents.tolist() if isinstance(parents, Tensor) else parents
        self.rows = step.rows


@contextmanager
def _recording(model: Any, record: Record) -> Iterator[None]:
    """Let a record see every step of generation, by transformers or by the fast path."""
    from longwatt.models.attention import generation

    made, decoder = model._get_logits_processor, generation.StepDecoder

    def with_record(*args: Any, **kwargs: Any) -> LogitsProcessorList:
        return LogitsProcessorList([_Watch(record), *made(*args, **kwargs)])

    class Watched(decoder):  # type: ignore[misc, valid-type]
        """The decoder of the fast path. Beams are transformers' own, and seen there."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._beams = len(args) > 4 or "beams" in kwargs
            self._texts, self._order = list(range(record._texts)), None

        def logits(self, tokens: Tensor) -> Tensor:
            found: Tensor = super().logits(tokens)
            if not self._beams:
                record.step(found, tokens, self._order)
                record.rows(self._texts)
                self._order = None
            return found

        def keep(self, going: Sequence[bool]) -> list[int]:
            order: list[int] = super().keep(going)
            self._order = order
            self._texts = [self._texts[place] for place in order]
            return order

    model._get_logits_processor = with_record
    generation.StepDecoder = Watched  # type: ignore[misc]
    try:
        yield
    finally:
        generation.StepDecoder = decoder  # type: ignore[misc]
        del model._get_logits_processor


class _Watch(LogitsProcessor):  # type: ignore[misc]
    """See the scores of every step before anything changes them, and change none."""

    def __init__(self, record: Record) -> None:
        self._record, self._begin = record, 0
        self._read: Tensor | None = None  # tokens that each row had at the step before

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See transformers: scores (rows, vocabulary) for the tokens so far (rows, length)."""
        beams = len(input_ids) // self._record._texts
        if self._read is None:
            self._begin = input_ids.shape[1]
        parents = None
        if beams > 1 and self._read is not None:
            parents = _parents(self._read, input_ids[:, :-1], beams)
        self._record.step(scores, input_ids[:, -1], parents)
        if beams > 1:
            self._record.rows(input_ids[:, self._begin :])
        self._read = input_ids
        return scores


def _parents(before: Tensor, read: Tensor, beams: int) -> Tensor:
    """Find which row each row goes on from, by the tokens that both have read (rows, length)."""
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
