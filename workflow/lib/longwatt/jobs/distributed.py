"""Number the processes of a job, share work among them and gather their results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")
# Longest that one process may keep the others waiting (a checkpoint on a slow disk, the slowest
# share of a validation). The launcher notices at once when a process dies.
COLLECTIVE_TIMEOUT = timedelta(hours=2)
# Messages of the libraries for a lost process.
LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
    "NCCL error",
)


@contextmanager
def joined_group(backend: str) -> Iterator[None]:
    """Join the other processes and leave them cleanly, or do nothing if there are none."""
    if world_size() == 1:
        yield
        return
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    # Messages other than gradients bypass the GPUs: they must not wait for work queued there.
    _control.append(dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT))
    yield
    # Only without an error: after one, an orderly end could wait for the others for ever.
    _control.clear()
    dist.destroy_process_group()


_control: list[Any] = []


def lost_a_process(error: BaseException) -> bool:
    """Return whether an error only says that another process of this job is gone."""
    return world_size() > 1 and any(sign in str(error) for sign in LOST_CONNECTION)


def rank() -> int:
    """Return this process's number, 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes of this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_share(items: Sequence[Item]) -> list[Item]:
    """Return this process's items. Every item goes to exactly one process."""
    return list(items[rank() :: world_size()])


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, in rank order, on every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_control[0])
    return values


def from_main(value: Any) -> Any:
    """Return the main process's value on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_control[0])
    return box[0]
