"""Predict by the fast path: texts, and labels under the gold decoder inputs.

Greedy texts have a loop of their own. Beams keep transformers' search, with its scores, penalties
and ends, and only ask our decoder for each step: it is their `past_key_values`, and the model's
`forward` recognises it there (`FastPath.attach`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

from longwatt.models.attention.packing import Packing
from longwatt.models.attention.path import FastPath
from longwatt.models.attention.steps import StepDecoder
from longwatt.models.family import Batch

# Options of a study's `generation`; with any other, or without the first, stock generates.
OPTIONS = {
    "max_new_tokens",
    "min_new_tokens",
    "num_beams",
    "length_penalty",
    "no_repeat_ngram_size",
    "early_stopping",
}
# Settings of a generation configuration that the loop of one beam follows.
FOLLOWED = {
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
}


def label_argmax(path: FastPath, batch: Batch) -> list[list[int]] | None:
    """Predict each label that counts from the gold tokens before it.

    Returns:
        Token ids of each row, or None where the path cannot take the batch.
    """
    if (packing := path.packing(batch)) is None:
        return None
    logits, counted = path.label_logits(batch, packing)
    best, lengths = logits.argmax(-1).tolist(), counted.sum(1).tolist()
    tokens = iter(best)
    return [[next(tokens) for _ in range(length)] for length in lengths]


def generate(path: FastPath, batch: Batch, options: Mapping[str, Any]) -> list[list[int]] | None:
    """Generate what the model's own `generate` would, without sampling.

    Args:
        path: of a model in evaluation mode.
        batch: documents, without labels.
        options: arguments of `generate`.

    Returns:
        Token ids of each row without the start token, padded as those of `generate`, or None where
        only that can do it.
    """
    packing = path.packing(batch)
    if packing is None or not _can_generate(path.model, options):
        return None
    with torch.no_grad():
        if options.get("num_beams", 1) == 1:
            return _greedy(path, batch, packing, options)
        return _by_beams(path, batch, packing, options)


def _can_generate(model: Any, options: Mapping[str, Any]) -> bool:
    if model.training or not {"max_new_tokens"} <= set(options) <= OPTIONS:
        return False
    if options.get("num_beams", 1) > 1:
        return True  # transformers' own search follows every setting
    stated = model.generation_config.to_diff_dict()
    own = {name for name in stated if name != "transformers_version" and name[0] != "_"}
    return own <= FOLLOWED and isinstance(stated.get("decoder_start_token_id"), int)


def _by_beams(
    path: FastPath, batch: Batch, packing: Packing, options: Mapping[str, Any]
) -> list[list[int]]:
    most, beams = options["max_new_tokens"], options["num_beams"]
    encoded = path.encoded(batch, packing)
    steps = StepDecoder(path.model, encoded, path.norm_first, most, beams)
    output: Tensor = path.model.generate(
        batch["input_ids"],
        encoder_outputs=BaseModelOutput(),  # there, so that nothing is encoded again
        past_key_values=steps,
        do_sample=False,
        **options,
    )
    return list(output[:, 1:].tolist())


@dataclass(frozen=True)
class _Ends:
    """Tokens that start, end and pad, as a model's generation configuration states them."""

    start: int
    ends: tuple[int, ...]
    pad: int | None

    @classmethod
    def of(cls, given: Any) -> _Ends:
        held = given.eos_token_id
        ends = () if held is None else tuple(held) if isinstance(held, list) else (held,)
        pad = ends[0] if given.pad_token_id is None and ends else given.pad_token_id
        return cls(given.decoder_start_token_id, ends, pad)


def _greedy(
    path: FastPath, batch: Batch, packing: Packing, options: Mapping[str, Any]
) -> list[list[int]]:
    """Take the best token until each row has ended. Rows that have ended leave."""
    encoded, most = path.encoded(batch, packing), options["max_new_tokens"]
    own, device = _Ends.of(path.model.generation_config), packing.device
    scorers = _scorers(path.model.generation_config, own, options, device)
    steps = StepDecoder(path.model, encoded, path.norm_first, most)
    found: list[list[int]] = [[] for _ in range(packing.rows)]
    rows = found  # those that go on, as the decoder has them
    tokens = torch.full((packing.rows,), own.start, device=device)
    ids = tokens[:, None]
    for _ in range(most):
        scores = steps.logits(tokens)
        if scorers:
            scores = scorers(ids, scores.float())
        tokens = scores.argmax(-1)
        chosen = tokens.tolist()
        for row, token in zip(rows, chosen, strict=True):
            row.append(token)
        going = [token not in own.ends for token in chosen]
        if not any(going):
            break
        ids = torch.cat((ids, tokens[:, None]), 1) if scorers else ids
        if not all(going):
            order = steps.keep(going)
            rows, tokens, ids = [rows[place] for place in order], tokens[order], ids[order]
    return _padded(found, own.pad)


def _padded(rows: list[list[int]], pad: int | None) -> list[list[int]]:
    width = max(map(len, rows))
    return [[*row, *[pad] * (width - len(row))] for row in rows]  # type: ignore[list-item]


def _scorers(
    given: Any, own: _Ends, options: Mapping[str, Any], device: torch.device
) -> LogitsProcessorList:
    """Return what changes scores, in the order in which transformers applies it."""
    found: list[LogitsProcessor] = []
    if size := options.get("no_repeat_ngram_size"):
        found.append(NoRepeatNGramLogitsProcessor(size))
    if (least := options.get("min_new_tokens")) and own.ends:
        ends = torch.tensor(own.ends, device=device)
        found.append(MinNewTokensLengthLogitsProcessor(1, least, ends, device=device))
    if given.forced_bos_token_id is not None:
        found.append(ForcedBOSTokenLogitsProcessor(given.forced_bos_token_id))
    if (forced := given.forced_eos_token_id) is not None:
        most = 1 + options["max_new_tokens"]
        found.append(ForcedEOSTokenLogitsProcessor(most, forced, device=device))
    return LogitsProcessorList(found)
