"""Refuse lengths of targets and answers that leave no room, or contradict each other.

This is checked when the study is read: a training whose targets are special tokens alone would run
to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from longwatt.files import read_object
from longwatt.hub.checkpoints import TOKENIZER, local_folder

# A target this long has room for words whatever a tokenizer adds, so its file need not be read.
SURELY_ENOUGH = 8
AROUND = {"BertProcessing": (1, 1), "RobertaProcessing": (1, 1)}


def check_lengths(
    max_target_tokens: int,
    generations: Mapping[str, Mapping[str, Any]],
    tokenizer: Mapping[str, Any],
    prompted: bool = False,
) -> str | None:
    """Find an impossible length among a cell's targets and answers.

    Args:
        max_target_tokens: setting of training.
        generations: settings in force, by the study's key for them.
        tokenizer: the study's entry.
        prompted: whether the model writes answers behind prompts, with their end alone around them.

    Returns:
        The key, its value, why it cannot be and what would do.
    """
    lengths = [max_target_tokens, *(one["max_new_tokens"] for one in generations.values())]
    found = (0, 1) if prompted else special_tokens(tokenizer)
    before, after = found if min(lengths) < SURELY_ENOUGH else (0, 0)
    around = before + after
    if max_target_tokens <= around:
        return (
            f"training.max_target_tokens is {max_target_tokens}, but the tokenizer puts {around} "
            f"special tokens around a text, so that no word of a target is left; choose "
            f"{around + 1} or more"
        )
    checks = (_check(key, one, max_target_tokens, before) for key, one in generations.items())
    return next(filter(None, checks), None)


def _check(key: str, chosen: Mapping[str, Any], max_target_tokens: int, before: int) -> str | None:
    least, most = chosen["min_new_tokens"], chosen["max_new_tokens"]
    if least > most:
        return (
            f"{key}.min_new_tokens is {least}, but max_new_tokens, which is "
            f"training.max_target_tokens unless it is given, is {most}; lower the one or raise the "
            "other"
        )
    if least > max_target_tokens:
        return (
            f"{key}.min_new_tokens is {least}, but no target of training is longer than its "
            f"max_target_tokens of {max_target_tokens}; lower the one or raise the other"
        )
    if most <= before:
        return (
            f"{key}.max_new_tokens is {most}, but the tokenizer puts {before} special tokens "
            f"before a text, so that no answer has a word; choose {before + 1} or more"
        )
    return None


def special_tokens(tokenizer: Mapping[str, Any]) -> tuple[int, int]:
    """Count a tokenizer's tokens before and after a text, zero if not known yet."""
    if tokenizer["kind"] != "checkpoint":
        return 1, 1  # as `longwatt.tokens.tokenizers` makes it
    file = Path(local_folder(tokenizer) or "", TOKENIZER)
    return _around_in(file, file.stat().st_mtime_ns) if file.is_file() else (0, 0)


@cache  # the file may be large, and every cell asks
def _around_in(file: Path, time: int) -> tuple[int, int]:
    return _around(read_object(file).get("post_processor"))


def _around(processor: Any) -> tuple[int, int]:
    """Read from a tokenizer.json's post-processor what it adds to a single text."""
    if not isinstance(processor, dict):
        return 0, 0
    if processor.get("type") == "Sequence":
        found = [_around(part) for part in processor.get("processors", [])]
        return sum(before for before, _ in found), sum(after for _, after in found)
    if processor.get("type") == "TemplateProcessing":
        kinds = ["Sequence" in part for part in processor.get("single", [])]
        text = kinds.index(True) if True in kinds else len(kinds)
        return text, len(kinds) - text - 1
    return AROUND.get(str(processor.get("type")), (0, 0))
