"""Refuse prompts that no document or no question could stand in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt import models
from longwatt.config.documents import check_name
from longwatt.config.errors import StudyError
from longwatt.files import read_object
from longwatt.hub.checkpoints import TOKENIZER, TOKENIZER_SETTINGS, local_folder
from longwatt.tokens.prompt_templates import (
    INPUT_PLACE,
    PLACEHOLDERS,
    QUERY_PLACE,
    answer_room,
    placeholders,
)

CHAT_FILE = TOKENIZER_SETTINGS[-1]
PLACES_MEAN = (
    f"a document is {INPUT_PLACE} here and its question {QUERY_PLACE}, whatever the rows say"
)


def check_template(entry: Mapping[str, Any], where: str) -> None:
    """Refuse a template without a place for the document, or with unknown or repeated ones.

    Args:
        entry: of a dataset or a model.
        where: its place in the study.

    Raises:
        StudyError: names the key and what would do.
    """
    if "prompt" not in entry:
        return
    template, key = entry["prompt"], f"{where}.prompt"
    for written, name in placeholders(template):
        check_name("placeholder", name, PLACEHOLDERS, key, f"; {PLACES_MEAN}")
        if written != (meant := f"{{{name}}}"):
            raise StudyError(f"{key} has {written!r}, which is written {meant}")
    for part, meaning in ((INPUT_PLACE, "the document"), (QUERY_PLACE, "its query")):
        if (count := template.count(part)) > 1:
            raise StudyError(f"{key} has {part} {count} times; {meaning} can stand in one place")
    if INPUT_PLACE not in template:
        raise StudyError(f"{key} has no {INPUT_PLACE}; put it where the document is to stand")


def check_prompt(study: Mapping[str, Any], model: str, where: str) -> None:
    """Refuse a prompt for a model without one, and a chat without a template.

    Raises:
        StudyError: names the key and what would do.
    """
    entry = study["models"][model]
    check_template(entry, where)
    family = entry["family"]
    for key in ("prompt", "chat"):
        if key in entry and not models.load_family(family).prompted:
            raise StudyError(
                f"{where}.{key}: models of the family {family} have no prompts; families with "
                f"prompts: {', '.join(filter(_prompted, models.family_names())) or 'none'}"
            )
    name = entry["tokenizer"]
    if entry.get("chat") and (problem := _lacks_chat(study["tokenizers"][name])):
        raise StudyError(
            f"{where}.chat is true, but tokenizers.{name} has no chat template ({problem}); take "
            "the tokenizer of a model that is made for chats, or leave out `chat` and write the "
            "whole prompt as the model's `prompt`"
        )


def check_room(chosen: Mapping[str, Any]) -> str | None:
    """Find a length that has no room beside an answer, whatever the prompt.

    Args:
        chosen: settings of a training or of an inference with prompts.

    Returns:
        The lengths and what would do.
    """
    room, seq_len = answer_room(chosen), chosen["seq_len"]
    if seq_len > room:
        return None
    return (
        f"seq_len {seq_len} leaves no room for a document beside the {room} tokens "
        "kept for an answer (the larger of max_target_tokens and max_new_tokens); choose a larger "
        "seq_len or shorter answers"
    )


def _prompted(family: str) -> bool:
    return models.load_family(family).prompted


def _lacks_chat(tokenizer: Mapping[str, Any]) -> str | None:
    """Say why a tokenizer has no chat template, None where it may have one."""
    if tokenizer["kind"] != "checkpoint":
        return "it is trained on the dataset"
    folder = Path(local_folder(tokenizer) or "")
    if not (folder / TOKENIZER).is_file():  # not known yet: its first job tells
        return None
    settings = folder / TOKENIZER_SETTINGS[0]
    if (folder / CHAT_FILE).is_file() or read_object(settings).get("chat_template"):
        return None
    return f"there is no {folder / CHAT_FILE}, and no chat_template in {settings}"
