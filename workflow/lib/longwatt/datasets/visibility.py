"""Count references in which a metric finds no word.

A perfect answer to such a reference would score nothing, and early stopping would follow that
score. References that each metric misses are counted when data are read, and reported with them.
The metrics by which a study scores a dataset do not change its records, so they are no setting of
theirs: jobs learn them from their environment.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longwatt import metric_words
from longwatt.metric_words import METRICS_OF_PAIRS, METRICS_OF_TEXTS, MOST_UNSEEN, NORMALIZED, RAW

CHANGES_NO_RESULT = "It refuses records or tells of them, and changes none."

# Environment variable: how a study scores its datasets, by the names of their folders.
SCORED_BY = "LONGWATT_SCORED_BY"
MOST_LETTERS_UNSEEN = 0.01  # share in a split; names and loan words in English texts stay far below
QUOTED_REFERENCE = 40  # characters of a reference in a message
BySplit = Mapping[str, Mapping[str, Any]]  # facts as of `Visibility`


@dataclass(frozen=True)
class Scoring:
    """How a study scores a dataset.

    Attributes:
        entry: the study's file and the dataset's key in it.
        text: "raw" or "normalized".
        splits: the splits that are scored.
    """

    entry: str
    metric: str
    text: str = RAW
    splits: tuple[str, ...] = ("validation",)


class UnseenReferences(ValueError):
    """A metric cannot see the references that it would have to score."""


class Visibility:
    """Counts of the references of one split that metrics miss."""

    def __init__(self) -> None:
        self._examples = self._references = self._unspaced = self._lost = self._letters = 0
        self._unseen: Counter[tuple[str, str, str]] = Counter()
        self._first: dict[tuple[str, str], tuple[str, str]] = {}
        self._pairless: Counter[tuple[str, str]] = Counter()

    def add(self, id_: str, references: Sequence[str]) -> None:
        """Count one example."""
        self._examples += 1
        self._references += len(references)
        self._unspaced += sum(map(metric_words.has_unspaced, references))
        for text in references:
            lost, letters = metric_words.letters_unseen_by_rouge(text)
            self._lost, self._letters = self._lost + lost, self._letters + letters
        for metric, compared in itertools.product(METRICS_OF_PAIRS, (RAW, NORMALIZED)):
            paired = any(metric_words.has_a_pair(metric, text, compared) for text in references)
            self._pairless[metric, compared] += not paired
        if all(map(metric_words.has_plain_word, references)):
            return
        for metric, compared in itertools.product(METRICS_OF_TEXTS, (RAW, NORMALIZED)):
            missed = [text for text in references if not metric_words.sees(metric, text, compared)]
            if missed:
                self._unseen[metric, compared, "references"] += len(missed)
                self._unseen[metric, compared, "examples"] += len(missed) == len(references)
                self._first.setdefault((metric, compared), (id_, missed[0]))

    def facts(self) -> dict[str, Any]:
        """Return counts by metric and by compared text, only of metrics that miss any."""
        unseen: dict[str, dict[str, Any]] = {}
        for (metric, compared), (id_, text) in self._first.items():
            unseen.setdefault(metric, {})[compared] = {
                "examples": self._unseen[metric, compared, "examples"],
                "references": self._unseen[metric, compared, "references"],
                "first_id": id_,
                "first_reference": text[:QUOTED_REFERENCE],
            }
        pairless: dict[str, dict[str, int]] = {}
        for (metric, compared), count in self._pairless.items():
            if count:
                pairless.setdefault(metric, {})[compared] = count
        share = round(self._lost / self._letters, 4) if self._letters else None
        return {
            "without_pairs": pairless,
            "examples": self._examples,
            "references": self._references,
            "unseen": unseen,
            "references_in_unspaced_scripts": self._unspaced,
            "letters_unseen_by_rouge": share,
        }


def count_unseen(examples: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Count the references of one split, given as (id, references), that metrics miss."""
    counted = Visibility()
    for id_, references in examples:
        counted.add(id_, references)
    return counted.facts()


def refuse_unseen(by_split: BySplit, scored: Collection[Scoring]) -> None:
    """Refuse to score a split by a metric that does not see its references.

    Args:
        by_split: facts as `Visibility.facts` returns them; empty if nothing was counted.
        scored: how the dataset is scored.

    Raises:
        UnseenReferences: names the dataset's entry, the metric, the split, the first example and a
            remedy.
    """
    for scoring in scored:
        for split, facts in _scored(by_split, scoring):
            found = unseen(facts, scoring.metric, scoring.text)
            where, count = f"{scoring.entry}: the split {split!r}", facts["examples"]
            if found["examples"] > MOST_UNSEEN * count:
                raise UnseenReferences(f"{where}: {refusal(facts, scoring.metric, scoring.text)}")
            if count and without_pairs(facts, scoring) == count:
                raise UnseenReferences(
                    f"{where}: the references of all {count} examples are of one word, and "
                    f"{scoring.metric} is a geometric mean with ROUGE-2, which compares pairs of "
                    "words: a perfect answer would score 0. Choose a metric that needs none: f1, "
                    "exact_match, accuracy or f1_unicode (not SCROLLS')"
                )


def refusal(facts: Mapping[str, Any], metric: str, compared: str = RAW) -> str:
    """Say which references a metric does not see, and name the metrics that see them."""
    found = unseen(facts, metric, compared)
    others = metric_words.metrics_that_see(found["first_reference"], compared)
    listed = ", ".join(n + (" (not SCROLLS')" if n.endswith("_unicode") else "") for n in others)
    return (
        f"the metric {metric} finds no word in the references of {found['examples']} of "
        f"{facts['examples']} examples, first at id {found['first_id']!r}: "
        f"{found['first_reference']!r}; {_WHY[metric]}. "
        + (f"Choose a metric that sees them: {listed}" if others else "Mend or remove those rows")
    )


_DELETED = "punctuation and the articles a, an, the are deleted first"
_WORDS = "it takes letters, digits and symbols of any script, and no punctuation"
_WHY = {
    "rouge": "as SCROLLS computes it, it knows only the letters a to z and digits: a perfect "
    "answer would score 0",
    "f1": f"as SCROLLS computes it, {_DELETED}: a perfect answer would score 0",
    "exact_match": f"{_DELETED}, so that any other such text would count as equal",
    "rouge_unicode": _WORDS,
    "f1_unicode": _WORDS,
    "accuracy": "white space around a text does not count",
}


def visibility_notes(by_split: BySplit, scored: Collection[Scoring]) -> list[str]:
    """Note what metrics miss of references, if it is little enough to go on."""
    found: dict[str, None] = {}  # each once
    for scoring in scored:
        for split, facts in _scored(by_split, scoring):
            found |= dict.fromkeys(_notes(split, facts, scoring))
    return list(found)


def _notes(split: str, facts: Mapping[str, Any], scoring: Scoring) -> Iterator[str]:
    missed, metric = unseen(facts, scoring.metric, scoring.text), scoring.metric
    examples, references = facts["examples"], facts["references"]
    if missed["references"]:
        yield (
            f"{missed['references']} of {references} references of {split} hold no word that "
            f"{metric} sees, first at id {missed['first_id']!r}: {missed['first_reference']!r}"
        )
    single = without_pairs(facts, scoring)
    if single > MOST_UNSEEN * examples:
        yield (
            f"{single} of {examples} examples of {split} have references of one word, of which "
            f"{metric}'s ROUGE-2 is 0 whatever is answered"
        )
    lost = facts["letters_unseen_by_rouge"] or 0
    if metric == "rouge" and lost > MOST_LETTERS_UNSEEN:
        yield (
            f"{lost:.1%} of the letters in references of {split} are none of a to z, and rouge, as "
            "SCROLLS computes it, skips them (of Äpfel it sees pfel); rouge_unicode sees all"
        )
    unspaced = facts["references_in_unspaced_scripts"]
    if metric == "f1" and unspaced > MOST_UNSEEN * references:
        yield (
            f"{unspaced} of {references} references of {split} are in scripts written without "
            "spaces, of which f1 takes whole sentences for one word; f1_unicode takes each "
            "character"
        )


def unseen(facts: Mapping[str, Any], metric: str, compared: str) -> Mapping[str, Any]:
    """Return how many examples and references of a split a metric misses, and the first."""
    none = {"examples": 0, "references": 0, "first_id": "", "first_reference": ""}
    return {**none, **facts["unseen"].get(metric, {}).get(compared, {})}


def without_pairs(facts: Mapping[str, Any], scoring: Scoring) -> int:
    """Count the examples in which a metric of word pairs finds none."""
    return int(facts.get("without_pairs", {}).get(scoring.metric, {}).get(scoring.text, 0))


def _scored(by_split: BySplit, scoring: Scoring) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if scoring.metric in METRICS_OF_TEXTS:
        yield from ((split, by_split[split]) for split in scoring.splits if split in by_split)


def scorings_environment(scored: Mapping[str, Collection[Scoring]]) -> dict[str, str]:
    """Make the environment that tells jobs how datasets are scored, by dataset folder."""
    listed = {key: [asdict(scoring) for scoring in found] for key, found in scored.items()}
    return {SCORED_BY: json.dumps(listed)}


def scored_by(key: str) -> list[Scoring]:
    """Return how the study of this job scores the dataset of a folder."""
    found = json.loads(os.environ.get(SCORED_BY) or "{}").get(key, [])
    return [Scoring(**{**values, "splits": tuple(values["splits"])}) for values in found]
