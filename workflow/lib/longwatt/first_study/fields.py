"""Guess which fields of a user's rows are input, query, output and id."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longwatt.canonical import text_of
from longwatt.first_study.errors import FirstStudyError
from longwatt.spelling import nearest

RowValues = Mapping[str, Any]
NONE = "none"  # `--query none`: there is no query
# Names by which data sets call such fields, the surest first.
INPUT_NAMES = (
    "input", "inputs", "document", "context", "text", "article", "passage", "dialogue", "dialog",
    "transcript", "source", "content", "body", "paper", "report", "story", "review", "sentence",
    "premise", "paragraph", "message",
)  # fmt: skip
OUTPUT_NAMES = (
    "output", "outputs", "answers", "answer", "target", "targets", "summary", "highlights",
    "reference", "references", "completion", "response", "chosen", "label", "labels", "abstract",
    "class", "category", "sentiment", "intent", "topic", "stars", "rating", "gold", "tldr",
)  # fmt: skip
QUERY_NAMES = ("query", "question", "instruction", "prompt", "ask", "claim", "hypothesis")
ID_NAMES = ("id", "ids", "_id", "uid", "uuid", "guid", "key", "idx", "index", "example_id", "qid")
CHAT_NAMES = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue")
SHORT_WORDS = 60  # most words of a query, on the mean


@dataclass(frozen=True)
class RowFields:
    """The fields of a study's rows, by what they are, and why.

    Attributes:
        input, output: fields; a dot leads into an object (`answers.text`).
        query: field, None without one.
        id: field, None where rows are to be numbered.
        chat: field with the turns of a conversation, in place of all others.
        reasons: a sentence for each role that was guessed or given.
    """

    input: str
    output: str
    query: str | None = None
    id: str | None = None
    chat: str | None = None
    reasons: tuple[str, ...] = ()

    @property
    def nested(self) -> bool:
        """True if rows must be written anew to be read by a study."""
        named = (self.input, self.output, self.query, self.id)
        return self.chat is not None or any("." in name for name in named if name)


@dataclass(frozen=True)
class Asked:
    """The fields as a user names them, None where they are to be guessed."""

    input: str | None = None
    output: str | None = None
    query: str | None = None


def value_of(row: RowValues, field: str) -> Any:
    """Return the value of a field, None if there is none."""
    if field in row:
        return row[field]
    first, _, rest = field.partition(".")
    inside = row.get(first)
    return value_of(inside, rest) if rest and isinstance(inside, Mapping) else None


def texts_of(value: Any) -> list[str]:
    """Return the texts in a value, be it a list or a number."""
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts_of(item)]
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [text] if value is not None and (text := text_of(value)) else []


@dataclass(frozen=True)
class _Seen:
    """The content of one field in the first rows."""

    name: str
    share: float  # of rows with any text
    words: float  # of a mean text
    texts: bool  # text or lists of text, no numbers
    different: int
    asks: bool  # most texts end in a question mark


def guess_fields(rows: Sequence[RowValues], asked: Asked) -> RowFields:
    """Find the fields by their names, then by what they hold.

    Args:
        rows: the first of the training split.
        asked: what the user named.

    Raises:
        FirstStudyError: a named field is not there, or there is none to be taken.
    """
    names = list(dict.fromkeys(name for row in rows for name in _names(row)))
    for role in ("input", "output", "query"):
        _check_there(role, getattr(asked, role), names)
    chat = _chat_field(rows)
    if chat and not (asked.input or asked.output):
        return RowFields("input", "output", "query" if _instructs(rows, chat) else None, chat=chat,
                      reasons=(f"{chat} holds turns of a conversation: the last of the assistant "
                               "is the output, what comes before it the input",))  # fmt: skip
    seen = {name: _look(rows, name) for name in names}
    return _Guess(seen, asked).fields()


def _check_there(role: str, given: str | None, names: Sequence[str]) -> None:
    if given is None or given in names or (role == "query" and given == NONE):
        return
    none = f" (or {NONE})" if role == "query" else ""
    raise FirstStudyError(
        f"--{role} {given}: no row has this field{nearest(given, names)}; the rows have "
        f"{', '.join(names) or 'none'}{none}"
    )


def _names(row: RowValues, before: str = "") -> Iterator[str]:
    """Yield the names of a row's fields, those of objects with a dot."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{before}{name}.")
        else:
            yield before + name


def _look(rows: Sequence[RowValues], name: str) -> _Seen:
    values = [value_of(row, name) for row in rows]
    found = [texts for value in values if (texts := texts_of(value))]
    flat = [text for texts in found for text in texts]
    plain = (isinstance(value, str | list | tuple) for value in values if value is not None)
    return _Seen(
        name=name,
        share=len(found) / max(1, len(rows)),
        words=statistics.fmean(len(text.split()) for text in flat) if flat else 0.0,
        texts=all(plain),
        different=len(set(flat)),
        asks=sum(text.rstrip().endswith("?") for text in flat) > len(flat) / 2,
    )


def _last_word(name: str) -> list[str]:
    """Split a name into its lower-case words: `articleText` has two."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2])
    return [word for word in re.split(r"[\W_]+", apart.lower()) if word]


class _Guess:
    """Roles of fields, each field with one at most."""

    def __init__(self, seen: Mapping[str, _Seen], asked: Asked) -> None:
        self._seen, self._asked = seen, asked
        self._taken = {name for name in (asked.input, asked.output, asked.query) if name}
        self._reasons: list[str] = []

    def fields(self) -> RowFields:
        """Return all roles, the surest found first."""
        id_ = self._id()
        output = self._asked.output or self._named("output", OUTPUT_NAMES)
        query = self._query()
        found_input = self._asked.input or self._named("input", INPUT_NAMES, texts=True)
        found_input = found_input or self._longest()
        if query is None and found_input is None:
            raise self._nothing("input", "text to read")
        output = output or self._shortest()
        if output is None:
            raise self._nothing("output", "answer, summary or label")
        if found_input is None:  # a question alone is all there is to read
            found_input, query = query or "", None
            self._reasons = [why for why in self._reasons if not why.startswith("query:")]
            self._reasons.append(f"input: {found_input} is all that there is to read")
        return RowFields(found_input, output, query, id_, reasons=tuple(self._reasons))

    def _id(self) -> str | None:
        """Find a field that numbers all rows, by its name."""
        for name, seen in self._seen.items():
            if name.lower() in ID_NAMES and seen.share == 1 and name not in self._taken:
                self._taken.add(name)
                return name
        return None

    def _query(self) -> str | None:
        if self._asked.query is not None:
            return None if self._asked.query == NONE else self._asked.query
        found = self._named("query", QUERY_NAMES, texts=True)
        if found is None:
            asking = [one for one in self._free() if one.asks and 0 < one.words <= SHORT_WORDS]
            if not asking or len(self._free()) < 2:
                return None
            found = self._take("query", asking[0], "its texts are questions")
        return found

    def _free(self) -> list[_Seen]:
        return [one for name, one in self._seen.items() if name not in self._taken and one.share]

    def _named(self, role: str, names: Sequence[str], texts: bool = False) -> str | None:
        """Take the field whose whole name, or whose last word, is a known one."""
        free = [one for one in self._free() if one.share > 0.5 and (one.texts or not texts)]
        for whole in (True, False):
            for known in names:
                for one in free:
                    words = _last_word(one.name)
                    # The object around it names a nested field: of answers.text it is `answers`.
                    path = [word for part in one.name.split(".") for word in _last_word(part)]
                    spelt = "_".join(words) if "." not in one.name else path[0]
                    if (spelt == known) if whole else (known in words):
                        return self._take(role, one, "by its name")
        return None

    def _take(self, role: str, one: _Seen, why: str) -> str:
        self._taken.add(one.name)
        self._reasons.append(f"{role}: {one.name}, {why}")
        return one.name

    def _longest(self) -> str | None:
        free = [one for one in self._free() if one.texts]
        best = max(free, key=lambda one: one.words, default=None)
        return self._take("input", best, "the longest texts") if best else None

    def _shortest(self) -> str | None:
        free = [one for one in self._free() if one.share > 0.5]
        best = min(free, key=lambda one: (one.different, one.words), default=None)
        why = "the field that is left" if len(free) == 1 else "the fewest different texts"
        return self._take("output", best, why) if best else None

    def _nothing(self, role: str, what: str) -> FirstStudyError:
        there = ", ".join(self._seen) or "none"
        return FirstStudyError(
            f"no field of the rows looks like the {role} ({what}); name it: --{role} FIELD. The "
            f"rows have {there}"
        )


# Conversations


@dataclass(frozen=True)
class Turns:
    """One conversation, up to its last answer."""

    query: str
    input: str
    output: str


def turns_of(value: Any) -> Turns | None:
    """Split a conversation: its instructions, what comes before the last answer, and that."""
    turns = [_turn(one) for one in value] if isinstance(value, list) else []
    if not turns or None in turns:
        return None
    spoken = [one for one in turns if one is not None]
    last = max((n for n, (who, _) in enumerate(spoken) if who == "assistant"), default=0)
    if not last or not spoken[last][1].strip():
        return None
    instructions = "\n\n".join(text for who, text in spoken[:last] if who == "system")
    before = [(who, text) for who, text in spoken[:last] if who != "system"]
    told = "\n\n".join(text if len(before) == 1 else f"{who}: {text}" for who, text in before)
    return Turns(instructions, told, spoken[last][1]) if told.strip() else None


_SPEAKERS = {"gpt": "assistant", "human": "user", "bot": "assistant", "model": "assistant"}


def _turn(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    who, text = value.get("role", value.get("from")), value.get("content", value.get("value"))
    if not isinstance(who, str) or not isinstance(text, str):
        return None
    return _SPEAKERS.get(who.lower(), who.lower()), text


def _chat_field(rows: Sequence[RowValues]) -> str | None:
    for name in dict.fromkeys(name for row in rows for name in row):
        found = [turns_of(row.get(name)) for row in rows[:20]]
        if found and sum(one is not None for one in found) > len(found) / 2:
            return name
    return None


def _instructs(rows: Sequence[RowValues], chat: str) -> bool:
    """Check whether all conversations begin with instructions."""
    found = [turns_of(row.get(chat)) for row in rows]
    return all(one is None or bool(one.query.strip()) for one in found)
