"""The costs and results of a training so far, and the stopwatch that keeps count."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from longwatt.energy.marks import Marker
from longwatt.jobs import torch_device


@dataclass
class Ledger:
    """The costs and results of the work so far.

    Every checkpoint stores it, so it only counts work that is kept. Times are seconds; tokens and
    samples are those really processed, over all processes.
    """

    train_s: float = 0.0
    validation_s: float = 0.0
    checkpoint_s: float = 0.0
    scoring_s: float = 0.0  # part of validation_s: ROUGE or F1, while the device waits
    samples: int = 0
    input_tokens: int = 0
    padded_input_tokens: int = 0
    target_tokens: int = 0
    validations: int = 0
    without_improvement: int = 0
    best_score: float | None = None
    best_step: int | None = None
    stopped_early: bool = False
    diverged_step: int | None = None  # the step after which a number was not finite
    diverged_in: str | None = None  # which: one of `longwatt.jobs.endings`
    pending_validation: bool = False  # cut short; the next attempt begins with it
    # By process, summed since the last log line.
    pending_losses: list[float] = field(default_factory=list)
    logged_step: int = 0
    peak_memory_gib: float = 0.0

    @property
    def times(self) -> dict[str, float]:
        """Seconds by phase."""
        return {name: getattr(self, name) for name in ("train_s", "validation_s", "checkpoint_s")}

    @property
    def padding_share(self) -> float | None:
        """Part of all batches' input tokens that was padding, 0 to 1, None before any."""
        held = self.padded_input_tokens
        return 1 - self.input_tokens / held if held else None

    @property
    def runtime_s(self) -> float:
        """Training as the published study counts it: validations (and checkpoints) included."""
        return self.train_s + self.validation_s + self.checkpoint_s


@dataclass(eq=False)
class Stopwatch:
    """A stopwatch that adds time to the ledger and marks the energy log."""

    ledger: Ledger  # gains the time
    marker: Marker | None  # marks the phases; None in all processes but the main one
    attempt: int  # this run's number, part of every mark
    device: torch.device  # a phase ends once it has finished its work
    phase: str | None = None
    since_ns: int = field(default_factory=time.monotonic_ns)

    def switch(self, phase: str, step: int) -> None:
        """End the current phase and begin another once the device has finished its work."""
        self.tick()
        self.phase = phase
        self._mark(phase, step)

    def leave(self, phase: str, step: int) -> None:
        """End the current phase before work that is not counted (loading, writing results)."""
        self.tick()
        self.phase = None
        self._mark(phase, step)

    def discard(self, step: int) -> None:
        """End the current phase without counting its time, since it will be repeated."""
        self.phase, self.since_ns = None, time.monotonic_ns()
        # Past the step at which the next attempt resumes: the energy log does not count it either.
        self._mark("cut_short", step + 1)

    def _mark(self, phase: str, step: int) -> None:
        if self.marker is not None:
            # At the moment that the ledger counts from, so that the log's phases last the ledger's
            # seconds, on a busy machine too.
            self.marker.mark(phase, attempt=self.attempt, step=step, at_ns=self.since_ns)

    def tick(self) -> None:
        """Bring the ledger up to now."""
        torch_device.synchronize(self.device)
        now = time.monotonic_ns()  # the energy log's clock
        if self.phase is not None:
            name = f"{self.phase}_s"
            setattr(self.ledger, name, getattr(self.ledger, name) + (now - self.since_ns) / 1e9)
        self.since_ns = now
