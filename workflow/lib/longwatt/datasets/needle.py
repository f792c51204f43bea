"""Needle: a generated question-answering set that checks the instrument.

The answer stands at a uniformly random place in a document of known length. The best expected F1 at
each input length is therefore known: that of the words that a cut leaves visible, plus a guess at
the hidden words among all that these may be.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from longwatt.datasets.records import SPLITS, Record, SourceData, object_of

QUERY = "What is the secret code?"
MARKER_WORDS = ("the", "secret", "code", "is")
_COUNT = {"type": "integer", "minimum": 1}

OPTIONS_SCHEMA = object_of(
    ["words_per_document", *SPLITS],
    words_per_document={"type": "integer", "minimum": 16},
    **dict.fromkeys(SPLITS, _COUNT),
    answer_words={"type": "integer", "minimum": 1, "maximum": 8},
    answer_vocabulary={"type": "integer", "minimum": 2, "maximum": 400},
    filler_vocabulary={"type": "integer", "minimum": 2, "maximum": 2000},
    seed={"type": "integer", "minimum": 0},
)


def read(options: Mapping[str, Any]) -> SourceData:
    """Generate records: a query, a blank line, and filler text with a needle to answer.

    Args:
        options: words_per_document and examples per split; answer_words (2), answer_vocabulary (32
            per position), filler_vocabulary (200), seed (0).
    """
    count, size = options.get("answer_words", 2), options.get("answer_vocabulary", 32)
    source = random.Random(options.get("seed", 0))
    words = _words(source, count * size + options.get("filler_vocabulary", 200))
    # A vocabulary per position: a word that is right can only stand in its own place.
    answers = [words[i * size : (i + 1) * size] for i in range(count)]
    filler = words[count * size :]
    length = options["words_per_document"]
    splits = {}
    for split in SPLITS:
        ids = [f"{split}-{n}" for n in range(options[split])]
        splits[split] = [_record(source, id_, length, answers, filler) for id_ in ids]
    return SourceData(
        splits=splits,
        licence="generated, none needed",
        origin="longwatt.datasets.needle",
        chance_per_hidden_word=1 / size,
    )


def _words(source: random.Random, count: int) -> list[str]:
    """Draw distinct pronounceable words of two syllables and a final letter."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    all_words = [a + b + end for a in syllables for b in syllables for end in "nrst"]
    return source.sample([word for word in all_words if word not in MARKER_WORDS], count)


def _record(
    source: random.Random, id_: str, length: int, answers: list[list[str]], filler: list[str]
) -> Record:
    answer = [source.choice(vocabulary) for vocabulary in answers]
    needle = [*MARKER_WORDS, *answer, "."]
    rest = source.choices(filler, k=length - len(needle))
    place = source.randint(0, len(rest))
    head = " ".join([*rest[:place], *MARKER_WORDS])
    text = " ".join([head, *answer, ".", *rest[place:]])
    ends, position = [], len(QUERY) + 2 + len(head)
    for word in answer:
        position += 1 + len(word)
        ends.append(position)
    return Record(id_, f"{QUERY}\n\n{text}", (" ".join(answer),), tuple(ends), len(QUERY) + 2)
