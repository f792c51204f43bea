"""Energy log as data: one segment per run, with marks and readings.

Lines that are torn, lost or contradictory are named in `problems`, and the rest is used.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from longwatt.energy.log import LogError, log_parts, open_log

Floats = npt.NDArray[np.float64]
# Name of a series in memory -> (key of its values in a line, factor to the unit of the name).
PER_GPU = {
    "instant_w": ("instant_mw", 1e-3),
    "average_w": ("average_mw", 1e-3),
    "counter_j": ("counter_mj", 1e-3),
    "utilization_pct": ("util_pct", 1.0),
    "memory_gib": ("memory_mib", 1 / 1024),
    "throttle": ("throttle", 1.0),
}
SLACK_S = 0.05  # a mark and a sample of one moment, taken by two processes


class Series(NamedTuple):
    """Values over time, in seconds since the segment's beginning, without failed readings."""

    times: Floats
    values: Floats


EMPTY = Series(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Mark:
    """The beginning of a phase, in seconds since the segment's.

    Attributes:
        attempt, step: as the job said; None where it did not.
        counters_j: counter readings by GPU.
        checkpoint_counted: of an attempt's first mark, whether the attempt knows how long its
            checkpoint took to write; None where the job does not say.
    """

    phase: str
    time: float
    attempt: int | None
    step: int | None
    counters_j: Mapping[str, float]
    checkpoint_counted: bool | None = None


@dataclass
class Segment:
    """One run of a job.

    Attributes:
        number: from 1, in the order of the log.
        marks: in the order of time.
        end: how the job ended, as the recorder wrote it; None if it could not.
        length_s: from the header to the last line.
        excluded: stretches that another segment has measured on the same meter; they count there.
        shared: whether other metered jobs ran on the node meanwhile, so that its processors'
            counters are not this job's.
    """

    number: int
    header: Mapping[str, Any]
    marks: list[Mark] = field(default_factory=list)
    end: Mapping[str, Any] | None = None
    length_s: float = 0.0
    excluded: list[tuple[float, float]] = field(default_factory=list)
    shared: bool = False
    series: dict[tuple[str, str], Series] = field(default_factory=dict)

    @property
    def gpus(self) -> list[str]:
        """UUIDs of its GPUs."""
        return [gpu["uuid"] for gpu in self.header["gpus"]]

    @property
    def attempt(self) -> int | None:
        """Number of the job's attempt that ran meanwhile, or None where it counts none."""
        return next((mark.attempt for mark in self.marks if mark.attempt is not None), None)

    def seconds(self, nanoseconds: int) -> float:
        """Return a moment of CLOCK_MONOTONIC as seconds since the segment's beginning."""
        return float((nanoseconds - self.header["t"]) / 1e9)

    def of(self, name: str, gpu: str = "") -> Series:
        """Return one series, which is empty where nothing was read."""
        return self.series.get((name, gpu), EMPTY)


@dataclass(frozen=True)
class Batches:
    """Batches of one process in one attempt at an inference that are in its result.

    Attributes:
        process: from 0.
        windows: beginning and end of each, CLOCK_MONOTONIC in nanoseconds, (batches, 2).
    """

    boot_id: str | None
    attempt: int
    process: int
    windows: npt.NDArray[np.int64]

    @property
    def seconds(self) -> float:
        """Their time together."""
        return float((self.windows[:, 1] - self.windows[:, 0]).sum() / 1e9)


@dataclass(frozen=True)
class Kept:
    """Batches of an inference's result, by process and attempt, and its number of processes."""

    batches: tuple[Batches, ...]
    processes: int

    @property
    def seconds(self) -> float:
        """Time of the slowest process's batches, as an inference's runtime is counted."""
        by_process: dict[int, float] = {}
        for one in self.batches:
            by_process[one.process] = by_process.get(one.process, 0.0) + one.seconds
        return max(by_process.values(), default=0.0)

    def shares(self, other: Kept) -> bool:
        """Return whether both have a batch in common, and so are one inference's."""
        mine, others = (
            {(one.boot_id, int(start)) for one in kept.batches for start in one.windows[:, 0]}
            for kept in (self, other)
        )
        return not mine.isdisjoint(others)


@dataclass
class Log:
    """A whole log, its problems, and the batches that each inference kept."""

    segments: list[Segment]
    problems: list[str]
    kept: Sequence[Kept] = ()


def read_log(paths: Iterable[Path]) -> Log:
    """Read one log (its numbered parts included) or several as one.

    Raises:
        LogError: there is no log, or nothing in it is one.
    """
    logs = {path: log_parts(path) for path in paths}
    if not any(logs.values()):
        raise LogError(f"there is no energy log {', '.join(map(str, logs))}")
    reader = _Reader()
    for files in logs.values():
        reader.begin()
        for file in files:
            reader.read(file)
    segments = reader.finish()
    if not segments:
        first = next(file for files in logs.values() for file in files)
        problem = "holds no header of an energy log; nothing can be established from it"
        raise LogError(f"{first} {problem}")
    return Log(segments, [*reader.problems, *_between(segments)], reader.kept)


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.kept: list[Kept] = []
        self._drafts: list[_Draft] = []
        self._current: _Draft | None = None
        self._unread = self._early = 0

    def begin(self) -> None:
        """Begin another log, even if its header is missing."""
        self._current = None

    def read(self, file: Path) -> None:
        last_is_torn = False
        for text in _lines(file, self.problems):
            try:
                self._take(json.loads(text))
                last_is_torn = False
            except (ValueError, KeyError, TypeError, AttributeError):  # torn, or no line of ours
                last_is_torn = True
                self._unread += 1
        if last_is_torn:
            self._unread -= 1
            torn = "the last line is torn (its writer was killed); all lines before it count"
            self.problems.append(f"{file}: {torn}")

    def finish(self) -> list[Segment]:
        for count, where in (
            (self._unread, "within the log are torn or damaged, and left out"),
            (self._early, "come before the header of their log and are left out"),
        ):
            self.problems += [f"{count} lines {where}"] if count else []
        for draft in self._drafts:
            self.problems += draft.problems()
        return [draft.segment() for draft in self._drafts]

    def _take(self, line: dict[str, Any]) -> None:
        if "run" in line:
            self.begin()
        elif "kept" in line:
            found = _kept(line)  # an inference that was killed at its end repeats it
            self.kept = [*(one for one in self.kept if not one.shares(found)), found]
        elif "segment" in line:
            same = (draft for draft in self._drafts if draft.header["segment"] == line["segment"])
            self._current = next(same, None)
            if self._current is None:
                self._current = _Draft(len(self._drafts) + 1, line)
                self._drafts.append(self._current)
        elif self._current is None:
            self._early += 1
        else:
            self._current.take(line)


def _kept(line: Mapping[str, Any]) -> Kept:
    batches = []
    for part in line["kept"]:
        windows = np.array(part["windows"], dtype=np.int64).reshape(-1, 2)
        ordered = windows[np.argsort(windows[:, 0])]
        attempt, process = int(part["attempt"]), int(part["process"])
        batches.append(Batches(part["boot_id"], attempt, process, ordered))
    return Kept(tuple(batches), int(line["processes"]))


class _Draft:
    """A segment being read, in packed arrays: days at 10 Hz are millions of samples."""

    def __init__(self, number: int, header: dict[str, Any]) -> None:
        self.number = number
        self.header = header
        self._zero = self._last = header["t"]
        self._columns: dict[tuple[str, str], tuple[array[float], array[float]]] = {}
        self._marks: list[Mark] = []
        self._end: dict[str, Any] | None = None
        self._uuids = [gpu["uuid"] for gpu in header["gpus"]]
        self._rapl: list[int] | None = None
        self._rapl_j = 0.0
        self._shared = False
        self._strangers = 0
        self._lost: dict[str, int] = {}
        self._said: list[str] = []

    def take(self, line: dict[str, Any]) -> None:
        if "lost" in line:
            self._lost[line["why"]] = self._lost.get(line["why"], 0) + line["lost"]
            return
        if "problem" in line:
            when = f"{self._seconds(line['t']):.0f} s"
            self._said.append(f"{line['gpu']} after {when}: {line['problem']}")
            return
        if "mark" in line and line.get("boot_id") != self.header["boot_id"]:
            self._strangers += 1
            return
        self._last = max(self._last, line["t"])
        self._shared = self._shared or bool(line.get("rapl_shared"))
        if "mark" in line:
            self._marks.append(self._mark(line))
        elif "end" in line:
            self._end = line
        else:
            self._sample(line)

    def segment(self) -> Segment:
        return Segment(
            number=self.number,
            header=self.header,
            marks=sorted(self._marks, key=lambda mark: mark.time),
            end=self._end,
            length_s=self._seconds(self._last),
            shared=self._shared,
            series={
                key: Series(np.frombuffer(times), np.frombuffer(values))
                for key, (times, values) in self._columns.items()
            },
        )

    def problems(self) -> Iterator[str]:
        name, after = f"segment {self.number}", self._seconds(self._last)
        if self._end is None:
            yield (
                f"{name} has no end: its recorder or its machine stopped {after:.1f} s after it "
                "began; what is known up to there counts"
            )
        elif self._end["end"] == "died":
            yield f"{name}: its job was killed without a word; what is known up to there counts"
        if self._strangers:
            yield f"{name}: {self._strangers} marks were made under another boot and are left out"
        times = [mark.time for mark in self._marks]
        if times != sorted(times):
            yield f"{name}: marks stand out of order; they are taken in the order of their times"
        for why, count in self._lost.items():
            yield f"{name}: {count} lines could not be written ({why}); see its largest gap"
        if self.header["problem"]:
            yield f"{name}: {self.header['problem']}"
        yield from (f"{name}: {said}" for said in self._said)
        for gpu in self.header["gpus"]:
            if gpu["refused"]:
                yield f"{name}: {gpu['uuid']} was not metered: {gpu['refused']}"
        if not self._uuids and (self.header.get("rapl") or {}).get("reason"):
            yield f"{name}: {self.header['rapl']['reason']}"
        if self._shared:
            yield (
                f"{name}: other metered jobs ran on this node meanwhile; RAPL counts the node, so "
                "what it counted is none of them's alone and is left out"
            )

    def _mark(self, line: Mapping[str, Any]) -> Mark:
        counters = line.get("counter_mj", {})
        return Mark(
            phase=line["mark"],
            time=self._seconds(line["t"]),
            attempt=line.get("attempt"),
            step=line.get("step"),
            counters_j={uuid: mj / 1000 for uuid, mj in counters.items() if mj is not None},
            checkpoint_counted=line.get("checkpoint_counted"),
        )

    def _sample(self, line: Mapping[str, Any]) -> None:
        time = self._seconds(line["t"])
        for name, (key, factor) in PER_GPU.items():
            if key in line:
                same = [line["t"]] * len(self._uuids)
                moments = line["counter_ns"] if name == "counter_j" else same
                for uuid, moment, value in zip(self._uuids, moments, line[key], strict=True):
                    self._add(name, uuid, self._seconds(moment), value, factor)
        self._add("cpu_s", "", time, line.get("cpu_s"), 1.0)
        if now := line.get("rapl_uj"):
            # The zones' growth since the first reading adds up, through wraps to 0.
            before, self._rapl = self._rapl or now, now
            for old, new, range_ in zip(before, now, self.header["rapl"]["ranges_uj"], strict=True):
                self._rapl_j += (new - old + (range_ if new < old else 0)) / 1e6
            self._add("rapl_j", "", time, self._rapl_j, 1.0)

    def _add(self, name: str, gpu: str, time: float, value: float | None, factor: float) -> None:
        if value is not None:
            times, values = self._columns.setdefault((name, gpu), (array("d"), array("d")))
            times.append(time)
            values.append(value * factor)

    def _seconds(self, nanoseconds: int) -> float:
        return float((nanoseconds - self._zero) / 1e9)


def _lines(file: Path, problems: list[str]) -> Iterator[str]:
    try:
        stream = open_log(file)
    except OSError as error:
        raise LogError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        try:
            yield from (line for line in stream if line != "\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problems.append(f"{file} is damaged ({error}); all lines before that count")


def _between(segments: Sequence[Segment]) -> list[str]:
    """Return the problems between segments, and count time on the same meter once."""
    problems: list[str] = []
    boots = {segment.header["boot_id"] for segment in segments}
    if len(boots) > 1:
        problems.append(
            f"the segments come from {len(boots)} boots; times are compared within a segment only, "
            "so all of them count"
        )
    for earlier, later in itertools.combinations(segments, 2):
        seconds = _overlap_s(earlier, later)
        if seconds > SLACK_S:
            start = (later.header["t"] - earlier.header["t"]) / 1e9
            earlier.excluded.append((start, start + later.length_s))
            problems.append(
                f"segments {earlier.number} and {later.number} overlap by {seconds:.1f} s on the "
                f"same meter; that time is counted once, in segment {later.number}"
            )
    return problems


def _overlap_s(a: Segment, b: Segment) -> float:
    shared = set(a.gpus) & set(b.gpus) or (_has_rapl(a) and _has_rapl(b))
    if not shared or a.header["boot_id"] != b.header["boot_id"]:
        return 0.0
    start = max(a.header["t"], b.header["t"])
    end = min(a.header["t"] + a.length_s * 1e9, b.header["t"] + b.length_s * 1e9)
    return float(end - start) / 1e9


def _has_rapl(segment: Segment) -> bool:
    return bool((segment.header["rapl"] or {}).get("zones"))
