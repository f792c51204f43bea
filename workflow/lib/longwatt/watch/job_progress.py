"""Say how far one training, prediction or other metered job is, by its record."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.processes import still_runs
from longwatt.progress_record import (
    DONE,
    FAILED,
    FILE,
    INTERRUPTED_WORD,
    PREDICTING,
    STOPPED_WORD,
    TRAINING,
    VALIDATING,
    WAITING,
    read_record,
)
from longwatt.study.cells import FINETUNE, PREDICT, RECORD

# A living job renews its record every few seconds. A network file system shows that later.
SEEN_WITHIN_S = 60.0
RUNNING, OUT_OF_SIGHT, CUT_OFF = "running", "not seen", "gone"
CHECKPOINT = "checkpoint"
COMPUTING = (TRAINING, VALIDATING, CHECKPOINT, PREDICTING)
# What people call the phases of a job's record.
PHASE_WORDS = {
    WAITING: "waits for devices", "load": "loads", "idle_before": "loads", TRAINING: "trains",
    VALIDATING: "validates", CHECKPOINT: "saves", PREDICTING: "predicts", "finish": "ends",
    "cut_short": "stops", "stopped": "stops",
}  # fmt: skip


def work_folder(results: Path, cell: str, part: str) -> Path:
    """Return the work folder of one part of a cell, where its record lies."""
    work = results / cell / "work"
    if part == FINETUNE:
        return work
    return work / ("record_exits" if part == RECORD else f"predict-{part.removeprefix(PREDICT)}")


@dataclass(frozen=True)
class JobProgress:
    """How far a job is, or how it ended.

    Attributes:
        label: its name.
        state: RUNNING, OUT_OF_SIGHT (on another node, and silent), CUT_OFF (killed), or how it
            ended.
        phase: its last phase, as in PHASE_WORDS.
        done, total: steps or batches; total None where it is unknown.
        groups_done, groups: batches of the validation under way; likewise.
        loss, score: the newest known; None where there is none.
        best: the best score, and the step of its validation; likewise.
        stale_validations: validations since the best one.
        at_most_s: seconds to the end if a training does not stop early; None where unknown. Those
            of a job that was cut off count from its last step.
        seen_s: wall time of the last sign of life.
        host: the node that it runs on.
        facts: the whole record.
    """

    label: str
    state: str
    phase: str
    done: int | None
    total: int | None
    groups_done: int | None
    groups: int | None
    loss: float | None
    score: float | None
    best: tuple[int, float] | None
    stale_validations: int
    at_most_s: float | None
    seen_s: float
    host: str
    facts: Mapping[str, Any]

    @property
    def trains(self) -> bool:
        """True for a training."""
        return self.label.startswith(FINETUNE)

    @property
    def share(self) -> float | None:
        """Part of steps or batches that is done, 0 to 1, None where unknown."""
        return min(1.0, self.done / self.total) if self.total and self.done is not None else None

    @property
    def computed_s(self) -> float:
        """Return the seconds of steps, validations, checkpoints and batches in this attempt."""
        return sum(_spent(self.facts, self.seen_s).get(name, 0.0) for name in COMPUTING)

    @property
    def job_s(self) -> float | None:
        """Return the seconds that an ended job took, without waiting for devices."""
        if "ended_s" not in self.facts:
            return None
        waited = float(self.facts.get("spent_s", {}).get(WAITING, 0.0))
        return max(0.0, float(self.facts["ended_s"]) - float(self.facts["began_s"]) - waited)


def read_progress(
    folder: Path, now: float | None = None, steps: int | None = None, every: int | None = None
) -> JobProgress | None:
    """Read the progress of a work folder's job, or None where it has no record.

    Args:
        folder: of one part of a cell, see `work_folder`.
        now: wall time in seconds; None is the present.
        steps: of a training that does not stop early, for records that do not say it yet.
        every: steps from one validation to the next.
    """
    path = folder / FILE
    facts = read_record(path)
    if "began_s" not in facts:
        return None
    try:
        renewed = path.stat().st_mtime
    except OSError:
        return None
    present = time.time() if now is None else now
    try:
        return _progress(facts, max(renewed, float(facts["at_s"])), present, steps, every)
    except (KeyError, TypeError, ValueError, IndexError):  # of another version
        return None


def _progress(
    facts: Mapping[str, Any], seen_s: float, now: float, steps: int | None, every: int | None
) -> JobProgress:
    trains = str(facts["label"]).startswith(FINETUNE)
    total = facts.get("steps") or steps if trains else facts.get("batches")
    scores = [(int(step), float(score)) for step, score in facts.get("scores", ())]
    best = max(scores, key=lambda one: one[1], default=None)  # the first of equals, as in training
    state, validating = _state(facts, seen_s, now), facts.get("phase") == VALIDATING
    until = min(now, seen_s + SEEN_WITHIN_S) if state == RUNNING else float(facts["at_s"])
    computing = state != RUNNING or facts.get("phase") in COMPUTING
    return JobProgress(
        label=str(facts["label"]),
        state=state,
        phase=str(facts.get("phase", "")),
        done=facts.get("step"),
        total=None if total is None else int(total),
        groups_done=max(0, int(facts.get("count") or 0) - 1) if validating else None,
        groups=facts.get("groups"),
        loss=facts.get("loss"),
        score=facts.get("score"),
        best=best,
        stale_validations=sum(step > best[0] for step, _ in scores) if best else 0,
        at_most_s=_left(facts, total, every, until) if computing else None,
        seen_s=seen_s,
        host=str(facts.get("host", "")),
        facts=facts,
    )


def _state(facts: Mapping[str, Any], seen_s: float, now: float) -> str:
    """Judge whether a job runs, by its process here or its last sign of life."""
    if facts.get("ended") in (DONE, FAILED, STOPPED_WORD, INTERRUPTED_WORD):
        return str(facts["ended"])
    if facts.get("host") == os.uname().nodename:
        return RUNNING if still_runs(int(facts["pid"]), facts.get("started")) else CUT_OFF
    return RUNNING if now - seen_s <= SEEN_WITHIN_S else OUT_OF_SIGHT


def _spent(facts: Mapping[str, Any], until: float) -> dict[str, float]:
    """Return the seconds of this attempt by phase, with that of the phase under way."""
    spent = {str(name): float(value) for name, value in facts.get("spent_s", {}).items()}
    phase = str(facts.get("phase", ""))
    if "ended" not in facts and phase:
        spent[phase] = spent.get(phase, 0.0) + max(0.0, until - float(facts["entered_s"]))
    return spent


def _left(
    facts: Mapping[str, Any], total: int | None, every: int | None, until: float
) -> float | None:
    """Return the seconds that the steps (or batches) and validations left will take.

    They are as long as those of this attempt were. The first steps are slower than others, so the
    first numbers are too high.
    """
    if total is None or "step" not in facts or "first_step" not in facts:
        return None
    done, first = int(facts["step"]), int(facts["first_step"])
    if done <= first:
        return None
    spent, left = _spent(facts, until), max(0, int(total) - done)
    if PREDICTING in spent:
        return left * spent[PREDICTING] / (done - first)
    stepping = spent.get(TRAINING, 0.0) + spent.get(CHECKPOINT, 0.0)
    validated = int(facts.get("validated") or 0)
    each = spent.get(VALIDATING, 0.0) / validated if validated else 0.0
    checks = -(-left // every) if every else 0
    return left * stepping / (done - first) + checks * each
