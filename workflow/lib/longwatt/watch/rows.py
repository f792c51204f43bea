"""Put the progress of jobs and of a study into lines of a given width."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from longwatt.layout.wording import duration
from longwatt.progress_record import (
    INTERRUPTED_WORD,
    PREDICTING,
    STOPPED_WORD,
    TRAINING,
    VALIDATING,
    WAITING,
)
from longwatt.study.cells import FINETUNE, PREDICT
from longwatt.watch.job_progress import CUT_OFF, OUT_OF_SIGHT, PHASE_WORDS, RUNNING, JobProgress

SILENT_S = 120.0  # steps that take longer are rare, and worth a look
BAR_FILLED, BAR_EMPTY = "━", "─"
# Columns of a line's parts but for the name, which takes the rest.
WIDE, NARROW = (16, 37, 11), (8, 33, 10)  # bar, words, time left
NARROW_BELOW = 96
SHORTEST_NAME = 12


@dataclass(frozen=True)
class ProgressRow:
    """One line: a name, a bar, words and the time left.

    Attributes:
        share: of the bar that is filled, 0 to 1; None draws no bar.
        tone: "", "good", "bad" or "dim".
    """

    name: str
    share: float | None
    words: str
    left: str
    tone: str = ""


def short_names(cells: Collection[str]) -> dict[str, str]:
    """Shorten cells' names by what all of them have in common at their end."""
    split = {name: name.split("/") for name in cells}
    if len(split) < 2:
        return {name: name for name in cells}
    shortest = min(map(len, split.values()))
    common = 0
    while common < shortest - 1 and len({parts[-1 - common] for parts in split.values()}) == 1:
        common += 1
    return {name: "/".join(parts[: len(parts) - common]) for name, parts in split.items()}


def job_row(name: str, part: str, job: JobProgress, now: float) -> ProgressRow:
    """Describe a metered job in one line.

    Args:
        name: of its cell, as it is shown.
        part: "finetune", "predict/{inference}" or "exits".
        job: its progress.
        now: wall time in seconds.
    """
    point = part.removeprefix(PREDICT) if part.startswith(PREDICT) else ""
    shown = f"{name} {point}" if point else name
    share = job.share if job.phase != WAITING else None
    if job.state in (STOPPED_WORD, INTERRUPTED_WORD):
        return ProgressRow(shown, share, _stopped_words(part, job), "", "dim")
    if job.state in (CUT_OFF, OUT_OF_SIGHT):
        return ProgressRow(shown, share, _lost_words(job, now), "", "bad")
    words, silent = _phase_words(job, now), now - float(job.facts.get("at_s", now))
    if (
        job.state == RUNNING
        and job.phase in (TRAINING, VALIDATING, PREDICTING)
        and silent > SILENT_S
    ):
        return ProgressRow(shown, share, words, f"silent {ago_words(silent)}", "bad")
    return ProgressRow(shown, share, words, _left_words(part, job))


def _stopped_words(part: str, job: JobProgress) -> str:
    if job.done is None:
        return f"stopped before its first {_unit(part)}"
    saved = ", saved" if job.state == STOPPED_WORD else ""
    return f"{job.state} at {_unit(part)} {_count(job)}{saved}"


def _lost_words(job: JobProgress, now: float) -> str:
    ago = ago_words(now - job.seen_s)
    if job.state == CUT_OFF:
        return f"last seen {ago} ago, process gone"
    return f"last seen {ago} ago on {job.host}"


def _phase_words(job: JobProgress, now: float) -> str:
    word = PHASE_WORDS.get(job.phase, job.phase)
    if job.phase == VALIDATING:
        of = f"/{job.groups}" if job.groups else ""
        return f"{word} {job.groups_done}{of}, step {_count(job)}"
    if job.phase in (TRAINING, PREDICTING, "checkpoint") and job.done is not None:
        unit = _unit(PREDICTING if job.phase == PREDICTING else FINETUNE)
        score = job.best[1] if job.best else None
        values = [f"{n} {v:.3g}" for n, v in (("loss", job.loss), ("best", score)) if v is not None]
        return "  ".join([f"{unit} {_count(job)}", *values])
    return f"{word} {ago_words(now - float(job.facts.get('entered_s', now)))}"


def _unit(part: str) -> str:
    return "step" if part == FINETUNE else "batch"


def _count(job: JobProgress) -> str:
    return f"{job.done}" if job.total is None else f"{job.done}/{job.total}"


def _left_words(part: str, job: JobProgress) -> str:
    if job.at_most_s is None:
        return ""
    return f"{'≤ ' if part == FINETUNE else ''}{ago_words(job.at_most_s)}"


def ago_words(seconds: float) -> str:
    """Write a time in whole units, as it changes every second."""
    return re.sub(r"\.\d+", "", duration(max(0.0, round(seconds))))


def middle(text: str, width: int) -> str:
    """Cut a text in its middle to a width."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def bar(share: float | None, width: int) -> tuple[str, str]:
    """Return the filled and the empty part of a bar."""
    if share is None:
        return "", " " * width
    filled = min(width, max(0, int(share * width + 0.5)))
    return BAR_FILLED * filled, BAR_EMPTY * (width - filled)


def line_columns(width: int, rows: Iterable[ProgressRow]) -> tuple[int, int, int, int]:
    """Return the widths of name, bar, words and time left for lines of a width."""
    drawn, words, left = WIDE if width >= NARROW_BELOW else NARROW
    longest = max((len(row.name) for row in rows), default=0)
    room = width - drawn - words - left - 3
    if room < SHORTEST_NAME:
        drawn, room = 0, max(SHORTEST_NAME, width - words - left - 2)
    return min(longest, room), drawn, words, left
