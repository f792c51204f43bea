"""A training step to keep a device busy, and a fair comparison of how fast it goes two ways."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch


class Training:
    """Forward, backward and optimiser step of a small encoder.

    Args:
        device: cpu or cuda.
        width: model width.
        length: input length in tokens.
    """

    def __init__(self, device: str, width: int = 256, length: int = 256) -> None:
        torch.manual_seed(0)
        self.device = torch.device(device)
        layer = torch.nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True)
        self.model = torch.nn.TransformerEncoder(layer, 2).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.inputs = torch.randn(8, length, width, device=self.device)

    def step(self) -> None:
        """One step; returns before a GPU is done."""
        self.optimizer.zero_grad()
        self.model(self.inputs).square().mean().backward()
        self.optimizer.step()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, seconds: float, busy_s: float | None = None, pause_s: float = 0.0) -> int:
        """Train for a time, without pause or in bursts; the number of steps."""
        steps, start = 0, time.perf_counter()
        while (now := time.perf_counter() - start) < seconds:
            if busy_s is not None and now % (busy_s + pause_s) >= busy_s:
                time.sleep(0.005)
                continue
            self.step()
            self.synchronize()
            steps += 1
        return steps


def paired(
    training: Training, meter: Callable[[], AbstractContextManager[object]], pairs: int, seconds: float
) -> tuple[float, float, float]:
    """Speed with a meter over speed without, in pairs of random order on one machine in one run.

    Returns the median of the pairs' ratios and its 95 % interval (bootstrap over pairs).
    """
    training.run(seconds)  # warm
    ratios = list(_ratios(training, meter, pairs, seconds))
    source = random.Random(0)
    medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(2000))
    return statistics.median(ratios), medians[50], medians[-51]


def _ratios(
    training: Training, meter: Callable[[], AbstractContextManager[object]], pairs: int, seconds: float
) -> Iterator[float]:
    source = random.Random(1)
    for _ in range(pairs):
        speeds = {}
        for metered in source.sample([True, False], 2):
            speeds[metered] = _speed(training, meter, seconds) if metered else _rate(training, seconds)
        yield speeds[True] / speeds[False]


def _speed(training: Training, meter: Callable[[], AbstractContextManager[object]], seconds: float) -> float:
    with meter():
        return _rate(training, seconds)


def _rate(training: Training, seconds: float) -> float:
    start = time.perf_counter()
    steps = training.run(seconds)
    return steps / (time.perf_counter() - start)
