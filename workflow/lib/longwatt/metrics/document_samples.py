"""Samples whose examples share documents, of which whole documents are drawn.

Several questions about one meeting are not independent: who finds it hard answers all of them
worse. Drawing questions one by one would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from longwatt.metrics.resampling import Array, Sample, Scores, resampled_sums


@dataclass(frozen=True, eq=False)
class DocumentSample(Sample):
    """A sample that draws documents, each with all its examples.

    Attributes:
        documents: the number of each example's document, from 0 in the order of the examples, so
            that equal documents of equal examples are drawn together in every sample.
    """

    documents: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of documents."""
        return max(self.documents) + 1

    def draws(self, resamples: int, seed: int) -> Array:
        """Score every resample of the documents, or of the examples of a single one."""
        if self.count == 1:
            return super().draws(resamples, seed)
        sums = self.by_document(np.column_stack([self.marks, self.rows]))
        drawn = resampled_sums(sums, resamples=resamples, seed=seed)
        return self.score(drawn[:, :-1] / drawn[:, -1:])

    def by_document(self, values: Array) -> Array:
        """Sum values (examples, columns) over the examples of every document."""
        sums = np.zeros((self.count, values.shape[1]))
        np.add.at(sums, list(self.documents), values)
        return sums

    def means_of_documents(self, values: Array) -> Array:
        """Average values (examples, columns) over the examples of every document."""
        means: Array = self.by_document(values) / self.by_document(np.ones((len(values), 1)))
        return means

    @property
    def is_proportion(self) -> bool:
        """False: answers about one document are not independent, as a proportion wants."""
        return False


def with_documents(sample: Sample, documents: Mapping[str, str] | None) -> Sample:
    """Have a sample draw documents, if they are fewer than its examples.

    Args:
        sample: drawn by example.
        documents: the document of each example, by whatever name; None or none if each has its own.
    """
    if not documents:
        return sample
    return _numbered(sample, [documents[id_] for id_ in sample.ids])


def _numbered(sample: Sample, documents: Sequence[Any]) -> Sample:
    places = {name: place for place, name in enumerate(dict.fromkeys(documents))}
    parts = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
    if len(places) == len(sample.ids):
        return Sample(**parts)
    return DocumentSample(**parts, documents=tuple(places[name] for name in documents))


def documents_of(sample: Sample) -> tuple[int, ...] | None:
    """Return the number of each example's document, None where examples are drawn."""
    return sample.documents if isinstance(sample, DocumentSample) else None


def sizes_drawn(sample: Sample) -> Array:
    """Return the number of rows of each example or document that is drawn."""
    rows = np.asarray(sample.rows, float)
    if isinstance(sample, DocumentSample) and sample.count > 1:
        return sample.by_document(rows[:, None])[:, 0]
    return rows


def part_of(sample: Sample, ids: Sequence[str]) -> Sample:
    """Select some of a sample's examples."""
    wanted = set(ids)
    kept = np.array([id_ in wanted for id_ in sample.ids])
    groups = None if sample.groups is None else sample.groups[kept]
    arrays = {name: getattr(sample, name)[kept] for name in ("marks", "rows", "values")}
    names = tuple(id_ for id_ in sample.ids if id_ in wanted)
    part = replace(sample, ids=names, groups=groups, **arrays)
    if isinstance(part, DocumentSample):
        own = zip(part.documents, kept, strict=True)
        return _numbered(part, [document for document, is_kept in own if is_kept])
    return part


def drawn_alike(many: Sequence[Scores]) -> list[Scores]:
    """Have scores of the same examples draw the same documents.

    Which examples share a document is a fact of the data. Results scored before it was recorded
    take it from the others. Where two of them differ, the fewer documents count.

    Raises:
        ValueError: they are of other examples, or resampled otherwise.
    """
    first = many[0]
    if any(one.ids != first.ids or one.how != first.how for one in many):
        raise ValueError("only scores of the same examples can be paired")
    samples = [sample for scores in many for sample in scores.samples]
    known = [found for sample in samples if (found := documents_of(sample)) is not None]
    if not known or all(documents_of(sample) == known[0] for sample in samples):
        return list(many)
    fewest = min(known, key=max)
    return [Scores([_numbered(one, fewest) for one in own.samples], own.how) for own in many]


def paired_draws(many: Sequence[Scores]) -> Array:
    """Score the same resamples of the same examples at every point (resamples, points).

    Documents are drawn where examples share some, so that whatever is made of a row (a difference,
    the best of all, a place on a frontier) is paired over all points.

    Raises:
        ValueError: scores are of other examples, or resampled otherwise.
    """
    return np.column_stack([scores.draws for scores in drawn_alike(many)])
