"""Several examples in one row without padding, where none sees another.

transformers tells them apart by their positions, which begin at 0 again with every example. Not all
of its models do, so `check` looks at what a model makes of such a row.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from longwatt.models.attention_choice import core
from longwatt.models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of the largest value. The first is for sums in another order, and the second for half precision.
CLOSE, CLOSE_IN_HALF = 1e-4, 5e-2
UNMOVED = 1e-6  # of the largest value: another example's tokens must not move a state at all
LENGTHS = (3, 5)  # tokens of the examples of a check
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def one_row(ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Join examples to one row: input_ids, position_ids and labels, all (1, their tokens)."""
    rows = {
        "input_ids": chain.from_iterable(ids),
        "position_ids": chain.from_iterable(range(len(one)) for one in ids),
        "labels": chain.from_iterable(labels),
    }
    return {name: torch.tensor([list(row)]) for name, row in rows.items()}


@torch.no_grad()
def check(model: Any, precision: str) -> None:
    """Refuse a model that joins the examples of a row, or numbers their tokens on.

    Args:
        model: on its device.
        precision: fp32, tf32, bf16 or fp16.

    Raises:
        ModelError: an example's logits are not those that it has alone.
    """
    own, training = core(model), model.training
    model.eval()
    half = HALVES.get(precision)
    try:
        with torch.autocast(own.device.type, dtype=half) if half else nullcontext():
            problem = _problem(own, CLOSE_IN_HALF if half else CLOSE)
    finally:
        model.train(training)
    if problem:
        raise ModelError(
            f"`training.packing` is asked for, but {problem} in {type(own).__name__} of "
            f"transformers with {own.config._attn_implementation} attention; leave packing out, "
            "or choose another `attention`"
        )


def _problem(own: Any, close: float) -> str | None:
    first, second = LENGTHS
    ids = torch.arange(1, first + second + 1) % own.config.vocab_size
    other = torch.cat((ids[:first].flip(0), ids[first:]))
    together, beside = (_last_logits(own, row, LENGTHS) for row in (ids, other))
    alone = _last_logits(own, ids[first:], (second,))
    largest = float(alone.abs().max())
    if float((together - beside).abs().max()) > UNMOVED * largest:
        return "examples of a row see each other"
    if float((together - alone).abs().max()) > close * largest:
        return "an example's logits are not those that it has alone"
    return None


def _last_logits(own: Any, ids: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the logits of the last of some examples in a row."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    given = {"input_ids": ids[None], "position_ids": positions[None]}
    placed = {name: value.to(own.device) for name, value in given.items()}
    logits: Tensor = type(own).forward(own, **placed, use_cache=False).logits
    return logits[0, -lengths[-1] :].float()
