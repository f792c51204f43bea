"""Run a job batch by batch: keep batches, mark the energy log, report progress."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from longwatt.energy.clock import boot_id
from longwatt.energy.log import forget_runs
from longwatt.inference.batch_store import BatchStore, StoredBatch, Took
from longwatt.inference.trained_models import ensure_sound
from longwatt.jobs import distributed, environment, sigterm
from longwatt.jobs.sigterm import Stopped
from longwatt.jobs.worker import Spec
from longwatt.progress import say
from longwatt.provenance.stamps import asked_anew
from longwatt.tokens.tokenize import repair_tokens

Group = TypeVar("Group")  # the examples of one batch
REPORT_EVERY_BATCHES = 10
# Short batches are written together: opening a file for each would take as long as predicting it.
WRITE_EVERY_S = 0.25
BATCH_SYNC_EVERY_S = 10.0  # younger batches may be lost with the machine


class Progress:
    """Keep this process's batches. The main process also marks the energy log and reports."""

    def __init__(self, spec: Spec, store: BatchStore) -> None:
        self.spec = spec
        self.store = store
        self.marker = spec.marker() if distributed.rank() == 0 else None
        # Every attempt is a run, and every run has an energy log named by its number.
        self.attempt = int(Path(spec.energy_log).stem) if spec.energy_log else 1
        self.boot_id = boot_id()
        kept = store.kept().values()
        self.earlier = len(kept)  # batches of earlier attempts, of all processes
        self.done = sum(batch["rank"] == store.rank for batch in kept)
        self.marked_at = self.written_at = 0.0
        self._waiting: list[StoredBatch] = []

    def mark(self, phase: str) -> None:
        """Begin a phase once all earlier batches are on disk."""
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
            result: the predictions, as JSON.
            window: its start and end, CLOCK_MONOTONIC in nanoseconds.
            last: whether it is this process's last batch.
        """
        self._waiting.append(StoredBatch(number, result, Took(self.boot_id, self.attempt, *window)))
        self.done += 1
        if sigterm.asked():  # and a library swallowed it
            raise Stopped
        now = time.monotonic()
        if now - self.marked_at >= BATCH_SYNC_EVERY_S:
            self.mark("generate")
        elif last or now - self.written_at >= WRITE_EVERY_S:
            self.write()
        if self.marker and (self.done % REPORT_EVERY_BATCHES == 0 or last):
            say(f"batch {self.done}  seconds {(window[1] - window[0]) / 1e9:.3g}")

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Write the waiting batches however the block ends, and say how many a stop keeps."""
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
        """Write the waiting batches. A call that a signal cut short may be repeated."""
        if self._waiting:
            self.store.add(self._waiting)
            self._waiting = []
        self.written_at = time.monotonic()

    def complete(
        self, groups: Sequence[Group], work: Callable[[list[tuple[int, Group]]], None]
    ) -> dict[int, dict[str, Any]] | None:
        """Have all processes do the batches that no attempt has kept.

        `work` does this process's share of them, given by number.

        Returns:
            All batches as `BatchStore.kept` returns them, in the main process; None in the others.
        """
        kept = self.store.kept()
        missing = [(number, group) for number, group in enumerate(groups) if number not in kept]
        distributed.gather(None)  # all must see the same batches missing, before any adds some
        if missing:
            environment.note(self.spec.paths["work"], self.spec.settings["budget"], fresh=not kept)
            work(distributed.own_share(missing))
        distributed.gather(None)  # the other processes' batches are kept too
        if distributed.rank() > 0:
            return None
        self.mark("finish")
        kept = self.store.kept()
        self.account(kept)
        return kept

    def account(self, kept: Mapping[int, Mapping[str, Any]]) -> None:
        """Name the batches of the result in the energy log, so that these are billed."""
        parts: defaultdict[tuple[Any, ...], list[list[int]]] = defaultdict(list)
        for batch in kept.values():
            took: Took = batch["took"]
            key = took.boot_id, took.attempt, batch["rank"]
            parts[key].append([took.start_ns, took.end_ns])
        names = ("boot_id", "attempt", "process")
        said = [{**dict(zip(names, key, strict=True)), "windows": parts[key]} for key in parts]
        if self.marker:
            self.marker.keep(said, distributed.world_size())


def begin(spec: Spec, rule: str) -> Progress:
    """Begin a job's process after the main process has checked inputs and kept batches."""
    store = BatchStore(Path(spec.paths["work"]), spec.identity, distributed.rank())
    if distributed.rank() == 0:
        repair_tokens(spec.paths)
        ensure_sound(spec.paths)
        if store.begin(asked_anew(rule)) and spec.energy_log:
            forget_runs(Path(spec.energy_log).parent, but=Path(spec.energy_log))
    distributed.gather(None)  # nobody reads the store before it is ready
    progress = Progress(spec, store)
    progress.mark("load")
    return progress
