"""Predict with two cells: one answers all, the other where that one is unsure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from longwatt.inference.examples import CellExamples, batches
from longwatt.inference.predictor import BatchResult, Predictor
from longwatt.models.family import Answer
from longwatt.study.cascades import is_unsure

ESCALATED = "escalated"  # fact of an answer: the first cell was unsure, and the last one answered


@dataclass(frozen=True, eq=False)
class CascadePredictor:
    """Two predictors that answer as one, with the interface of `Predictor.predict`.

    Attributes:
        first: answers all examples.
        first_examples: as the first sees them, in the same order.
        last: answers those that the first is unsure of.
        confidence: name of the first's fact that says how sure it was.
        threshold: an answer is unsure below it, or where its confidence is unknown.
        batch_size: examples of a batch.
    """

    first: Predictor
    first_examples: CellExamples
    last: Predictor
    confidence: str
    threshold: float
    batch_size: int

    def predict(
        self, examples: CellExamples, groups: Sequence[Sequence[int]]
    ) -> Iterator[BatchResult]:
        """Yield the results of each group of positions in `examples`.

        The first predicts a group in batches; the unsure of all of them are put together to batches
        of the last. A group's window holds both, and the decoding of the first's texts.
        """
        for group in groups:
            yield self._group(examples, list(group))

    def _group(self, examples: CellExamples, group: list[int]) -> BatchResult:
        own = list(self.first.predict(self.first_examples, self._cut(group)))
        answers = [answer for batch in own for answer in batch.answers]
        sure = [answer.facts.get(self.confidence) for answer in answers]
        unsure = [n for n, found in enumerate(sure) if is_unsure(found, self.threshold)]
        asked = self._cut([group[n] for n in unsure])
        more = list(self.last.predict(examples, asked))
        later = [answer for batch in more for answer in batch.answers]
        tokens = [count for batch in own for count in batch.input_tokens]
        read = [count for batch in more for count in batch.input_tokens]
        answered = [_first_answer(one, self.confidence) for one in answers]
        for n, answer, count in zip(unsure, later, read, strict=True):
            answered[n] = _last_answer(answer, answers[n], self.confidence)
            tokens[n] += count
        return BatchResult(
            ids=[id_ for batch in own for id_ in batch.ids],
            answers=answered,
            input_tokens=tokens,
            start_ns=own[0].start_ns,
            end_ns=[*own, *more][-1].end_ns,
        )

    def _cut(self, positions: list[int]) -> list[list[int]]:
        places = batches(positions, self.batch_size)
        return [[positions[place] for place in batch] for batch in places]


def _first_answer(answer: Answer, confidence: str) -> Answer:
    said = {ESCALATED: False, f"first_{confidence}": answer.facts.get(confidence)}
    return replace(answer, facts={**answer.facts, **said})


def _last_answer(answer: Answer, before: Answer, confidence: str) -> Answer:
    """Return the last's answer, with the tokens that both produced."""
    said = {ESCALATED: True, f"first_{confidence}": before.facts.get(confidence)}
    produced = before.output_tokens + answer.output_tokens
    return replace(answer, output_tokens=produced, facts={**answer.facts, **said})


def cascade_facts(
    cascade: Mapping[str, Any], threshold: float, answers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what inference.json says of a cascade.

    Args:
        cascade: the point's own settings.
        threshold: in use.
        answers: facts of every answer.
    """
    escalated = sum(bool(facts[ESCALATED]) for facts in answers)
    rate = escalated / len(answers)
    known = {"threshold": threshold, "escalated": escalated, "escalation_rate": rate}
    return {"cascade": {**cascade, **known}}
