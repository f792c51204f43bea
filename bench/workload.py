"""Training steps that keep a device busy, and paired comparisons of their speed."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time

import torch

BOTH = [signal.SIGSTOP, signal.SIGCONT]


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
        """Start one step, and return before a GPU is done."""
        self.optimizer.zero_grad()
        self.model(self.inputs).square().mean().backward()
        self.optimizer.step()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, seconds: float, busy_s: float | None = None, pause_s: float = 0.0) -> int:
        """Train for a time, without pause or in bursts, and return the number of steps."""
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
    training: Training, recorder: int, pairs: int, seconds: float = 0.7
) -> tuple[float, float, float]:
    """Compare a training's speed with a recorder and without, in pairs of random order.

    The recorder is stopped and continued in between (SIGSTOP, SIGCONT), so that both halves of a
    pair stand close together: on a machine that others use, speed wanders by far more than a
    recorder costs.

    Args:
        training: the training to run.
        recorder: the recorder's process id.
        pairs: number of pairs.
        seconds: length of each half.

    Returns:
        The median of the pairs' ratios and its 95 % interval (bootstrap over pairs).
    """
    training.run(5.0)  # warm
    source = random.Random(0)
    ratios = []
    for _ in range(pairs):
        order = source.sample(BOTH, 2)
        speeds = {number: _speed(training, recorder, number, seconds) for number in order}
        ratios.append(speeds[signal.SIGCONT] / speeds[signal.SIGSTOP])
    os.kill(recorder, signal.SIGCONT)
    medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(2000))
    return statistics.median(ratios), medians[50], medians[-51]


def _speed(training: Training, recorder: int, number: signal.Signals, seconds: float) -> float:
    os.kill(recorder, number)
    start = time.perf_counter()
    steps = training.run(seconds)
    return steps / (time.perf_counter() - start)
