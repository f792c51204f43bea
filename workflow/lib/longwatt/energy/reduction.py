"""From an energy log to numbers: per phase and GPU, their sums, what was wasted, and what is wrong with the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.energy.attempts import IDLE, Interval, intervals
from longwatt.energy.kept import BETWEEN, GENERATE, Division, divide, judged
from longwatt.energy.segments import Kept, Log, Segment, read_log
from longwatt.energy.windows import (
    COUNTER,
    COVERED,
    GAP_S,
    INTEGRAL,
    RAPL,
    Device,
    Part,
    Reading,
    Stretch,
    Window,
    growth,
    mean_of,
    minus,
    values_of,
)

J_PER_KWH = 3.6e6
ESTIMATE, NONE = "estimate", "none"
MEASURED = (COUNTER, INTEGRAL, RAPL)  # the best first
PASSES_PCT, FLAGGED_PCT = 2.0, 5.0  # counter against integral
CPU_BRACKET_S = 60.0  # an estimate may rest on readings of CPU time that a busy machine delayed
SHORT_S = 5.0  # of a shorter phase nothing is claimed
UNSAID = 0.01  # share of an inference that may have been unmetered without a word
FILLED = (
    0.95  # share of a stretch that must be batches, or their pauses' power is too much of the mean
)
IDLE_S = 2.0  # shortest stretch that an idle power is taken from
# Bits of nvmlClocksEventReasons that mean: slower than it could be (idle and chosen clocks are no throttling).
THROTTLED = {
    "power_cap": 0x4,
    "hardware": 0x8,
    "heat": 0x20,
    "hardware_heat": 0x40,
    "power_brake": 0x80,
}
# How several GPUs' facts become their job's.
ADDED = (
    "energy_j", "energy_j_counter", "energy_j_integral", "energy_kwh_paper", "net_energy_j", "samples",
    "counter_resets",
)  # fmt: skip
AMOUNTS = ("energy_j", "energy_j_counter", "energy_j_integral", "energy_kwh_paper", "net_energy_j")
MEANS = ("mean_gpu_utilization_pct", "mean_gpu_memory_gib", "throttled_pct", "coverage_pct")
LARGEST = ("windows", "peak_power_w", "largest_gap_s", "peak_gpu_memory_gib", "counter_stale_s")


def summarize(paths: Iterable[Path], watts_per_core: float | None = None) -> dict[str, Any]:
    """Read one log, or several as one, oldest first, and reduce it to numbers; see `reduce_log`.

    Raises:
        LogError: nothing in it can be read.
    """
    return reduce_log(read_log(paths), watts_per_core)


def reduce_log(log: Log, watts_per_core: float | None) -> dict[str, Any]:
    """Reduce a log to numbers.

    Args:
        log: as `longwatt.energy.segments.read_log` gives it.
        watts_per_core: what one busy core draws, if energy may be estimated where it is not measured.

    Returns:
        The columns of `_facts` for the whole of the work; by `phases`; by `gpus` (each with its own `phases`); of what
        was `wasted`; `job_s` and `gpu_s` (of all its runs, idle and load included); `attempts`; `problems` (sentences);
        `timeline`
        (every interval, in seconds of the job's time). The whole of a job that counts attempts is its training or
        inference as far as it was kept; of any other, everything but idle. None is unknown.
    """
    segments = {segment.number: segment for segment in log.segments}
    found = intervals(log.segments)
    division = divide(log.kept, log.segments, found) if log.kept else None
    if division:
        found = judged(found, division, log.segments)
    uuids = _uuids(log.segments)
    held = {number: _held_s(segment) for number, segment in segments.items()}
    problems = list(log.problems)

    def total(parts: Sequence[Part]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        return _total(parts, uuids, watts_per_core)

    by_phase = {name: total(parts) for name, parts in _phases(found, segments, division).items()}
    if division:
        by_phase[GENERATE] = _whole_inference(by_phase[GENERATE], division, log.kept, problems)
        whole, whole_by_gpu = by_phase[GENERATE]
    else:
        whole, whole_by_gpu = total(
            _parts([i for i in found if i.kept and i.phase not in IDLE], segments)
        )
    wasted, _ = total(_wasted(found, segments, division))
    return {
        **whole,
        "phases": {name: total for name, (total, _) in by_phase.items()},
        "gpus": {
            uuid: {
                **_gpu(log.segments, uuid),
                **whole_by_gpu[uuid],
                "phases": {name: rows[uuid] for name, (_, rows) in by_phase.items()},
            }
            for uuid in uuids
        },
        "wasted": wasted,
        "job_s": sum(held.values()),
        "gpu_s": sum(held[number] * len(segment.gpus) for number, segment in segments.items()),
        "attempts": len({i.attempt for i in found} - {None}) or len(log.segments),
        "problems": problems,
        "timeline": timeline(log.segments, found),
    }


def _phases(
    found: Sequence[Interval], segments: dict[int, Segment], division: Division | None
) -> dict[str, list[Part]]:
    """What each phase is made of, in the order of the log; of batches those that are kept."""
    names = list(dict.fromkeys(i.phase for i in found if i.kept or not i.wasted))
    phases = {
        name: _parts([i for i in found if i.phase == name and not i.wasted], segments)
        for name in names
    }
    if division is None:
        return phases
    phases[GENERATE] = division.kept
    return {**phases, **({BETWEEN: division.between} if division.between else {})}


def _wasted(
    found: Sequence[Interval], segments: dict[int, Segment], division: Division | None
) -> list[Part]:
    """What was spent for nothing; of batches' time what the division says."""
    intervals_ = [i for i in found if i.wasted and not (division and i.phase == GENERATE)]
    return [*_parts(intervals_, segments), *(division.wasted if division else [])]


def _whole_inference(
    found: tuple[dict[str, Any], dict[str, dict[str, Any]]],
    division: Division,
    inferences: Sequence[Kept],
    problems: list[str],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The facts of an inference's kept batches over its own seconds, with what no meter saw of them.

    A small part that was not metered counts with the mean power of the rest, and is flagged; a larger one leaves the
    energy unknown.
    """
    row, by_gpu = found
    every = sum(one.seconds for kept in inferences for one in kept.batches)
    runtime = sum(kept.seconds for kept in inferences)
    lacking = division.unmetered_s / every if every > 0 else 0.0
    known = lacking <= 1 - COVERED
    if division.unmetered_s > GAP_S or lacking > UNSAID:
        says = (
            "counts with the mean power of the rest"
            if known
            else "is too much for their energy to be known"
        )
        problems.append(
            f"{division.unmetered_s:.3g} s of the batches that are kept ({100 * lacking:.2g} % of their "
            f"time) were not metered; that {says}"
        )
        row = {**row, "flags": list(dict.fromkeys([*row["flags"], *(["gap"] if known else [])]))}
    row = (
        _extended(row, 1 / (1 - lacking))
        if known
        else {**row, **dict.fromkeys(AMOUNTS), "energy_source": NONE}
    )
    joules, measured = row["energy_j"], row["energy_source"] in MEASURED
    row = {**row, "duration_s": runtime, "measured": measured}
    row["mean_power_w"] = joules / runtime if joules is not None and runtime > 0 else None
    return _finished(row), by_gpu


def _extended(row: dict[str, Any], factor: float) -> dict[str, Any]:
    return {**row, **{name: None if row[name] is None else row[name] * factor for name in AMOUNTS}}


def timeline(segments: Sequence[Segment], found: Sequence[Interval]) -> list[dict[str, Any]]:
    """Every interval in seconds of the job's time: segments follow each other without the time between them."""
    starts = _starts(segments)
    return [
        {
            "phase": i.phase,
            "attempt": i.attempt,
            "start_s": starts[i.segment] + i.start,
            "end_s": starts[i.segment] + i.end,
            "wasted": i.wasted,
        }
        for i in found
    ]


def power_over_time(segments: Sequence[Segment], bins: int) -> list[dict[str, Any]]:
    """Mean and largest sampled power by GPU in at most `bins` stretches of the job's time (columns as CSV rows)."""
    starts = _starts(segments)
    edges = np.linspace(0, max(sum(segment.length_s for segment in segments), 1e-9), bins + 1)
    rows = []
    for gpu in _uuids(segments):
        curves = [
            (starts[one.number], Device(one, gpu).samples) for one in segments if gpu in one.gpus
        ]
        times = np.concatenate([start + curve.times for start, curve in curves])
        watts = np.concatenate([curve.values for _, curve in curves])
        places = np.clip(np.digitize(times, edges) - 1, 0, bins - 1)
        for place in np.unique(places):
            chosen = watts[places == place]
            middle = float(edges[place] + edges[place + 1]) / 2
            rows.append(
                {
                    "seconds": middle,
                    "gpu": gpu,
                    "mean_w": float(chosen.mean()),
                    "max_w": float(chosen.max()),
                }
            )
    return rows


def _starts(segments: Sequence[Segment]) -> dict[int, float]:
    lengths = [0.0, *(segment.length_s for segment in segments)]
    return {
        segment.number: float(start)
        for segment, start in zip(segments, np.cumsum(lengths), strict=False)
    }


def _parts(chosen: Sequence[Interval], segments: dict[int, Segment]) -> list[Part]:
    """Windows by segment; neighbours are joined, so that a counter between them need not be known."""
    parts = []
    for number, segment in segments.items():
        windows: list[Window] = []
        for interval in (i for i in chosen if i.segment == number):
            if windows and windows[-1][1] == interval.start:
                windows[-1] = (windows[-1][0], interval.end)
            else:
                windows.append((interval.start, interval.end))
        counted = tuple(
            Stretch.of(piece) for window in windows for piece in minus(window, segment.excluded)
        )
        if counted:
            parts.append(Part(segment, counted))
    return parts


def _held_s(segment: Segment) -> float:
    """How long a run had its devices, less what another run's segment has measured too."""
    return sum(end - start for start, end in minus((0.0, segment.length_s), segment.excluded))


def _total(
    parts: Sequence[Part], uuids: Sequence[str], watts_per_core: float | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Facts of all that a job had, and of each GPU; its runs may have been on different ones."""
    of = {
        uuid: [part for part in parts if uuid in part.segment.gpus and part.gpu in (None, uuid)]
        for uuid in uuids
    }
    rows = {uuid: _facts(own, uuid) for uuid, own in of.items()}
    had = [rows[uuid] for uuid in uuids if of[uuid]]
    duration = sum(part.seconds for part in parts)
    whole = _facts(parts, "") if not had else had[0] if len(had) == 1 else _sum(had, duration)
    if had and any(not part.segment.gpus and part.seconds > 0 for part in parts):
        # A run without GPUs took part, whose energy no GPU has counted.
        whole |= {
            **dict.fromkeys((*AMOUNTS, "mean_power_w")),
            "energy_source": NONE,
            "measured": False,
        }
    if whole["energy_source"] == NONE and not had and watts_per_core is not None:
        whole |= _estimate(parts, watts_per_core, duration)
    return _finished(whole), {uuid: _finished(row) for uuid, row in rows.items()}


def _finished(row: dict[str, Any]) -> dict[str, Any]:
    """Facts with what follows from them."""
    flags = row["flags"]
    if (
        row["energy_source"] == NONE
    ):  # nothing is claimed, so nothing needs a warning of how long it took
        flags = [flag for flag in flags if flag != "short"]
    return {
        **row,
        "flags": flags,
        "energy_kwh": _kwh(row["energy_j"]),
        "net_energy_kwh": _kwh(row["net_energy_j"]),
    }


def _facts(parts: Sequence[Part], gpu: str) -> dict[str, Any]:
    """One device over the windows of all segments."""
    devices = [(Device(part.segment, gpu), part) for part in parts]
    # Every process stands for its share of the processors; a GPU is one process's own.
    readings = [
        d.read(window).part(1.0 if gpu else part.share)
        for d, part in devices
        for window in part.windows
    ]
    duration = sum(reading.duration_s for reading in readings)
    energy = _sum_of(readings, lambda r: r.energy_j)
    counter, integral = (
        _sum_of(readings, lambda r: r.counter_j),
        _sum_of(readings, lambda r: r.integral_j),
    )
    samples = sum(reading.samples for reading in readings)
    sampled_w = sum(reading.sample_sum_w for reading in readings) / samples if samples else None
    idle = _idle_w([part.segment for part in parts], gpu)
    crosscheck = 100 * (integral - counter) / counter if integral is not None and counter else None
    facts = {
        "duration_s": duration,
        "filled_pct": 100 * _filled(parts),
        "windows": len(readings),
        "energy_j": energy,
        "energy_source": _worst([reading.source for reading in readings]),
        "energy_j_counter": counter if gpu else None,
        "energy_j_integral": integral,
        "crosscheck_pct": crosscheck,
        "energy_kwh_paper": None if sampled_w is None else sampled_w * duration / J_PER_KWH,
        "mean_power_w": energy / duration if energy is not None and duration > 0 else None,
        "peak_power_w": max((r.peak_w for r in readings if r.peak_w is not None), default=None),
        "idle_power_w": idle,
        "net_energy_j": None if idle is None or energy is None else energy - idle * duration,
        "samples": samples,
        "largest_gap_s": max((reading.largest_gap_s for reading in readings), default=None)
        if gpu
        else None,
        "coverage_pct": 100 * sum(r.covered_s for r in readings) / duration
        if duration > 0 and gpu
        else None,
        "counter_resets": sum(reading.resets for reading in readings),
        "counter_stale_s": max((reading.stale_s for reading in readings), default=0.0),
        **_states(devices),
    }
    facts["measured"] = facts["energy_source"] in MEASURED
    return {**facts, "flags": _flags(facts)}


def _filled(parts: Sequence[Part]) -> float:
    """The share of all stretches that counts."""
    spans = sum(window.end - window.start for part in parts for window in part.windows)
    return (
        sum(window.seconds for part in parts for window in part.windows) / spans
        if spans > 0
        else 1.0
    )


def _states(metered: Sequence[tuple[Device, Part]]) -> dict[str, Any]:
    """Utilisation, memory and throttling of one GPU."""
    devices = [(device, [(w.start, w.end) for w in part.windows]) for device, part in metered]
    lengths = [sum(window.seconds for window in part.windows) for _, part in metered]

    def mean(name: str) -> float | None:
        means = [
            mean_of(d.segment.of(name, d.gpu), windows) if d.gpu else None for d, windows in devices
        ]
        known = [
            (m, length)
            for m, length in zip(means, lengths, strict=True)
            if m is not None and length > 0
        ]
        weight = sum(length for _, length in known)
        return sum(m * length for m, length in known) / weight if known else None

    def values(name: str) -> Any:
        return np.concatenate(
            [[], *(values_of(d.segment.of(name, d.gpu), w) for d, w in devices if d.gpu)]
        )

    memory, reasons = values("memory_gib"), values("throttle").astype(int)
    shares = (
        {name: float(100 * np.mean((reasons & bit) != 0)) for name, bit in THROTTLED.items()}
        if len(reasons)
        else {}
    )
    return {
        "mean_gpu_utilization_pct": mean("utilization_pct"),
        "mean_gpu_memory_gib": mean("memory_gib"),
        "peak_gpu_memory_gib": float(memory.max()) if len(memory) else None,
        "throttled_pct": float(100 * np.mean((reasons & sum(THROTTLED.values())) != 0))
        if len(reasons)
        else None,
        "throttle_reasons_pct": {name: share for name, share in shares.items() if share > 0},
    }


def _sum(rows: Sequence[dict[str, Any]], duration: float) -> dict[str, Any]:
    """Several GPUs of one job: joules are summed, shares are means over their time, extremes stay extremes."""
    row: dict[str, Any] = {"duration_s": duration}
    row |= {name: _all(rows, name, sum) for name in ADDED}
    row |= {name: _over_time(rows, name) for name in MEANS}
    row |= {name: _all(rows, name, max) for name in LARGEST}
    row["filled_pct"] = _all(rows, "filled_pct", min)
    idle_j = _all(
        [{"j": r["idle_power_w"] and r["idle_power_w"] * r["duration_s"]} for r in rows], "j", sum
    )
    row["idle_power_w"] = idle_j / duration if idle_j is not None and duration > 0 else None
    row["mean_power_w"] = (
        row["energy_j"] / duration if row["energy_j"] is not None and duration > 0 else None
    )
    reasons = sorted({reason for one in rows for reason in one["throttle_reasons_pct"]})
    seconds = sum(one["duration_s"] for one in rows)
    row["throttle_reasons_pct"] = {
        r: sum(one["throttle_reasons_pct"].get(r, 0) * one["duration_s"] for one in rows) / seconds
        for r in reasons
    }
    counter, integral = row["energy_j_counter"], row["energy_j_integral"]
    row["crosscheck_pct"] = (
        100 * (integral - counter) / counter if counter and integral is not None else None
    )
    row["energy_source"] = _worst(
        [None if one["energy_j"] is None else one["energy_source"] for one in rows]
    )
    row["measured"] = row["energy_source"] in MEASURED
    row["flags"] = sorted({flag for one in rows for flag in one["flags"]})
    return row


def _over_time(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """The mean over several GPUs, each weighted by its time; unknown if one of them is."""
    seconds = sum(row["duration_s"] for row in rows)
    weighted = [None if row[name] is None else row[name] * row["duration_s"] for row in rows]
    return (
        None
        if None in weighted or not seconds
        else sum(value for value in weighted if value) / seconds
    )


def _all(rows: Sequence[dict[str, Any]], name: str, combine: Callable[[list[Any]], Any]) -> Any:
    """What all GPUs together have; unknown if one of them is."""
    values = [row[name] for row in rows]
    return None if any(value is None for value in values) else combine(values)


def _sum_of(readings: Sequence[Reading], value: Callable[[Reading], float | None]) -> float | None:
    found = [value(reading) for reading in readings]
    known = [joules for joules in found if joules is not None]
    return sum(known) if known and len(known) == len(found) else None


def _worst(sources: Sequence[str | None]) -> str:
    """The least trustworthy source that a sum rests on; none if a part is unknown."""
    if not sources or None in sources:
        return NONE
    return max((source for source in sources if source), key=[*MEASURED, ESTIMATE, NONE].index)


def _estimate(parts: Sequence[Part], watts_per_core: float, duration: float) -> dict[str, Any]:
    """Declared watts per busy core times the CPU time of the job and all that it started."""
    growths = [_busy_s(part, window) for part in parts for window in part.windows]
    if not growths or any(seconds is None for seconds in growths):
        return {}
    joules = watts_per_core * sum(seconds for seconds in growths if seconds is not None)
    return {
        "energy_j": joules,
        "energy_source": ESTIMATE,
        "mean_power_w": joules / duration if duration > 0 else None,
    }


def _busy_s(part: Part, window: Stretch) -> float | None:
    """CPU seconds of a stretch, as far as it counts."""
    span = window.end - window.start
    grown = growth(part.segment.of("cpu_s"), (window.start, window.end), CPU_BRACKET_S)
    return None if grown is None or not span > 0 else grown * part.share * window.seconds / span


def _idle_w(segments: Sequence[Segment], gpu: str) -> float | None:
    """The lower of what a GPU drew before and after its work; the median, since the mean of a second lags."""
    found = []
    for segment in segments if gpu else ():
        device = Device(segment, gpu)
        for interval in intervals([segment]):
            if interval.phase in IDLE and interval.duration_s >= 0.9 * IDLE_S:
                watts = values_of(device.samples, [(interval.start, interval.end)])
                found += [float(np.median(watts))] if len(watts) else []
    return min(found, default=None)


def _flags(facts: dict[str, Any]) -> list[str]:
    """What a reader must know of a row, as single words; docs/energy.md explains each."""
    crosscheck, gap = facts["crosscheck_pct"], facts["largest_gap_s"]
    checks = {
        "short": facts["duration_s"] < SHORT_S * max(1, facts["windows"]),
        "interleaved": facts["filled_pct"] < 100 * FILLED,
        "crosscheck": crosscheck is not None and abs(crosscheck) > FLAGGED_PCT,
        "gap": gap is not None and gap > GAP_S,
        "counter_reset": facts["counter_resets"] > 0,
        "counter_stale": facts["counter_stale_s"] > 0,
    }
    return [name for name, holds in checks.items() if holds]


def _uuids(segments: Sequence[Segment]) -> list[str]:
    return list(dict.fromkeys(uuid for segment in segments for uuid in segment.gpus))


def _gpu(segments: Sequence[Segment], uuid: str) -> dict[str, Any]:
    """What the log's last header says a GPU is."""
    described = [
        gpu for segment in segments for gpu in segment.header["gpus"] if gpu["uuid"] == uuid
    ][-1]
    kept = ("name", "driver", "power_limit_w", "default_power_limit_w", "sensors", "refused")
    return {key: described.get(key) for key in kept}


def _kwh(joules: float | None) -> float | None:
    return None if joules is None else joules / J_PER_KWH
