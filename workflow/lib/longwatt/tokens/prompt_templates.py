"""Texts around a document, with a tokenizer's chat template or without."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

QUERY_PLACE, INPUT_PLACE = "{query}", "{input}"
PLACEHOLDERS = {"query", "input"}
_ANSWER = "{answer}"  # stands for one while a chat template is read
# Some chat templates state the date. A prompt must be the same on every day: this one is that of
# the templates themselves where they know none.
_ONE_DAY = {"%d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24"}
_DATE = "".join(f".replace('{field}', '{value}')" for field, value in _ONE_DAY.items())
_FIXED_DATE = "{%- macro strftime_now(format) -%}{{ format" + _DATE + " }}{%- endmacro -%}"


class PromptError(ValueError):
    """A prompt that cannot be made, or leaves a document no room."""


def answer_room(chosen: Mapping[str, Any]) -> int:
    """Return the tokens that a cell with prompts keeps for an answer.

    Args:
        chosen: settings of a training or of an inference.
    """
    targets = chosen.get("training", chosen)["max_target_tokens"]
    return max(int(targets), int(chosen["generation"]["max_new_tokens"]))


def placeholders(template: str) -> list[tuple[str, str]]:
    """List the words that stand in braces in a template, with their braces and without."""
    return re.findall(r"(\{\s*(\w+)\s*\})", template)


def without_query(template: str) -> str:
    """Leave out the query and the blank line behind it."""
    return re.sub(re.escape(QUERY_PLACE) + r"(\n\n)?", "", template)


def around_document(template: str, tokenizer: Any, chat: bool) -> tuple[str, str]:
    """Return the texts before and after the document, in one of which QUERY_PLACE may stand.

    Args:
        template: has INPUT_PLACE once.
        tokenizer: whose chat template is used.
        chat: whether it is.

    Raises:
        PromptError: there is no chat template, or it does not give the message back.
    """
    text = _rendered(tokenizer, [template]) if chat else template
    before, found, after = text.partition(INPUT_PLACE)
    kept = [text.count(part) == template.count(part) for part in (INPUT_PLACE, QUERY_PLACE)]
    if not found or not all(kept):
        raise PromptError(
            f"the chat template of the tokenizer in {_folder(tokenizer)} does not give back a "
            f"user's message as it is: {text[:200]!r}; leave out `chat` and write the whole prompt "
            "as the model's `prompt`"
        )
    return before, after


def after_answer(tokenizer: Any) -> str:
    """Return the text that a chat template puts after an assistant's message."""
    return _rendered(tokenizer, [INPUT_PLACE, _ANSWER]).partition(_ANSWER)[2]


def _rendered(tokenizer: Any, contents: Sequence[str]) -> str:
    """Render a user's message and perhaps an assistant's, with what begins an answer if not."""
    roles = ("user", "assistant")
    messages: list[Mapping[str, str]] = [
        {"role": role, "content": text} for role, text in zip(roles, contents, strict=False)
    ]
    if tokenizer.chat_template is None:
        raise PromptError(
            f"chat is true, but the tokenizer in {_folder(tokenizer)} has no chat template; save "
            "it with one (tokenizer.chat_template), or leave out `chat` and write the whole prompt "
            "as the model's `prompt`"
        )
    try:
        own = _FIXED_DATE + tokenizer.get_chat_template()
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=own,
                tokenize=False,
                add_generation_prompt=len(messages) == 1,
            )
        )
    except Exception as error:  # a template's own, or of the library that reads it
        raise PromptError(
            f"the chat template of the tokenizer in {_folder(tokenizer)} takes no user's message "
            f"and its answer ({type(error).__name__}: {error}); leave out `chat` and write the "
            "whole prompt as the model's `prompt`"
        ) from None


def _folder(tokenizer: Any) -> str:
    return str(tokenizer.name_or_path)
