"""Score one inference point: corpus scores, an interval, the lead baseline, the ceiling, and every example's scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt import metrics
from longwatt.metric_words import mostly_sees
from longwatt.metrics import classification
from longwatt.provenance import whole_file, write_json
from longwatt.references import compared_id, compared_texts
from longwatt.tasks import CLASSIFICATION
from longwatt.tokenization import load_split, load_tokenizer, repair_tokens, visible_evidence


def score(
    settings: Mapping[str, Any],
    *,
    predictions: Path,
    tokens: Path,
    tokenized: Path,
    tokenizer: Path,
    dataset: Path,
    scores: Path,
    examples: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write `scores.json` (corpus) and `examples.csv` (one row per example).

    Args:
        settings: as `longwatt.settings.score_settings`; of a task "classification" labels are scored, else texts.
        predictions: JSON lines with id and prediction.
        tokens: the tokenized dataset, which holds the references too.
        tokenized: its report, for the number of special tokens.
        tokenizer: what made them, should they have to be made again.
        dataset: its facts, for the floor of chance and for the training split's labels.
        scores: written.
        examples: written.
        provenance: the stamp of scores.json.

    Raises:
        longwatt.metrics.ScoringError: predictions and references do not match, id by id.
    """
    made = {"tokens": tokens, "tokenized": tokenized, "tokenizer": tokenizer, "dataset": dataset}
    repair_tokens({name: str(path) for name, path in made.items()})
    rows = load_split(tokens, settings["split"], settings["max_examples"])
    predicted = read_predictions(predictions)
    if settings.get("task") == CLASSIFICATION:
        per_example: Mapping[str, Mapping[str, Any]] = _classified(rows, predicted)
        facts = _label_facts(settings, per_example, dataset)
    else:
        references = compared_texts(rows, load_tokenizer(tokenizer.parent), settings)
        used = _metrics(settings, references)
        per_example = metrics.score_examples(predicted, references, used, settings["text"])
        lead, ceiling = _lead(settings, rows, references), _ceiling(settings, rows, tokenized, dataset)
        facts = _text_facts(settings, per_example, lead, ceiling)
    _write_examples(examples, per_example)
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
    write_json(scores, {**rounded, "provenance": provenance})


def _metrics(settings: Mapping[str, Any], references: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The dataset's metric and those of SCROLLS' that see its references: 0 for any answer would be no score."""
    text = settings["text"]
    seen = (name for name in metrics.SCROLLS_METRICS if mostly_sees(name, references.values(), text))
    return tuple(dict.fromkeys((*seen, settings["metric"])))


def read_predictions(path: Path) -> dict[str, str]:
    """Predictions by id from the JSON lines that inference writes."""
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return {row["id"]: row["prediction"] for row in rows}


def _text_facts(
    settings: Mapping[str, Any], per_example: metrics.PerExample, lead: float, ceiling: float | None
) -> dict[str, Any]:
    corpus = metrics.corpus_scores(per_example)
    interval = metrics.bootstrap_interval(per_example, settings["metric"], **_bootstrap(settings))
    headline = _headline(settings, corpus, interval)
    return {**headline, "score_lead": lead, "score_ceiling": ceiling, "examples": len(per_example), **corpus}


def _classified(rows: Any, predicted: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Every example's label and prediction; a label is an example's only reference."""
    labels = {id_: references[0] for id_, references in zip(rows["id"], rows["references"], strict=True)}
    return classification.classify_examples(predicted, labels)


def _label_facts(settings: Mapping[str, Any], per_example: classification.PerExample, dataset: Path) -> dict[str, Any]:
    """Accuracy and macro F1, each with its interval, beside what the training split's most frequent label gets."""
    corpus = classification.classification_scores(per_example)
    intervals = classification.classification_intervals(per_example, **_bootstrap(settings))
    headline = _headline(settings, corpus, intervals[settings["metric"]])
    ends = {
        f"{name}_ci_{end}": value
        for name, interval in intervals.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    floor = {"majority": _majority(per_example, dataset), "score_lead": None, "score_ceiling": None}
    return {**headline, **floor, "examples": len(per_example), **corpus, **ends}


def _headline(
    settings: Mapping[str, Any], corpus: Mapping[str, float], interval: tuple[float, float]
) -> dict[str, Any]:
    name = metrics.headline(settings["metric"])
    return {
        "score_name": name,
        "score": corpus[name],
        "score_ci_low": interval[0],
        "score_ci_high": interval[1],
        "score_confidence": settings["confidence"],
        "interval": f"{settings['confidence']:.0%} percentile bootstrap over examples",
    }


def _bootstrap(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"resamples": settings["bootstrap_resamples"], **{key: settings[key] for key in ("confidence", "seed")}}


def _majority(per_example: classification.PerExample, dataset: Path) -> float:
    """Accuracy of the training split's most frequent label, of several the first by name."""
    counts: Mapping[str, int] = json.loads(dataset.read_text(encoding="utf-8"))["splits"]["train"]["labels"]
    label = min(counts, key=lambda name: (-counts[name], name))
    labels = [row["label"] for row in per_example.values()]
    return 100 * labels.count(label) / len(labels)


def f1_ceiling(evidence_ends: Sequence[Sequence[int]], length: int, special: int, chance: float) -> float:
    """The best F1 (x 100) that a cut leaves possible.

    Of an answer of n words with v of them visible, one may say the visible ones alone (recall v / n at full
    precision: F1 = 2v / (v + n)) or guess the hidden ones too (v + chance x (n - v) of n are right); the better
    counts.

    Args:
        evidence_ends: per example, for each answer word the ids that must be kept for it to be whole.
        length: tokens of an input, special tokens included.
        special: how many special tokens there are.
        chance: share of hidden words that the best guess, one per word, gets right.
    """
    parts = [_best_f1(visible_evidence(ends, length, special), len(ends), chance) for ends in evidence_ends]
    return 100 * sum(parts) / len(parts)


def _best_f1(visible: int, words: int, chance: float) -> float:
    silent = 2 * visible / (visible + words)
    guessing = (visible + (words - visible) * chance) / words
    return max(silent, guessing)


def _lead(settings: Mapping[str, Any], rows: Any, references: Mapping[str, Sequence[str]]) -> float:
    """The score of taking each document's first words for the prediction, as many as a training reference has."""
    metric = settings["metric"]
    leads = {
        compared_id(id_, number, settings["references"]): lead
        for id_, lead, all_of_it in zip(rows["id"], rows["lead"], rows["references"], strict=True)
        for number in range(len(all_of_it))
    }
    per_example = metrics.score_examples(leads, references, (metric,), settings["text"])
    return metrics.corpus_scores(per_example)[metrics.headline(metric)]


def _ceiling(settings: Mapping[str, Any], rows: Any, tokenized: Path, dataset: Path) -> float | None:
    """None unless the dataset says where every answer is and the metric is F1."""
    chance = json.loads(dataset.read_text(encoding="utf-8"))["chance_per_hidden_word"]
    ends = rows["evidence_ends"]
    if settings["metric"] != "f1" or chance is None or not all(len(e) for e in ends):
        return None
    special = json.loads(tokenized.read_text(encoding="utf-8"))["special_tokens"]
    return f1_ceiling(ends, settings["seq_len"], special, chance)


def _write_examples(path: Path, per_example: Mapping[str, Mapping[str, Any]]) -> None:
    names = list(next(iter(per_example.values())))
    with whole_file(path, newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", *names])
        for id_, values in per_example.items():
            rounded = (round(value, 4) if isinstance(value, float) else value for value in values.values())
            writer.writerow([id_, *rounded])
