"""What an inference does beside predicting: it keeps its batches, marks the energy log and tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longwatt import distributed, stopping
from longwatt.batch_store import Batch, BatchStore, Took
from longwatt.energy.clock import boot_id
from longwatt.progress import say
from longwatt.stopping import Stopped
from longwatt.worker import Spec

REPORT_EVERY_BATCHES = 10
# Short batches are written together: a file opened for each would take as long as they do.
WRITE_EVERY_S = 0.25
SYNC_EVERY_S = 10.0  # the batches since may be lost with the machine


class Progress:
    """Keeps this process's batches; the main process also marks the energy log and tells whoever watches.

    Args:
        spec: of the job.
        store: with the batches of earlier attempts.
    """

    def __init__(self, spec: Spec, store: BatchStore) -> None:
        self.store = store
        self.marker = spec.marker() if distributed.rank() == 0 else None
        self.attempt = (
            int(Path(spec.energy_log).stem) if spec.energy_log else 1
        )  # a run, a log, an attempt
        self.boot_id = boot_id()
        self.done = sum(batch["rank"] == store.rank for batch in store.kept().values())
        self.marked_at = self.written_at = 0.0
        self._waiting: list[Batch] = []

    def mark(self, phase: str) -> None:
        """Begin a phase, once what came before is on disk."""
        self.write()
        self.store.sync()
        self.marked_at = time.monotonic()
        if self.marker:
            self.marker.mark(phase, attempt=self.attempt, step=self.done)

    def keep(
        self, number: int, result: Mapping[str, Any], window: tuple[int, int], last: bool
    ) -> None:
        """Keep a batch, on disk within WRITE_EVERY_S.

        Args:
            number: its place among all batches.
            result: what was predicted, as JSON.
            window: its beginning and end, CLOCK_MONOTONIC in nanoseconds.
            last: whether it is this process's last.

        Raises:
            longwatt.stopping.Stopped: this process was asked to end, and something swallowed it.
            OSError: the disk did not take it.
        """
        self._waiting.append(Batch(number, result, Took(self.boot_id, self.attempt, *window)))
        self.done += 1
        if stopping.asked():
            raise Stopped
        now = time.monotonic()
        if now - self.marked_at >= SYNC_EVERY_S:
            self.mark("generate")
        elif last or now - self.written_at >= WRITE_EVERY_S:
            self.write()
        if self.marker and (self.done % REPORT_EVERY_BATCHES == 0 or last):
            say(f"batch {self.done}  seconds {(window[1] - window[0]) / 1e9:.3g}")

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Write what waits, however the block ends.

        Raises:
            longwatt.stopping.Stopped: this process was asked to end; says how much is kept.
        """
        try:
            yield
        except Stopped:
            self.mark("stopped")
            kept = len(self.store.kept())
            message = f"stopped by SIGTERM with {kept} batches kept; the next run goes on there"
            raise Stopped(message) from None
        except Exception:
            self.write()
            raise

    def write(self) -> None:
        """Write the batches that wait; cut short by a signal, it may be called again."""
        if self._waiting:
            self.store.add(self._waiting)
            self._waiting = []
        self.written_at = time.monotonic()

    def account(self, kept: Mapping[int, Mapping[str, Any]]) -> None:
        """Have the energy log say which batches the result is made of, so that these are billed.

        Args:
            kept: as `BatchStore.kept`, of all processes.
        """
        parts: dict[tuple[Any, ...], list[list[int]]] = {}
        for batch in kept.values():
            took: Took = batch["took"]
            windows = parts.setdefault((took.boot_id, took.attempt, batch["rank"]), [])
            windows.append([took.start_ns, took.end_ns])
        names = ("boot_id", "attempt", "process")
        said = [{**dict(zip(names, key, strict=True)), "windows": parts[key]} for key in parts]
        if self.marker:
            self.marker.keep(said, distributed.world_size())
