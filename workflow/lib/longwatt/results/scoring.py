"""Score the predictions of one inference point.

Corpus scores come with an interval, the lead baseline and the ceiling. Every example's scores are
written beside them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt import metrics
from longwatt.files import sha256, whole_file
from longwatt.metric_words import mostly_sees
from longwatt.metrics import classification
from longwatt.metrics.document_samples import with_documents
from longwatt.metrics.resampling import Interval, Resampling, Sample, Scores
from longwatt.metrics.score_intervals import over_examples
from longwatt.provenance.artefacts import check_beside, json_rows, read_artefact, read_from
from longwatt.provenance.stamps import write_json
from longwatt.results.example_documents import shared_documents
from longwatt.results.example_scores import CEILING, DOCUMENT, EXAMPLE, LEAD, MAJORITY_COLUMN
from longwatt.tasks import CLASSIFICATION
from longwatt.tokens.prompts import Prompt
from longwatt.tokens.references import EACH, compared_examples, compared_texts
from longwatt.tokens.special_tokens import load_split, load_tokenizer, visible_evidence
from longwatt.tokens.tokenize import repair_tokens

ScoringSettings = Mapping[str, Any]
References = Mapping[str, Sequence[str]]


def score(
    settings: ScoringSettings,
    *,
    predictions: Path,
    tokens: Path,
    tokenized: Path,
    tokenizer: Path,
    dataset: Path,
    scores: Path,
    examples: Path,
    provenance: Mapping[str, Any],
    inference: Path | None = None,
) -> None:
    """Write `scores.json` (corpus) and `examples.csv` (one row per example).

    Args:
        settings: as `longwatt.study.settings.score_settings`; the task "classification" has its
            labels scored, every other its texts.
        predictions: JSON lines with id and prediction.
        tokens: the tokenized dataset, which holds the references too.
        tokenized: its report, for the number of special tokens.
        tokenizer: the tokenizer, should the tokens have to be made again.
        dataset: its facts, for the floor of chance and for the training split's labels.
        scores: written.
        examples: written.
        provenance: the stamp of scores.json.
        inference: the report written with the predictions, which has their digest; None compares
            no digest.

    Raises:
        longwatt.metrics.ScoringError: predictions and references do not match, id by id.
    """
    made = {"tokens": tokens, "tokenized": tokenized, "tokenizer": tokenizer, "dataset": dataset}
    repair_tokens({name: str(path) for name, path in made.items()})
    rows = load_split(tokens, settings["split"], settings["max_examples"])
    if inference is not None:
        check_beside(inference, predictions)
    predicted = read_predictions(predictions)
    documents = shared_documents(rows, read_artefact(dataset, shared=True))
    if settings.get("task") == CLASSIFICATION:
        # A label is an example's only reference.
        labels = {id_: r[0] for id_, r in zip(rows["id"], rows["references"], strict=True)}
        classified = classification.classify_examples(predicted, labels)
        per_example: Mapping[str, Mapping[str, Any]] = _with_majority(classified, dataset)
        facts = _label_facts(settings, per_example, documents)
    else:
        ceiling = _ceiling(settings, rows, tokenized, tokenizer.parent, dataset)
        facts, per_example = _score_texts(
            settings, predicted, rows, tokenizer.parent, ceiling, documents
        )
    _write_examples(examples, _with_documents(per_example, documents))
    rounded = {name: _rounded(value) for name, value in facts.items()}
    written = {examples.name: sha256(examples)}
    write_json(scores, {**rounded, "sha256": written, "provenance": provenance})


def _score_texts(
    settings: ScoringSettings,
    predicted: Mapping[str, str],
    rows: Any,
    tokenizer: Path,
    ceiling: Mapping[str, float] | None,
    documents: Mapping[str, str],
) -> tuple[dict[str, Any], Mapping[str, Mapping[str, Any]]]:
    """Score texts. Returns the corpus' facts, and every example's scores and baselines."""
    # Whole texts need none, and its library takes longer to load than they take to score.
    used_tokenizer = None if settings["max_reference_tokens"] is None else load_tokenizer(tokenizer)
    references = compared_texts(rows, used_tokenizer, settings)
    used = _metrics(settings, references)
    scored = metrics.score_examples(predicted, references, used, settings["text"])
    lead = _lead(settings, rows, references)
    own = compared_examples(rows, settings["references"])
    interval = _interval(metrics.text_sample(scored, settings["metric"], own), documents, settings)
    corpus = metrics.corpus_scores(scored)
    facts = {
        **_headline(settings, corpus, interval),
        "score_lead": metrics.corpus_scores(lead)[metrics.headline(settings["metric"])],
        "score_ceiling": None if ceiling is None else sum(ceiling.values()) / len(ceiling),
        "examples": len(scored),
        **corpus,
    }
    return facts, _beside(scored, lead, ceiling, own if settings["references"] == EACH else {})


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _metrics(settings: ScoringSettings, references: References) -> tuple[str, ...]:
    """Choose the dataset's metric, and the SCROLLS metrics that see its references.

    A metric that sees none of their words gives 0 to any answer, which is no score.
    """
    text = settings["text"]
    sees = (
        name for name in metrics.SCROLLS_METRICS if mostly_sees(name, references.values(), text)
    )
    return tuple(dict.fromkeys((*sees, settings["metric"])))


def read_predictions(path: Path) -> dict[str, str]:
    """Read predictions by id from the JSON lines that inference writes.

    Raises:
        longwatt.provenance.artefacts.Damaged: the file or a line cannot be read.
    """
    with read_from(path):
        return {row["id"]: row["prediction"] for row in json_rows(path)}


def _beside(
    per_example: metrics.PerExample,
    lead: metrics.PerExample,
    ceiling: Mapping[str, float] | None,
    examples: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Add each example's baselines to its scores, and its own id before a reference's."""
    return {
        id_: {
            **({EXAMPLE: examples[id_]} if examples else {}),
            **scores,
            **{LEAD.format(name): value for name, value in lead[id_].items()},
            **({CEILING.format("f1"): ceiling[id_]} if ceiling else {}),
        }
        for id_, scores in per_example.items()
    }


def _label_facts(
    settings: ScoringSettings,
    per_example: classification.ClassifiedExamples,
    documents: Mapping[str, str],
) -> dict[str, Any]:
    """Score labels by accuracy and macro F1 with intervals, beside the majority class."""
    corpus = classification.classification_scores(per_example)
    intervals = {
        metric: _interval(classification.labels_sample(per_example, metric), documents, settings)
        for metric in classification.CLASSIFICATION_METRICS
    }
    headline = _headline(settings, corpus, intervals[settings["metric"]])
    ends = {
        f"{name}_ci_{end}": value
        for name, interval in intervals.items()
        for end, value in zip(("low", "high"), interval.ends, strict=True)
    }
    majority = sum(row[MAJORITY_COLUMN] for row in per_example.values()) / len(per_example)
    floor = {"majority": majority, "score_lead": None, "score_ceiling": None}
    return {**headline, **floor, "examples": len(per_example), **corpus, **ends}


def _interval(sample: Sample, documents: Mapping[str, str], settings: ScoringSettings) -> Interval:
    """Find a score's interval over examples, or over documents where examples share some."""
    return over_examples(Scores([with_documents(sample, documents)], Resampling.of(settings)))


def _headline(
    settings: ScoringSettings, corpus: Mapping[str, float], interval: Interval
) -> dict[str, Any]:
    name = metrics.headline(settings["metric"])
    return {
        "score_name": name,
        "score": corpus[name],
        "score_ci_low": interval.low,
        "score_ci_high": interval.high,
        "score_confidence": settings["confidence"],
        "interval": f"{settings['confidence']:.0%}: {interval.method}",
    }


def _with_majority(
    per_example: classification.ClassifiedExamples, dataset: Path
) -> dict[str, dict[str, Any]]:
    """Add to each example the accuracy of the training split's most frequent label."""
    counts: Mapping[str, int] = read_artefact(dataset, shared=True)["splits"]["train"]["labels"]
    label = min(counts, key=lambda name: (-counts[name], name))
    return {
        id_: {**row, MAJORITY_COLUMN: 100.0 * (row["label"] == label)}
        for id_, row in per_example.items()
    }


def _with_documents(
    per_example: Mapping[str, Mapping[str, Any]], documents: Mapping[str, str]
) -> Mapping[str, Mapping[str, Any]]:
    """Add each example's document, where examples share some."""
    if not documents:
        return per_example
    own = {id_: documents[row.get(EXAMPLE, id_)] for id_, row in per_example.items()}
    return {id_: {DOCUMENT: own[id_], **row} for id_, row in per_example.items()}


def best_f1(visible: int, words: int, chance: float) -> float:
    """Find the best expected F1 (a fraction) of any answer where words are hidden.

    Every hidden word is one of 1 / chance words of its own, equally likely. An answer of the
    visible words and G guesses shares visible + G chance words with the right one on average. Its
    F1 is twice that divided by (visible + G + words). This rises or falls with G throughout, so the
    best answer has either the visible words alone or every word that the hidden ones may be.

    Args:
        visible: words of the answer that the input holds.
        words: of the answer.
        chance: of one guess for one hidden word.
    """
    silent = 2 * visible / (visible + words)
    everything = 2 * words / (visible + words + (words - visible) / chance) if chance else 0.0
    return max(silent, everything)


def _lead(settings: ScoringSettings, rows: Any, references: References) -> metrics.PerExample:
    """Score each document's first words, as many as a training reference has."""
    leads = dict(zip(rows["id"], rows["lead"], strict=True))
    examples = compared_examples(rows, settings["references"])
    said = {id_: leads[example] for id_, example in examples.items()}
    return metrics.score_examples(said, references, (settings["metric"],), settings["text"])


def _ceiling(
    settings: ScoringSettings, rows: Any, tokenized: Path, tokenizer: Path, dataset: Path
) -> dict[str, float] | None:
    """Find the best expected F1 (x 100) of every example, None where it is unknown."""
    chance = read_artefact(dataset, shared=True)["chance_per_hidden_word"]
    ends = dict(zip(rows["id"], rows["evidence_ends"], strict=True))
    if settings["metric"] != "f1" or chance is None or not all(len(e) for e in ends.values()):
        return None
    kept = _kept(settings, rows, tokenized, tokenizer)
    every = zip(ends.items(), kept, strict=True)
    seen = {own: visible_evidence(found, most) for (own, found), most in every}
    return {
        id_: 100 * best_f1(seen[own], len(ends[own]), chance)
        for id_, own in compared_examples(rows, settings["references"]).items()
    }


def _kept(settings: ScoringSettings, rows: Any, tokenized: Path, tokenizer: Path) -> list[int]:
    """Return how many of every row's input ids the model sees, its query's included."""
    if "prompt" not in settings:
        special = read_artefact(tokenized, shared=True)["special_tokens"]
        return [settings["seq_len"] - special] * len(rows)
    answer = settings["answer_tokens"]
    used = load_tokenizer(tokenizer)
    prompt = Prompt.of(settings["prompt"], used, settings["seq_len"], answer, answer)
    starts = rows["document_start_tokens"]
    return [start + room for start, room in zip(starts, prompt.rooms(rows), strict=True)]


def _write_examples(path: Path, per_example: Mapping[str, Mapping[str, Any]]) -> None:
    with whole_file(path, newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", *next(iter(per_example.values()))])
        for id_, values in per_example.items():
            writer.writerow([id_, *map(_rounded, values.values())])
