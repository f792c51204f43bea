"""Scores as SCROLLS computes them, to the fourth decimal, also by example.

For a pair of texts: ROUGE-1/2/L F-measures x 100 (rouge-score's, no stemming), SQuAD-style F1 and
exact match, and accuracy. With several references each metric takes its own maximum. The ROUGE
headline is the geometric mean of the three corpus means. `rouge_unicode` and `f1_unicode` compare
words of any script, which SCROLLS' metrics do not see; they are not part of SCROLLS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from longwatt.metric_words import normalize_answer, unicode_words
from longwatt.metrics.resampling import Interval, Resampling, Sample, Scores, interval_of
from longwatt.metrics.rouge import ROUGE_TYPES, UNICODE_ROUGE_TYPES, rouge, rouge_unicode

# Metric of a dataset -> the name of its headline score.
METRICS = {
    "rouge": "rouge_geometric_mean",
    "f1": "f1",
    "exact_match": "exact_match",
    "accuracy": "accuracy",
    "macro_f1": "macro_f1",  # only for labels: see longwatt.metrics.classification
    "rouge_unicode": "rouge_unicode_geometric_mean",
    "f1_unicode": "f1_unicode",
}
# Those that texts are always scored by; others only where a dataset asks for them.
SCROLLS_METRICS = ("rouge", "f1", "exact_match", "accuracy")
# Headline score -> the corpus means that it is the geometric mean of.
GEOMETRIC_MEANS = {
    "rouge_geometric_mean": ROUGE_TYPES,
    "rouge_unicode_geometric_mean": UNICODE_ROUGE_TYPES,
}

PerExample = Mapping[str, Mapping[str, float]]
Examples = Mapping[str, str] | None


class ScoringError(ValueError):
    """Predictions and references that do not belong together, named by id."""


def headline(metric: str) -> str:
    """Return the name of a metric's headline score."""
    return METRICS[metric]


def score_parts(headline_score: str) -> tuple[str, ...]:
    """Return the scores whose geometric mean is the headline score, or that score itself."""
    return GEOMETRIC_MEANS.get(headline_score, (headline_score,))


def token_f1(prediction: str, reference: str) -> float:
    """Return F1 x 100 over normalised tokens."""
    return _f1(normalize_answer(prediction).split(), normalize_answer(reference).split())


def f1_unicode(prediction: str, reference: str) -> float:
    """Return F1 x 100 over `longwatt.metric_words.unicode_words`."""
    return _f1(unicode_words(prediction), unicode_words(reference))


def _f1(predicted: Sequence[str], expected: Sequence[str]) -> float:
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 200 * shared / (len(predicted) + len(expected)) if shared else 0.0


def exact_match(prediction: str, reference: str) -> float:
    """Return 100 if both are equal after normalisation, else 0."""
    return 100.0 * (normalize_answer(prediction) == normalize_answer(reference))


def accuracy(prediction: str, reference: str) -> float:
    """Return 100 if both are equal but for outer white space, else 0."""
    return 100.0 * (prediction.strip() == reference.strip())


# Functions of a pair of texts that return one score, and those that return several.
SINGLE = {
    "f1": token_f1,
    "exact_match": exact_match,
    "accuracy": accuracy,
    "f1_unicode": f1_unicode,
}
SEVERAL = {"rouge": rouge, "rouge_unicode": rouge_unicode}


def score_examples(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str] = SCROLLS_METRICS,
    text: str = "raw",
) -> dict[str, dict[str, float]]:
    """Return every example's scores, in the references' order.

    Each metric takes its own maximum over the references of an example.

    Args:
        predictions: text by id.
        references: acceptable texts by id, at least one each.
        metrics: which of METRICS to compute.
        text: "raw", as in SCROLLS, or "normalized": as SQuAD normalises answers, for ROUGE too
            (arXiv 2204.07288).

    Raises:
        ScoringError: ids are missing or unknown, or an example has no reference.
    """
    check_ids(predictions, references)
    read = normalize_answer if text == "normalized" else str
    found = {}
    for id_, texts in references.items():
        prediction = read(predictions[id_])
        pairs = [_pair(prediction, read(reference), metrics) for reference in texts]
        found[id_] = {name: max(pair[name] for pair in pairs) for name in pairs[0]}
    return found


def corpus_scores(per_example: PerExample) -> dict[str, float]:
    """Return unrounded means over examples, and the geometric mean of any ROUGE means."""
    rows = list(per_example.values())
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for headline_score, types in GEOMETRIC_MEANS.items():
        if means.keys() >= set(types):
            product = np.prod([means[name] for name in types])
            means[headline_score] = float(product ** (1 / len(types)))
    return means


def text_sample(per_example: PerExample, metric: str, examples: Examples = None) -> Sample:
    """Gather what examples add to a metric's headline score.

    Args:
        per_example: as `score_examples` returns.
        metric: one of METRICS.
        examples: the example of each id, if several ids are references of one; None if ids are
            examples.
    """
    names = score_parts(headline(metric))
    scores = np.array([[values[name] for name in names] for values in per_example.values()])
    return Sample.of([examples[id_] if examples else id_ for id_ in per_example], scores)


def bootstrap_interval(
    per_example: PerExample,
    metric: str,
    *,
    examples: Examples = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Find the interval over examples of a metric's headline score.

    See `text_sample` for the first three arguments, `resampling.interval_of` for the interval.
    Equal seeds give equal intervals.
    """
    how = Resampling(resamples, confidence, seed)
    return interval_of(Scores([text_sample(per_example, metric, examples)], how))


def check_ids(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    """Refuse predictions whose ids are not exactly those of the references.

    Raises:
        ScoringError: ids are missing, unknown or without a reference, or there are none at all.
    """
    missing = [id_ for id_ in references if id_ not in predictions]
    unknown = [id_ for id_ in predictions if id_ not in references]
    empty = [id_ for id_, texts in references.items() if not texts]
    for ids, problem in (
        (missing, "have no prediction; predict every example of the split"),
        (unknown, "are predicted but have no reference; are these predictions of another split?"),
        (empty, "have no reference text, so they cannot be scored"),
    ):
        if ids:
            more = " ..." if len(ids) > 5 else ""
            raise ScoringError(f"{len(ids)} ids {problem}: {', '.join(ids[:5])}{more}")
    if not references:
        raise ScoringError("there is no example to score")


def _pair(prediction: str, reference: str, metrics: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for several in (SEVERAL[name] for name in SEVERAL if name in metrics):
        found |= several(prediction, reference)
    single = {name: score for name, score in SINGLE.items() if name in metrics}
    return found | {name: score(prediction, reference) for name, score in single.items()}
