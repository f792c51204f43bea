"""Read what a cell answered, how sure it was, and how well it scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longwatt.metrics.classification import MACRO_F1, labels_sample
from longwatt.metrics.document_samples import (
    documents_of,
    drawn_alike,
    restricted_to,
    with_documents,
)
from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.provenance.artefacts import check_beside, json_rows, read_artefact, read_from
from longwatt.results.example_scores import read_examples

Numbers = NDArray[Any]


class CascadeError(ValueError):
    """Answers from which no cascade can be made. The message says what to do."""


@dataclass(frozen=True, eq=False)
class Answered:
    """One cell's answers at one inference point, by example in the order of its sample.

    Attributes:
        sample: what each example adds to the headline score.
        answers: texts or labels (examples).
        facts: of each example, as its row of predictions.jsonl has them.
        score_name: of the headline score.
        gold: right labels, in classification (examples).
    """

    sample: Sample
    answers: tuple[str, ...]
    facts: tuple[Mapping[str, Any], ...]
    score_name: str
    gold: tuple[str, ...] = ()

    def confidence(self, name: str) -> Numbers:
        """Return the confidences of a kind (examples), NaN where unknown.

        Raises:
            CascadeError: none was recorded.
        """
        if name not in self.facts[0]:
            raise CascadeError(
                f"the predictions have no {name}: they are older than its recording, or are no "
                "generated texts; predict again"
            )
        found = (row.get(name) for row in self.facts)
        return np.array([np.nan if value is None else float(value) for value in found])

    def part(self, chosen: Numbers) -> Answered:
        """Keep the examples of these places, which rise."""
        sample = restricted_to(self.sample, [self.sample.ids[place] for place in chosen])
        answers, facts, gold = (
            tuple(one[place] for place in chosen) if one else ()
            for one in (self.answers, self.facts, self.gold)
        )
        return replace(self, sample=sample, answers=answers, facts=facts, gold=gold)


def read_answered(predictions: Path, inference: Path, scores: Path, examples: Path) -> Answered:
    """Read the artefacts of an inference point.

    Raises:
        longwatt.provenance.artefacts.Damaged: a file is not what was written.
    """
    check_beside(inference, predictions)
    scored = read_examples(examples)
    score_name = str(read_artefact(scores)["score_name"])
    sample = scored.sample("score", score_name)
    with read_from(predictions):
        rows = {row["id"]: row for row in json_rows(predictions)}
    # Where references count alone, all rows of an example have its one answer.
    first = dict(zip(reversed(scored.examples), reversed(list(scored.table.index)), strict=True))
    own = [first[id_] for id_ in sample.ids]
    facts = tuple(rows[id_] for id_ in scored.table["id"].iloc[own])
    gold = tuple(scored.table["label"].iloc[own]) if "label" in scored.table else ()
    answers = tuple(str(row["prediction"]) for row in facts)
    return Answered(sample, answers, facts, score_name, gold)


def paired_samples(first: Answered, last: Answered) -> tuple[Sample, Sample]:
    """Return the samples of two cells with marks that can stand for each other.

    Raises:
        CascadeError: they are of different examples.
    """
    if first.sample.ids != last.sample.ids or first.score_name != last.score_name:
        raise CascadeError("the two cells did not answer the same examples")
    if first.score_name != MACRO_F1:
        return _drawn_alike(first.sample, last.sample)
    # Its marks have a column for each label that occurs, so both must count the labels of both.
    said = {
        f"{number}{id_}": {"label": label, "prediction": answer}
        for number, one in enumerate((first, last))
        for id_, label, answer in zip(one.sample.ids, one.gold, one.answers, strict=True)
    }
    both, count = labels_sample(said, MACRO_F1), len(first.sample.ids)
    parts = slice(count), slice(count, None)
    own = (_sliced(both, one.sample, part) for one, part in zip((first, last), parts, strict=True))
    return _drawn_alike(*own)


def _drawn_alike(first: Sample, last: Sample) -> tuple[Sample, Sample]:
    """Have both draw the same documents, which older results of one may not know."""
    one, other = drawn_alike([Scores([sample], Resampling()) for sample in (first, last)])
    return one.samples[0], other.samples[0]


def _sliced(both: Sample, own: Sample, part: slice) -> Sample:
    groups = None if both.groups is None else both.groups[part]
    sliced = replace(both, ids=own.ids, marks=both.marks[part], rows=both.rows[part],
                     values=both.values[part], groups=groups)  # fmt: skip
    numbers = documents_of(own)
    named = None if numbers is None else dict(zip(own.ids, map(str, numbers), strict=True))
    return with_documents(sliced, named)
