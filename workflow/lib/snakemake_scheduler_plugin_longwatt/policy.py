"""Decide which ready jobs start now.

The most urgent job goes first, and whatever fits beside it follows. Priorities alone would starve a
job of many GPUs while jobs of one GPU keep becoming ready: a GPU that falls free is taken at once,
and a set never forms. So free GPUs are held back

- for the most urgent GPU job that is ready and does not fit: from then on it waits only for jobs
  that already run, at most as long as the longest of them still takes;
- for a more urgent one that is not ready yet but on its way (its data are being made, which takes
  minutes): jobs of fewer GPUs that started now would keep it waiting for as long as they take, and
  the GPUs that fall free meanwhile would idle for hours.

No job is slipped in because it "will be done in time" (backfilling): run times are predicted, some
at half or double, so that would trade the bound for a guess. `python -m bench.packing` measures
what holding back costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GPU = "gpu"  # the rules' resource that counts devices


@dataclass(frozen=True)
class Need:
    """The needs of a job.

    Attributes:
        priority: higher is more urgent.
        resources: amounts by name. Only whole numbers of limited resources count.
    """

    priority: float
    resources: Mapping[str, Any]


def choose(needs: Sequence[Need], free: Mapping[str, Any], coming: Need | None = None) -> list[int]:
    """Return the jobs to start now, as places in `needs`, most urgent first.

    There is no deadlock. If nothing runs and nothing is coming, `free` is the whole machine,
    Snakemake has made sure that every job fits it, and so the most urgent one is chosen.

    Args:
        needs: the ready jobs. Equal priorities keep their order.
        free: what running jobs leave of every limited resource.
        coming: the most urgent job of many GPUs that will be ready soon.
    """
    left = {name: amount for name, amount in free.items() if isinstance(amount, int)}
    chosen: list[int] = []
    holding = False
    for place in sorted(range(len(needs)), key=lambda place: -needs[place].priority):
        wanted = _limited(needs[place].resources, left)
        if coming and not holding and _gives_way(needs[place], wanted, coming):
            holding = True
            _take(_held(_limited(coming.resources, left), left), left)
        if all(amount <= left[name] for name, amount in wanted.items()):
            chosen.append(place)
            _take(wanted, left)
        elif not holding and wanted.get(GPU):
            holding = True
            _take(_held(wanted, left), left)
    return chosen


def _limited(resources: Mapping[str, Any], left: Mapping[str, int]) -> dict[str, int]:
    """Return the limited resources that a job needs some of."""
    wanted = {name: resources.get(name) for name in left}
    return {name: n for name, n in wanted.items() if isinstance(n, int) and n > 0}


def _gives_way(need: Need, wanted: Mapping[str, int], coming: Need) -> bool:
    """Return whether a job would stand in the way of one that is coming.

    A job of as many GPUs may use the time until then.
    """
    return 0 < wanted.get(GPU, 0) < coming.resources.get(GPU, 0) and need.priority < coming.priority


def _held(wanted: Mapping[str, int], left: Mapping[str, int]) -> dict[str, int]:
    """Return what is held for a job: free GPUs, and their share of the rest.

    The jobs that hold the other GPUs hold cores and memory with them, and give back both. Jobs
    without GPUs thus go on meanwhile. Only once all its GPUs are free is everything else held for
    it too.
    """
    gpus = min(wanted[GPU], max(left[GPU], 0))
    return {name: -(-amount * gpus // wanted[GPU]) for name, amount in wanted.items()}  # rounded up


def _take(wanted: Mapping[str, int], left: dict[str, int]) -> None:
    for name, amount in wanted.items():
        left[name] -= amount
