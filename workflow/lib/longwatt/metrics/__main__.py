"""Score a file of predictions against references, as SCROLLS does, and print JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from longwatt import command_line, metrics
from longwatt.datasets import visibility
from longwatt.datasets.reading.opening import open_data, refuse_foreign
from longwatt.datasets.reading.rows import read_rows
from longwatt.datasets.records import DatasetError
from longwatt.metrics import ScoringError, classification


def read_scored_predictions(path: Path) -> dict[str, str]:
    """Read predictions by id from one JSON object.

    Raises:
        ScoringError: the file is no such object. Names it and what is wrong.
        DatasetError: the file cannot be read, or is not text.
    """
    with open_data(path, str(path)) as stream:
        refuse_foreign(stream, str(path))
        content = stream.read()
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once_each)
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 ({error.reason} at byte {error.start + 1})"
        raise ScoringError(f"{path} {problem}") from None
    except (ValueError, RecursionError) as error:
        raise ScoringError(f"{path} is not JSON that can be used ({error})") from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise ScoringError(f"{path} must hold one JSON object, id: text, but holds a {kind}")
    for id_, text in value.items():
        if not isinstance(text, str):
            raise ScoringError(f"{path}: the prediction of {id_!r} must be text")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for id_, count in Counter(id_ for id_, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{id_!r} is there twice")
    return dict(pairs)


def read_references(path: Path) -> dict[str, list[str]]:
    """Read references by id from JSON lines with `id` and `output`.

    Lines that share an id are one example.

    Raises:
        DatasetError: a line cannot be used. Names file and line.
    """
    references: dict[str, list[str]] = {}
    with open_data(path, str(path)) as stream:
        refuse_foreign(stream, str(path))
        for row in read_rows(stream, str(path)):
            references.setdefault(row.id("id"), []).extend(row.texts("output"))
    return references


def evaluate(task: str, predictions: Path, references: Path) -> dict[str, Any]:
    """Return the corpus scores of one metric, rounded to four decimals."""
    given, expected = read_scored_predictions(predictions), read_references(references)
    if task == classification.MACRO_F1:
        score = classification.headline_score(task, given, _only_labels(expected, references))
        return {"task": task, "examples": len(expected), task: round(score, 4)}
    metrics.check_ids(given, expected)
    unseen = _unseen(task, expected, references)
    per_example = metrics.score_examples(given, expected, (task,))
    scores = {name: round(score, 4) for name, score in metrics.corpus_scores(per_example).items()}
    return {"task": task, "examples": len(per_example), **unseen, **scores}


def _unseen(task: str, expected: Mapping[str, Sequence[str]], path: Path) -> dict[str, Any]:
    """Return notes on references that the metric does not see, if there are any."""
    split = {path.name: visibility.count_unseen(expected.items())}
    scoring = [visibility.Scoring(str(path), task, splits=(path.name,))]
    try:
        visibility.refuse_unseen(split, scoring)
    except visibility.UnseenReferences as error:
        raise ScoringError(str(error)) from None
    found = visibility.visibility_notes(split, scoring)
    return {"notes": found} if found else {}


def _only_labels(references: Mapping[str, Sequence[str]], path: Path) -> dict[str, str]:
    for id_, texts in references.items():
        if len(texts) != 1:
            problem = f"macro_f1 wants one label for each id, but {id_!r} has several"
            raise ScoringError(f"{path}: {problem}")
    return {id_: texts[0] for id_, texts in references.items()}


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(prog="longwatt metrics", description=__doc__)
    add = partial(made.add_argument, required=True)
    add("--task", choices=sorted(metrics.METRICS), help="which metric")
    add("--predictions", type=Path, metavar="P.json", help="one object, id: text")
    references = "SCROLLS rows: a line per id and output"
    add("--references", type=Path, metavar="R.jsonl", help=references)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = parser().parse_args(arguments)
    try:
        scores = evaluate(given.task, given.predictions, given.references)
    except (ScoringError, DatasetError, OSError) as error:
        print(f"longwatt.metrics: {error}", file=sys.stderr)
        return 1
    print(json.dumps(scores, indent=1))
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
