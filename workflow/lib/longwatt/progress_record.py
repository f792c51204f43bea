"""Keep a job's progress in a small file that watchers read.

The job writes the file when it begins and ends, and its first worker in between, at most once a
second. Watchers read it from another terminal or another node, and after the job is gone. The
file is replaced whole, so no reader sees half of it. A file that cannot be written stops no job.

Workers need not know of it. Their phases (`longwatt.energy.marks`), their lines
(`longwatt.progress`) and the question after every step or batch whether to end
(`longwatt.jobs.sigterm`) all come by here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longwatt.files import read_object
from longwatt.processes import started

CHANGES_NO_RESULT = "It tells how far a job is."

FILE = "progress.json"  # in a job's work folder
VARIABLE = "LONGWATT_PROGRESS"  # the file's path, for a job's workers
NOTED_EVERY_S = 1.0
ALIVE_EVERY_S = 5.0  # how often a living job renews the file's time
# Phases that the job itself notes; the others are those of the energy log.
WAITING, STARTING = "waiting", "load"
TRAINING, VALIDATING, PREDICTING = "train", "validation", "generate"
# How a job ended: stopped once it had saved, or interrupted before.
DONE, FAILED, STOPPED_WORD, INTERRUPTED_WORD = "done", "failed", "stopped", "interrupted"
# What an attempt takes over from the one before it.
INHERITED = ("scores", "steps", "groups", "batches", "examples")
# What must be a number in a record.
NUMBERS = {
    "pid", "began_s", "entered_s", "at_s", "ended_s", "step", "first_step", "count", "steps",
    "groups", "batches", "examples", "validated",
}  # fmt: skip
# Lines of workers that say how far they are.
STEP_LINE = re.compile(r"step (\d+)/(\d+)((?:  \w+ \S+)*)$")
TOTAL_LINE = re.compile(r"(\d+) examples in (\d+) batches")


class ProgressRecord:
    """The progress of one job, kept in a file.

    Args:
        path: its file, which may hold what an earlier writer noted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {"spent_s": {}, "scores": [], **read_record(path)}
        self._base = int(self.facts.get("step") or 0)
        self._written = 0.0

    def enter(self, phase: str, step: int | None) -> None:
        """Begin a phase at a step (or batch), and write it down."""
        facts, now = self.facts, time.time()
        spent, old = facts["spent_s"], facts.get("phase")
        if old is not None:  # by the wall clock: the job itself began the first phases
            spent[old] = round(spent.get(old, 0.0) + max(0.0, now - facts.get("entered_s", now)), 3)
        again = phase == VALIDATING and facts.get("validating") == step
        if phase == VALIDATING:  # writing the best weights comes between, and is another phase
            facts["validating"] = step
        if not again and phase in (TRAINING, VALIDATING, PREDICTING):
            facts["count"] = 0
        if step is not None:
            self._go_on_from(phase, step)
        facts["phase"], facts["entered_s"] = phase, now
        self.write()

    def _go_on_from(self, phase: str, step: int) -> None:
        self._base = self.facts["step"] = step
        if phase in (TRAINING, PREDICTING) and "first_step" not in self.facts:
            self.facts["first_step"] = step
            # Validations of steps that are trained again are made again.
            self.facts["scores"] = [one for one in self.facts["scores"] if one[0] <= step]

    def beat(self) -> None:
        """Count a step of training, a group of validation or a batch of generation."""
        phase, count = self.facts.get("phase"), int(self.facts.get("count") or 0) + 1
        if phase not in (TRAINING, VALIDATING, PREDICTING):
            return
        self.facts["count"] = count
        if phase != VALIDATING:
            self.facts["step"] = self._base + count
        self.write_soon()

    def hear(self, message: str) -> None:
        """Take numbers from a line that the worker says."""
        if found := STEP_LINE.match(message):
            step, steps, values = int(found[1]), int(found[2]), _values(found[3])
            if self.facts.get("phase") == TRAINING:
                self._base, self.facts["step"], self.facts["count"] = step, step, 0
            self.facts |= {"steps": steps, **values}
            if "score" in values:
                others = [one for one in self.facts["scores"] if one[0] != step]
                self.facts["scores"] = [*others, [step, values["score"]]]
                self.facts["validated"] = int(self.facts.get("validated") or 0) + 1
                # Asked before each group and once behind the last.
                self.facts["groups"] = int(self.facts.get("count") or 1) - 1
        elif found := TOTAL_LINE.match(message):
            self.facts |= {"examples": int(found[1]), "batches": int(found[2])}
        else:
            return
        self.write_soon()

    def write_soon(self) -> None:
        """Write the file, unless it was written a moment ago."""
        if time.monotonic() - self._written >= NOTED_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the file whole.

        A disk that does not take it loses the record, not the job.
        """
        self._written = time.monotonic()
        self.facts["at_s"] = time.time()
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            partial.write_text(json.dumps(self.facts), encoding="utf-8")
            partial.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record without what is not of its kind, empty where there is none.

    A damaged file, or one of another version, loses progress and stops no job.
    """
    return {name: value for name, value in read_object(path).items() if _is_sound(name, value)}


def _is_sound(name: str, value: Any) -> bool:
    if name in NUMBERS:
        return _is_number(value)
    if name == "scores":
        return isinstance(value, list) and all(map(_is_scored_step, value))
    if name == "spent_s":
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    return name != "phase" or isinstance(value, str)


def _is_scored_step(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _values(text: str) -> dict[str, float]:
    """Read the named numbers of a line ("  loss 2.1  lr 0.001"), without the seconds."""
    names = text.split()
    pairs = zip(names[::2], names[1::2], strict=True)
    return {name: float(value) for name, value in pairs if name != "seconds"}


@functools.cache
def _of_worker() -> ProgressRecord | None:
    """Return the record of this process's job, if it is the job's first worker."""
    path = os.environ.get(VARIABLE)
    first = os.environ.get("RANK", "0") == "0"
    return ProgressRecord(Path(path)) if path and first else None


def enter_phase(phase: str, step: int | None) -> None:
    """Note the phase of this process's job, if there is one."""
    if record := _of_worker():
        record.enter(phase, step)


def count_beat() -> None:
    """Note one more step, group or batch of this process's job, if there is one."""
    if record := _of_worker():
        record.beat()


def hear_line(message: str) -> None:
    """Note the numbers of a line that this process says for its job."""
    if record := _of_worker():
        record.hear(message)


@contextlib.contextmanager
def recorded_job(
    folder: Path, label: str, stops: tuple[type[BaseException], ...]
) -> Iterator[ProgressRecord]:
    """Keep the record of a job while the block runs, and how it ended.

    Args:
        folder: its work folder.
        label: its name for people.
        stops: errors that say it was asked to end, and has saved.
    """
    path = folder / FILE
    earlier = read_record(path)
    kept = {name: earlier[name] for name in INHERITED if name in earlier}
    pid = os.getpid()
    me = {"pid": pid, "started": started(pid), "host": os.uname().nodename}
    record = ProgressRecord(path)
    record.facts = {"scores": [], **kept, "label": label, **me, "spent_s": {}}
    record.facts |= {"began_s": time.time()}
    record.enter(WAITING, None)
    how = FAILED
    try:
        yield record
        how = DONE
    except stops:
        how = STOPPED_WORD
        raise
    except KeyboardInterrupt:
        how = INTERRUPTED_WORD
        raise
    finally:
        record.facts = {**record.facts, **read_record(path), "ended": how, "ended_s": time.time()}
        record.write()


def renew(path: Path) -> None:
    """Say by the file's time that its job is alive."""
    with contextlib.suppress(OSError):
        os.utime(path)
