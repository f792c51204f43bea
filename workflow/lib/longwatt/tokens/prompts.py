"""Prompts of causal models, with the document between instructions and an answer behind.

The document is all that is cut. Its ids are stored ones, and the texts around it are tokenized as
they stand in the whole text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from longwatt.tokens.prompt_templates import (
    QUERY_PLACE,
    PromptError,
    after_answer,
    around_document,
    without_query,
)
from longwatt.tokens.special_tokens import Ids, SpecialTokens, Tokenizer
from longwatt.tokens.stored_rows import StoredRows

REMEMBERED_QUERIES = 4096  # whose ids are kept; an epoch meets each again only once
# Some tokenizers put a space before a text. Each of these is tried before one to see what its ids
# are without. Its own must stay whole, or it has merged with the text.
ANCHORS = ("a", ".", "\n", "1")
Around = tuple[list[int], list[int]]  # ids before the document, and after it


@dataclass(eq=False)
class Prompt:
    """How a cell's documents become prompts, and its references answers.

    Attributes:
        tokenizer: made the stored ids.
        texts: before and after the document, by whether there is a query.
        special: the tokenizer's own tokens before a text; none where a chat template has them.
        end: ids of the end of an answer.
        seq_len: most tokens of prompt and answer together.
        max_target_tokens: most tokens of an answer to train on, its end included.
        answer_tokens: the room that is kept for an answer.
    """

    tokenizer: Tokenizer
    texts: Mapping[bool, tuple[str, str]]
    special: tuple[int, ...]
    end: tuple[int, ...]
    seq_len: int
    max_target_tokens: int
    answer_tokens: int
    # The answer follows its input in one sequence.
    joined: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.around = lru_cache(REMEMBERED_QUERIES)(self._around)

    @classmethod
    def of(
        cls,
        chosen: Mapping[str, Any],
        tokenizer: Tokenizer,
        seq_len: int,
        max_target_tokens: int,
        answer_tokens: int,
    ) -> Prompt:
        """Make the prompts of a cell.

        Args:
            chosen: `template` and `chat`, as `longwatt.study.model_settings.prompt_part` has them.

        Raises:
            PromptError: the tokenizer has no chat template where it is asked for, or no end token.
        """
        template, chat = chosen["template"], chosen["chat"]
        texts = {
            True: around_document(template, tokenizer, chat),
            False: around_document(without_query(template), tokenizer, chat),
        }
        special = () if chat else SpecialTokens.of(tokenizer).prefix
        end = (_end_of_answer(tokenizer, chat),)
        return cls(tokenizer, texts, special, end, seq_len, max_target_tokens, answer_tokens)

    @property
    def stops(self) -> list[int]:
        """Ids that end a generated answer."""
        return list(dict.fromkeys((*self.end, *_ids_of(self.tokenizer.eos_token_id))))

    def unasked(self, rows: StoredRows) -> int:
        """Count the rows whose query the template has no place for."""
        asks = any(QUERY_PLACE in part for part in self.texts[True])
        return 0 if asks else sum(map(bool, rows["query"]))

    def sizes(self, rows: StoredRows) -> list[int]:
        """Return the number of tokens of every row's prompt, cut to its length.

        Raises:
            PromptError: some row has no room for a token of its document, or no token at all.
        """
        around = self._counted(rows)
        starts = rows["document_start_tokens"]
        documents = [n - start for n, start in zip(rows["input_tokens"], starts, strict=True)]
        every = zip(around, documents, self._rooms(rows, around), strict=True)
        found = [before + after + min(tokens, room) for (before, after), tokens, room in every]
        if 0 in found:
            raise PromptError(
                f"the prompt of id {rows.value('id', found.index(0))!r} has no token, from which "
                "no answer can follow: its document is empty, and the prompt has nothing else; "
                "leave the example out, or write words around {input}"
            )
        return found

    def rooms(self, rows: StoredRows) -> list[int]:
        """Return the most tokens that every row's document may have.

        Raises:
            PromptError: it is none, for some row.
        """
        return self._rooms(rows, self._counted(rows))

    def input(self, rows: StoredRows, row: int) -> tuple[list[int], None]:
        """Return the ids of a row's prompt, which has no second text."""
        before, after = self.around(rows.value("query", row))
        start = rows.value("document_start_tokens", row)
        most = start + self._room(len(before) + len(after))
        return [*before, *rows.ids("input_ids", row, most)[start:], *after], None

    def target(self, ids: Ids) -> list[int]:
        """Return the ids of an answer, cut to its length, with their end."""
        return [*list(ids)[: self.max_target_tokens - len(self.end)], *self.end]

    def target_size(self, tokens: int) -> int:
        """Return the number of ids of an answer of so many tokens."""
        return min(self.max_target_tokens, tokens + len(self.end))

    def _room(self, around: int) -> int:
        return self.seq_len - around - self.answer_tokens

    def _rooms(self, rows: StoredRows, around: Sequence[tuple[int, int]]) -> list[int]:
        rooms = [self._room(before + after) for before, after in around]
        if (short := sum(room < 1 for room in rooms)) > 0:
            self._refuse(rows, around, rooms.index(min(rooms)), short)
        return rooms

    def _around(self, query: str) -> Around:
        return self._tokenized([query])[0]

    def _counted(self, rows: StoredRows) -> list[tuple[int, int]]:
        """Count the tokens before and after every row's document."""
        queries = rows["query"]
        different = list(dict.fromkeys(queries))
        found = zip(different, self._tokenized(different), strict=True)
        counts = {query: (len(before), len(after)) for query, (before, after) in found}
        return [counts[query] for query in queries]

    def _tokenized(self, queries: Sequence[str]) -> list[Around]:
        """Return the ids before and after the document for several queries."""
        texts = [
            tuple(part.replace(QUERY_PLACE, query) for part in self.texts[bool(query)])
            for query in queries
        ]
        befores = _encoded(self.tokenizer, [before for before, _ in texts])
        afters = _inner(self.tokenizer, [after for _, after in texts])
        return list(zip(map(self._begun, befores), afters, strict=True))

    def _begun(self, ids: list[int]) -> list[int]:
        """Put the special tokens before a text, unless the template begins with them itself."""
        count = len(self.special)
        return ids if tuple(ids[:count]) == self.special else [*self.special, *ids]

    def _refuse(
        self, rows: StoredRows, around: Sequence[tuple[int, int]], row: int, short: int
    ) -> None:
        before, after = around[row]
        raise PromptError(
            f"seq_len {self.seq_len} leaves no room for the document of {short} of {len(rows)} "
            f"examples: at id {rows.value('id', row)!r}, whose query is the longest, the prompt "
            f"has {before} tokens before the document and {after} after it, and "
            f"{self.answer_tokens} are kept for the answer (the larger of max_target_tokens and "
            "max_new_tokens); choose a larger seq_len, a shorter prompt or shorter answers"
        )


def padding_of(tokenizer: Tokenizer) -> int:
    """Return a token to pad with, whichever it is where masks decide what counts."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in candidates if token is not None))


def _ids_of(token: int | None) -> list[int]:
    return [] if token is None else [token]


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return found


def _inner(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize texts as they are in the middle of another."""
    anchors = [(anchor, _encoded(tokenizer, [anchor])[0]) for anchor in ANCHORS]
    different = list(dict.fromkeys(texts))  # often one alone
    plain = _encoded(tokenizer, different)
    behind = [_encoded(tokenizer, [anchor + text for text in different]) for anchor, _ in anchors]
    found = {
        text: _own_part(ids, [(own, row[n]) for (_, own), row in zip(anchors, behind, strict=True)])
        for n, (text, ids) in enumerate(zip(different, plain, strict=True))
    }
    return [found[text] for text in texts]


def _own_part(plain: list[int], behind: Sequence[tuple[list[int], list[int]]]) -> list[int]:
    """Choose the ids of a text that stands in the middle of another.

    Args:
        plain: its ids where it stands alone.
        behind: the ids of anchors, and those of each anchor with the text behind it.
    """
    rest = [both[len(own) :] for own, both in behind if both[: len(own)] == own]
    return plain if plain in rest or not rest else rest[0]


def _end_of_answer(tokenizer: Tokenizer, chat: bool) -> int:
    """Return the token that ends an answer, in a chat the end of a turn."""
    known = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    text = after_answer(tokenizer) if chat else ""
    behind = [token for token in _encoded(tokenizer, [text])[0] if token in known]
    for token in (*behind, *_ids_of(tokenizer.eos_token_id)):
        return int(token)
    raise PromptError(
        f"the tokenizer in {tokenizer.name_or_path} has no end token, so that no answer would "
        "ever end; set eos_token and save it again"
    )
