"""Tell the task, its metric and the lengths of texts from a user's rows."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longwatt import metric_words
from longwatt.canonical import text_of
from longwatt.first_study.fields import RowFields, RowValues, texts_of, turns_of, value_of
from longwatt.plan.data_sizes import TOKENS_PER_WORD
from longwatt.tasks import CLASSIFICATION, TEXT

MOST_LABELS = 50  # different values beyond which an output is text
LABEL_WORDS = 5  # most words of a label's name
ROWS_PER_LABEL = 3  # least, on the mean
ANSWER_WORDS = 12  # most words of a mean answer that is scored word by word
LETTERS_UNSEEN = 0.05  # share of letters that ROUGE misses above which another metric is taken
CHARACTERS_PER_TOKEN = 4  # of texts without spaces, at most: a Chinese character is about one
MANY_TEXTS = 200  # as many are tokenized to measure lengths
LONG_SHARE, COMMON_SHARE = 0.95, 0.5  # of inputs that the longest and a middle length hold whole
Count = Callable[[str], int]  # tokens of a text


@dataclass(frozen=True)
class Seen:
    """A user's data, as far as a study must know them.

    Attributes:
        task: TEXT or CLASSIFICATION.
        task_reason, metric, metric_reason: how outputs are scored, and why.
        labels: how many rows have each label, the commonest first; none of texts.
        several: rows with several references.
        input_tokens: of inputs, query included, from the shortest to the longest.
        output_tokens: likewise, of references.
        counted_by: the tokenizer that counted, or a sentence on the estimate.
        odd_outputs: whether outputs must be written anew as text to be read.
    """

    task: str
    task_reason: str
    metric: str
    metric_reason: str
    labels: dict[str, int]
    several: int
    input_tokens: list[int]
    output_tokens: list[int]
    counted_by: str
    odd_outputs: bool

    @property
    def longest(self) -> int:
        """Tokens within which nearly all inputs lie."""
        return at_share(self.input_tokens, LONG_SHARE)

    @property
    def longest_output(self) -> int:
        """Tokens of the longest reference."""
        return self.output_tokens[-1]


def at_share(sizes: Sequence[int], share: float) -> int:
    """Return the size within which so large a share of sorted sizes lies."""
    return sizes[min(len(sizes) - 1, math.ceil(share * len(sizes)) - 1)]


@dataclass(frozen=True)
class RowTexts:
    """One row as a model will see it."""

    query: str
    input: str
    references: tuple[str, ...]

    @property
    def document(self) -> str:
        """The text that must not be in two splits, its white space made even."""
        return " ".join(self.input.split())


def example_of(row: RowValues, fields: RowFields) -> RowTexts | None:
    """Return a row's texts, None if it lacks an input or an output."""
    if fields.chat:
        turns = turns_of(value_of(row, fields.chat))
        if turns is None:
            return None
        before = [turns.query] if turns.query and not fields.query else []
        return RowTexts(turns.query if fields.query else "", "\n\n".join([*before, turns.input]),
                       (turns.output,))  # fmt: skip
    query = texts_of(value_of(row, fields.query)) if fields.query else [""]
    text, references = texts_of(value_of(row, fields.input)), texts_of(value_of(row, fields.output))
    if not (query and text and references):
        return None
    return RowTexts(query[0], "\n\n".join(text), tuple(references))


def look_at_rows(
    rows: Sequence[RowValues],
    fields: RowFields,
    task: str | None,
    metric: str | None,
    count: Count | None,
) -> Seen | None:
    """Look at rows through their fields.

    Args:
        rows: the first of the training split.
        fields: what they hold.
        task, metric: as the user says; None where they are to be chosen.
        count: counts the tokens of a text by the model's tokenizer; None where none is at hand.

    Returns:
        None if no row has an input and an output.
    """
    examples = [found for row in rows if (found := example_of(row, fields))]
    if not examples:
        return None
    labels = _labels(rows, fields, examples)
    chosen, why = (task, "as --task says") if task else _task(labels, examples)
    score, reason = (metric, "as --metric says") if metric else _metric(chosen, labels, examples)
    some = examples[:: math.ceil(len(examples) / MANY_TEXTS)] if count else examples
    inputs = ["\n\n".join(filter(None, (one.query, one.input))) for one in some]
    outputs = [text for one in some for text in one.references]
    raw = [value_of(row, fields.output) for row in rows] if not fields.chat else []
    return Seen(
        task=chosen,
        task_reason=why,
        metric=score,
        metric_reason=reason,
        labels=labels if chosen == CLASSIFICATION else {},
        several=sum(len(one.references) > 1 for one in examples),
        input_tokens=sorted(map(count or estimated_tokens, inputs)),
        output_tokens=sorted(map(count or estimated_tokens, outputs)),
        counted_by=f"counted by the model's tokenizer in {len(some)} rows"
        if count
        else f"estimated: {TOKENS_PER_WORD} tokens a word",
        odd_outputs=any(not isinstance(v, str | list) for v in raw if v is not None),
    )


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of a text from its words, or its characters without spaces."""
    words, letters = float(len(text.split())), len(text)
    if letters > 20 * words:  # one character is a word, or there is no language in it
        words = max(words, letters / CHARACTERS_PER_TOKEN if text.isascii() else letters)
    return max(1, math.ceil(words * TOKENS_PER_WORD))


def _labels(
    rows: Sequence[RowValues], fields: RowFields, examples: Sequence[RowTexts]
) -> dict[str, int]:
    """Count the values of the output, none where rows have several."""
    if fields.chat or any(len(one.references) > 1 for one in examples):
        return {}
    values = (value_of(row, fields.output) for row in rows)
    spelt = (value if isinstance(value, str) else text_of(value) for value in values)
    return dict(Counter(text.strip() for text in spelt if text and text.strip()).most_common())


def _task(labels: dict[str, int], examples: Sequence[RowTexts]) -> tuple[str, str]:
    """Tell labels from texts by how often each value comes."""
    few = 2 <= len(labels) <= MOST_LABELS and len(examples) >= ROWS_PER_LABEL * len(labels)
    short = all(len(label.split()) <= LABEL_WORDS for label in labels)
    asked = len({one.query for one in examples}) > 1  # each row asks something of its own
    told = len({text for one in examples for text in one.references})
    if few and short and not asked:
        why = f"the output has only {len(labels)} different values in {len(examples)} rows"
        return CLASSIFICATION, why
    if asked and few and short:
        return TEXT, f"{told} different outputs, but every row asks its own question"
    return TEXT, f"{told} different outputs in {len(examples)} rows"


def _metric(task: str, labels: dict[str, int], examples: Sequence[RowTexts]) -> tuple[str, str]:
    """Choose how outputs are scored, by their length and their script."""
    if task == CLASSIFICATION:
        return _metric_of_labels(labels)
    references = [one.references for one in examples]
    flat = [text for texts in references for text in texts]
    words = statistics.fmean(len(text.split()) for text in flat)
    asks = any(one.query for one in examples)
    kind = "f1" if words <= ANSWER_WORDS else "rouge"
    told = f"references have {words:.1f} words on the mean"
    does = "words that answer and reference share" if kind == "f1" else "runs of shared words"
    unspaced = sum(map(metric_words.has_unspaced, flat)) > metric_words.MOST_UNSEEN * len(flat)
    lost = [metric_words.letters_unseen_by_rouge(text) for text in flat]
    share = sum(one for one, _ in lost) / max(1, sum(every for _, every in lost))
    foreign = not metric_words.mostly_sees(kind, references) or unspaced
    if foreign or (kind == "rouge" and share > LETTERS_UNSEEN):
        return f"{kind}_unicode", f"{told}, in a script that {kind} itself does not see whole"
    what = "answers to questions" if kind == "f1" and asks else "short" if kind == "f1" else "long"
    return kind, f"{told} ({what}), so it counts {does}"


def _metric_of_labels(labels: dict[str, int]) -> tuple[str, str]:
    counts = list(labels.values()) or [1]
    if max(counts) > 3 * min(counts):
        return "macro_f1", "some labels are rare, and each counts alike in it"
    return "accuracy", "labels are about equally common"
