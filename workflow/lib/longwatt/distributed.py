"""One process or many: who is main, whose share is whose, and gathering results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")
# Longest that one process may keep the others waiting (a checkpoint on a slow disk, the slowest share of a validation).
# A process that died is noticed at once, by the launcher.
PATIENCE = timedelta(hours=2)
# How the libraries say that another process is gone.
LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
    "NCCL error",
)


@contextmanager
def joined(backend: str) -> Iterator[None]:
    """Meet the other processes, and leave them cleanly; alone, nothing.

    Args:
        backend: for tensors on the device, `nccl` or `gloo`.
    """
    if world_size() == 1:
        yield
        return
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend, timeout=PATIENCE)
    # What the processes tell each other beside gradients goes past the GPUs: it must not wait for work queued there.
    _control.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    yield
    # After an error nothing is taken down in order: that could wait for the others for ever.
    _control.clear()
    dist.destroy_process_group()


_control: list[Any] = []


def lost_a_process(error: BaseException) -> bool:
    """Whether an error only says that another process of this job is gone."""
    return world_size() > 1 and any(sign in str(error) for sign in LOST)


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
    dist.all_gather_object(values, value, group=_control[0])
    return values


def from_main(value: Any) -> Any:
    """The main process's value on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_control[0])
    return box[0]
