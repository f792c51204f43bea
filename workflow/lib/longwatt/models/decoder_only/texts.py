"""Generate texts from the left-padded prompts of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import LogitsProcessor, NoRepeatNGramLogitsProcessor

from longwatt.models.errors import ModelError
from longwatt.models.family import IGNORED
from longwatt.models.losses.label_loss import FLOAT32_NOISE

NO_REPEAT = "no_repeat_ngram_size"


def prompts(batch: Mapping[str, Tensor], pad: int) -> dict[str, Tensor]:
    """Take the prompts out of a batch: what stands before each row's first label.

    They end in the last column, so that all rows go on together, and are padded on the left.

    Returns:
        input_ids and attention_mask, (rows, the longest prompt).
    """
    ids, labels = batch["input_ids"], batch["labels"]
    lengths = (labels != IGNORED).int().argmax(1)
    width = int(lengths.max())
    places = torch.arange(width, device=ids.device) - (width - lengths)[:, None]
    real = places >= 0
    taken = ids.gather(1, places.clamp(min=0))
    return {"input_ids": taken.masked_fill(~real, pad), "attention_mask": real.long()}


def go_on(
    model: Any, given: Mapping[str, Tensor], options: Mapping[str, Any], ends: Collection[int]
) -> list[list[int]]:
    """Generate answers without sampling, each up to its own end.

    Args:
        model: of transformers, in evaluation mode.
        given: what `prompts` returns.
        options: arguments of `generate`.
        ends: tokens that end an answer, whatever the model's own are.

    Returns:
        Token ids of each answer, the token that ended it included.
    """
    width, chosen = given["input_ids"].shape[1], dict(options)
    if size := chosen.pop(NO_REPEAT, 0):
        chosen["logits_processor"] = [_NoRepeatInAnswers(size, width)]
    chosen["eos_token_id"] = list(ends)  # beside the model's own, a chat has the end of its turns
    output = model.generate(**given, **chosen, do_sample=False, use_cache=True)
    return [_cut(row, ends) for row in output[:, width:].tolist()]


@torch.no_grad()
def check_padding(model: Any, pad: int) -> None:
    """Refuse a model whose answer to a prompt hangs on the padding before it.

    Raises:
        ModelError: it cannot predict batches.
    """
    training, most = model.training, model.config.vocab_size - 1
    ids = (torch.arange(1, 4) * max(1, most // 5)).clamp(max=most).to(model.device)[None]
    model.eval()
    try:
        alone, padded = (_last_logits(model, ids, pad, before) for before in (0, 2))
    finally:
        model.train(training)
    if float((alone - padded).abs().max()) > FLOAT32_NOISE * float(alone.abs().max()):
        raise ModelError(
            f"{type(model).__name__} of transformers answers a prompt otherwise when padding "
            "stands before it, so that a batch of prompts cannot be predicted; name another model"
        )


def _last_logits(model: Any, ids: Tensor, pad: int, before: int) -> Tensor:
    """Return the logits after a prompt (1, length) with padding before it, as generation does."""
    padding = ids.new_full((1, before), pad)
    mask = torch.cat((torch.zeros_like(padding), torch.ones_like(ids)), 1)
    given = {"input_ids": torch.cat((padding, ids), 1), "attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    logits: Tensor = type(model).forward(model, **given, use_cache=False).logits
    return logits[0, -1]


def _cut(row: list[int], ends: Collection[int]) -> list[int]:
    """Drop the padding after an answer's end."""
    last = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: last + 1]


class _NoRepeatInAnswers(LogitsProcessor):  # type: ignore[misc]
    """Forbid sequences that an answer has already, but none of its prompt's."""

    def __init__(self, size: int, prompt: int) -> None:
        self._own, self._prompt = NoRepeatNGramLogitsProcessor(size), prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See transformers: scores (rows, vocabulary) for the tokens so far (rows, length)."""
        answers = input_ids[:, self._prompt :]
        found: Tensor = self._own(answers, scores) if answers.shape[1] else scores
        return found
