"""The words that each metric compares, and the texts in which it finds none.

They stand apart from the metrics since data are checked with them: a change in how a metric counts
is no reason to read the data anew.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

RAW, NORMALIZED = "raw", "normalized"
# Share of examples whose references a metric may miss: published data have some, whose scores must
# stay comparable.
MOST_UNSEEN = 0.01
# Scripts that are written without spaces between words: each of their characters is a word.
UNSPACED = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
_ALONE = "".join(rf"\p{{scx={script}}}" for script in UNSPACED)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ROUGE = re.compile("[a-z0-9]")  # the characters of rouge-score's tokens
_ROUGE_PAIR = re.compile("[a-z0-9][^a-z0-9]+[a-z0-9]")
_PLAIN_PAIR = re.compile(r"[A-Za-z0-9]\s+[A-Za-z0-9]")
_PLAIN = re.compile("[a-z0-9]{4}")  # longer than any article, and no punctuation
# Soft hyphens, marks of writing direction and the like: they part no words, and nobody sees them.
_INVISIBLE = dict.fromkeys(
    (0xAD, 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
)
_NO_WORD = re.compile(r"[\W_]+")


def normalize_answer(text: str) -> str:
    """Normalise as SQuAD does: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def unicode_words(text: str) -> list[str]:
    """Return words of any script, without case and compatibility forms.

    A word is a run of letters, marks and digits. A character of a script in UNSPACED and a symbol
    (an emoji) are words of their own. Joiners inside a word belong to it, punctuation to none.
    """
    found: list[str] = _unicode_word().findall(_folded(text))
    return found


def has_unspaced(text: str) -> bool:
    """Return whether any character is of a script that is written without spaces."""
    return not text.isascii() and _unspaced().search(text) is not None


def letters_unseen_by_rouge(text: str) -> tuple[int, int]:
    """Count the letters and digits of a text that `rouge` skips, and all of them."""
    letters = _NO_WORD.sub("", text.lower())
    return (0 if letters.isascii() else len(_ROUGE.sub("", letters))), len(letters)


def has_plain_word(text: str) -> bool:
    """Check quickly whether a text has a word that every metric sees, as most have."""
    return _PLAIN.search(text.lower()) is not None


def sees(metric: str, text: str, compared: str = RAW) -> bool:
    """Return whether a metric finds any word in a text.

    The text counts raw, or normalized as SQuAD does.
    """
    return _SEES[metric](normalize_answer(text) if compared == NORMALIZED else text)


def metrics_that_see(text: str, compared: str = RAW) -> list[str]:
    """List the metrics of texts that find a word in this one."""
    return [metric for metric in _SEES if sees(metric, text, compared)]


def has_a_pair(metric: str, text: str, compared: str = RAW) -> bool:
    """Return whether a metric of METRICS_OF_PAIRS (ROUGE-2) finds a pair of words in a text."""
    if compared == NORMALIZED:
        text = normalize_answer(text)
    if metric == "rouge_unicode":
        return _PLAIN_PAIR.search(text) is not None or len(unicode_words(text)) > 1
    return _ROUGE_PAIR.search(text.lower()) is not None


def mostly_sees(metric: str, references: Collection[Sequence[str]], compared: str = RAW) -> bool:
    """Return whether a metric sees a reference of all but MOST_UNSEEN of the examples."""
    unseen = sum(not any(sees(metric, text, compared) for text in texts) for texts in references)
    return unseen <= MOST_UNSEEN * len(references)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().translate(_INVISIBLE)


@cache
def _unspaced() -> Any:
    import regex  # slow to load, and only needed where texts are read

    return regex.compile(rf"[{_ALONE}&&\p{{L}}]", regex.V1)


@cache
def _unicode_word() -> Any:
    import regex

    inside = rf"[\p{{L}}\p{{M}}\p{{N}}--[{_ALONE}]]"
    one = rf"[[{_ALONE}]&&[\p{{L}}\p{{N}}]]\p{{M}}*"
    joiners = "[\u200c\u200d]*"  # in Persian and Indian scripts
    several = rf"{inside}(?:{joiners}[{inside}\p{{M}}])*"
    return regex.compile(rf"{one}|{several}|\p{{M}}+|\p{{S}}\p{{M}}*", regex.V1)


# As the metrics themselves split texts.
_SEES: Mapping[str, Callable[[str], bool]] = {
    "rouge": lambda text: _ROUGE.search(text.lower()) is not None,
    "f1": lambda text: bool(normalize_answer(text)),
    "exact_match": lambda text: bool(normalize_answer(text)),
    "accuracy": lambda text: bool(text.strip()),
    "rouge_unicode": lambda text: bool(_unicode_word().search(_folded(text))),
    "f1_unicode": lambda text: bool(_unicode_word().search(_folded(text))),
}
METRICS_OF_TEXTS = tuple(_SEES)
METRICS_OF_PAIRS = ("rouge", "rouge_unicode")  # a mean of 0 over word pairs makes their headline 0
