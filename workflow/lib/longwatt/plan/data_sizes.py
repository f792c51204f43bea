"""Sizes of datasets and lengths of their texts, known before they are here.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from longwatt.tokens.references import EACH

# English text in a subword vocabulary; a generated answer is as long as a mean reference.
TOKENS_PER_WORD = 1.4


@dataclass(frozen=True)
class Data:
    """Rows and lengths of a dataset.

    Attributes:
        rows: references by split; training uses an input once for each of its references.
        words_in, words_out: of a mean input and a mean reference.
        examples: inputs by split, each with one or more references; None if only rows are known.
    """

    rows: Mapping[str, int]
    words_in: float
    words_out: float
    examples: Mapping[str, int] | None = None

    def inputs(self, split: str) -> int:
        """Count the inputs of a split, or its rows where only these are known."""
        return (self.rows if self.examples is None else self.examples).get(split, 0)

    def predictions(self, split: str, most: int | None, references: str) -> int:
        """Count the predictions of a split.

        Args:
            split: which.
            most: inputs that are used at most; None for all.
            references: "best" predicts every input once, "each" once for each of its references.
        """
        there = self.inputs(split)
        used = there if most is None else min(there, most)
        if references == EACH and there:
            return math.ceil(self.rows.get(split, 0) * used / there)
        return used


# Where nothing is known of a dataset: middling among those of SCROLLS.
UNKNOWN_DATA = Data({"train": 3000, "validation": 500, "test": 500}, 6000.0, 100.0)
# Facts of arXiv 2204.07288 on SCROLLS, which counts rows; used until the dataset itself is here.
SCROLLS_DATA = {
    "gov_report": Data({"train": 17457, "validation": 972, "test": 973}, 7897.0, 492.7),
    "summ_screen_fd": Data({"train": 3673, "validation": 338, "test": 337}, 5639.0, 100.0),
    "qmsum": Data({"train": 1257, "validation": 272, "test": 281}, 10396.0, 69.7),
    "qasper": Data({"train": 2567, "validation": 1726, "test": 1399}, 3671.0, 11.5),
}
# Of sentences and pairs with a label: middling among those below.
UNKNOWN_LABELLED = Data({"train": 25000, "validation": 1000, "test": 2000}, 30.0, 1.0)
# Rows as published, by the end of a repository's name; words are means over subsets of some
# thousand rows each.
LABELLED_DATA = {
    "ag_news": Data({"train": 120000, "test": 7600}, 31.5, 1.0),
    "imdb": Data({"train": 25000, "test": 25000}, 230.0, 1.0),
    # Two classes of the treebank's sentences.
    "sst": Data({"train": 6920, "validation": 872, "test": 1821}, 18.5, 1.0),
    "sst2": Data({"train": 67349, "validation": 872, "test": 1821}, 18.5, 1.0),
    "snli": Data({"train": 549367, "validation": 9842, "test": 9824}, 20.3, 1.0),
    "multi_nli": Data({"train": 392702, "validation": 9815, "test": 9832}, 29.2, 1.0),
}
# Words of a question and of an answer, counted in SQuAD's dev set.
SQUAD_QUERY, SQUAD_ANSWER = 10.0, 3.2
# Counted in the package.
ACLSUM_SENTENCES = Data({"train": 3868, "validation": 1978, "test": 3766}, 26.1, 1.0)


def data_of(
    source: str, options: Mapping[str, Any], facts: Mapping[str, Any], labelled: bool = False
) -> Data:
    """Return the sizes and lengths that are known of a dataset.

    Args:
        source: its `source` in the study.
        options: its `options` there.
        facts: its dataset.json; empty while it is not here.
        labelled: whether its task is classification.
    """
    if facts.get("splits"):
        splits: Mapping[str, Mapping[str, Any]] = facts["splits"]
        first = splits.get("train") or next(iter(splits.values()))
        rows, examples = (
            {n: int(split.get(key, 0)) for n, split in splits.items()}
            for key in ("rows", "examples")
        )
        words_in, words_out = float(first["words_in_mean"]), float(first["words_out_mean"])
        return Data(rows, words_in, words_out, examples)
    if source in ("needle", "squad_articles"):
        rows = {split: int(options[split]) for split in ("train", "validation", "test")}
        if source == "squad_articles":  # training questions have one reference each
            words_in = options["words_per_document"] + SQUAD_QUERY
            return Data(rows, words_in, SQUAD_ANSWER, rows)
        words_in, words_out = options["words_per_document"], options.get("answer_words", 2)
        return Data(rows, float(words_in), float(words_out), rows)
    if source == "aclsum_sentences":
        return ACLSUM_SENTENCES
    if labelled:
        known = LABELLED_DATA.get(repository_name(options), UNKNOWN_LABELLED)
        return _held_out(known, options.get("held_out"))
    return SCROLLS_DATA.get(str(options.get("task")), UNKNOWN_DATA)


def repository_name(options: Mapping[str, Any]) -> str:
    """Return the last part of a dataset's hub repository, empty without one."""
    return str(options.get("repository") or "").rpartition("/")[2].lower()


def _held_out(data: Data, held_out: Mapping[str, Any] | None) -> Data:
    """Move the rows that are held out of one split for another."""
    if held_out is None:
        return data
    count, source = int(held_out["examples"]), str(held_out["from"])
    left = max(0, data.rows.get(source, 0) - count)
    return replace(data, rows={**data.rows, source: left, str(held_out["split"]): count})
