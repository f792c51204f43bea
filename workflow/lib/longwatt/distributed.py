"""One process or many: who is main, whose share is whose, and gathering results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist

Item = TypeVar("Item")


def rank() -> int:
    """This process's number, 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share(items: Sequence[Item]) -> list[Item]:
    """This process's items: every item goes to exactly one process."""
    return list(items[rank() :: world_size()])


def gather(value: Any) -> list[Any]:
    """Every process's value, in rank order, on every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:
    """The main process's value on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
