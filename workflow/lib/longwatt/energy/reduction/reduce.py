"""Numbers of an energy log: by phase and GPU, with waste and problems."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longwatt.energy.rated import NO_ESTIMATE, WATTS_KEY, Rating, rate
from longwatt.energy.reduction import windows as meters
from longwatt.energy.reduction.attempts import IDLE, TimeSpan, intervals
from longwatt.energy.reduction.kept import BETWEEN_BATCHES, GENERATE, Division, divide, judged
from longwatt.energy.reduction.segments import Kept, Log, Segment, read_log
from longwatt.energy.reduction.windows import MeteredDevice, MeteredPart, Stretch, Window

J_PER_KWH = 3.6e6
ESTIMATE, NO_SOURCE = "estimate", "none"
MEASURED_SOURCES = (meters.COUNTER, meters.INTEGRAL, meters.RAPL)  # the best first
FLAGGED_PCT = 5.0  # counter against integral
CPU_BRACKET_S = 60.0  # an estimate may rest on readings of CPU time that a busy machine delayed
SHORT_S = 5.0  # nothing is claimed of a shorter phase
UNMETERED_SHARE = 0.01  # share of an inference that may be unmetered without a note
FILLED = 0.95  # share of a stretch that must be batches, or their pauses weigh too much
SHORTEST_IDLE_S = 2.0  # idle that gives an idle power; a tenth less does too
# Bits of nvmlClocksEventReasons that mean slower than it could be; idle and chosen clocks do not.
THROTTLED = {
    "power_cap": 0x4,
    "hardware": 0x8,
    "heat": 0x20,
    "hardware_heat": 0x40,
    "power_brake": 0x80,
}
# How several GPUs' facts become their job's.
AMOUNTS = ("energy_j", "energy_j_counter", "energy_j_integral", "energy_kwh_paper", "net_energy_j")
ADDED = (*AMOUNTS, "samples", "counter_resets")
MEAN_COLUMNS = ("mean_gpu_utilization_pct", "mean_gpu_memory_gib", "throttled_pct", "coverage_pct")
MAXIMA = ("windows", "peak_power_w", "largest_gap_s", "peak_gpu_memory_gib", "counter_stale_s")
ReducedRow = dict[str, Any]
Total = tuple[ReducedRow, dict[str, ReducedRow]]  # of a job, and of each of its GPUs


def summarize_log(paths: Iterable[Path], watts_per_core: float | str | None = None) -> ReducedRow:
    """Read one log, or several as one, oldest first, and reduce it as `reduce_log` does.

    Raises:
        LogError: nothing in it can be read.
    """
    return reduce_log(read_log(paths), watts_per_core)


def reduce_log(log: Log, watts_per_core: float | str | None) -> ReducedRow:
    """Reduce a log to numbers.

    Watts per busy core give an estimate where nothing is measured: a number, or those of each run's
    own processor by `longwatt.energy.rated.rate`. None makes no estimate.

    The whole of a job that counts attempts is its training or inference as far as it was kept. The
    whole of any other is everything but idle.

    Returns:
        The columns of `_facts` for the whole of the work; by `phases`; by `gpus` (each with its own
        `phases`); of the time that was `wasted`; `job_s` and `gpu_s` (of all its runs, idle and
        load included); `attempts`; `problems` (sentences); `timeline` (every interval, in seconds
        of the job's time); of an estimate its `watts_per_core` and their `watts_basis`. None is
        unknown.
    """
    segments = {segment.number: segment for segment in log.segments}
    found = intervals(log.segments)
    division = divide(log.kept, log.segments, found) if log.kept else None
    found = judged(found, division, log.segments) if division else found
    uuids = _uuids(log.segments)
    # How long each run had its devices alone.
    alone = {n: meters.minus([(0.0, one.length_s)], one.excluded) for n, one in segments.items()}
    held = {number: sum(end - start for start, end in pieces) for number, pieces in alone.items()}
    problems = list(log.problems)
    ratings = {n: rate(watts_per_core, one.header.get("processor")) for n, one in segments.items()}
    total = functools.partial(_total, uuids=uuids, ratings=ratings)
    by_phase = {name: total(parts) for name, parts in _phases(found, segments, division).items()}
    if division:
        by_phase[GENERATE] = _whole_inference(by_phase[GENERATE], division, log.kept, problems)
        whole, by_gpu = by_phase[GENERATE]
    else:
        working = [i for i in found if i.kept and i.phase not in IDLE]
        whole, by_gpu = total(_parts(working, segments))
    wasted, _ = total(_wasted(found, segments, division))
    if whole["energy_source"] == NO_SOURCE and not uuids and watts_per_core is not None:
        problems += [f"{NO_ESTIMATE}{one.basis}" for one in _distinct(ratings) if not one.watts]
    return {
        **whole,
        **_rested_on(whole["energy_source"], _distinct(ratings)),
        "phases": {name: row for name, (row, _) in by_phase.items()},
        "gpus": _gpus(log.segments, by_gpu, by_phase),
        "wasted": wasted,
        "job_s": sum(held.values()),
        "gpu_s": sum(held[number] * len(segment.gpus) for number, segment in segments.items()),
        "attempts": len({i.attempt for i in found} - {None}) or len(log.segments),
        "problems": problems,
        "timeline": timeline(log.segments, found),
    }


def _phases(
    found: Sequence[TimeSpan], segments: dict[int, Segment], division: Division | None
) -> dict[str, list[MeteredPart]]:
    """Return the parts of each phase in the order of the log, without lost batches."""
    phases: dict[str, list[MeteredPart]] = {}
    for name in dict.fromkeys(i.phase for i in found if i.kept or not i.wasted):
        own = [i for i in found if i.phase == name and not i.wasted]
        phases[name] = _parts(own, segments)
    if division:
        phases[GENERATE] = division.kept
        if division.between:
            phases[BETWEEN_BATCHES] = division.between
    return phases


def _wasted(
    found: Sequence[TimeSpan], segments: dict[int, Segment], division: Division | None
) -> list[MeteredPart]:
    if division is None:
        return _parts([i for i in found if i.wasted], segments)
    others = [i for i in found if i.wasted and i.phase != GENERATE]
    return [*_parts(others, segments), *division.wasted]


def _whole_inference(
    found: Total, division: Division, inferences: Sequence[Kept], problems: list[str]
) -> Total:
    """Return the facts of an inference's kept batches over its own seconds.

    A small part that was not metered counts with the mean power of the rest, and is flagged. A
    larger one leaves the energy unknown.
    """
    row, by_gpu = dict(found[0]), found[1]
    every = sum(one.seconds for kept in inferences for one in kept.batches)
    runtime = sum(kept.seconds for kept in inferences)
    lacking = division.unmetered_s / every if every > 0 else 0.0
    known = lacking <= 1 - meters.COVERED
    if division.unmetered_s > meters.GAP_S or lacking > UNMETERED_SHARE:
        unknown = "is too much for their energy to be known"
        says = "counts with the mean power of the rest" if known else unknown
        problems.append(
            f"{division.unmetered_s:.3g} s of the batches that are kept ({100 * lacking:.2g} % of "
            f"their time) were not metered; that {says}"
        )
        row["flags"] = list(dict.fromkeys([*row["flags"], *(["gap"] if known else [])]))
    if known:
        factor = 1 / (1 - lacking)
        row |= {name: None if row[name] is None else row[name] * factor for name in AMOUNTS}
    else:
        row |= {**dict.fromkeys(AMOUNTS), "energy_source": NO_SOURCE}
    row |= {"duration_s": runtime, "measured": row["energy_source"] in MEASURED_SOURCES}
    row["mean_power_w"] = _per(row["energy_j"], runtime)
    return _finished(row), by_gpu


def timeline(segments: Sequence[Segment], found: Sequence[TimeSpan]) -> list[ReducedRow]:
    """Return every interval in seconds of the job's time, without time between segments."""
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


def power_over_time(segments: Sequence[Segment], bins: int) -> list[ReducedRow]:
    """Return each GPU's mean and largest sample in at most `bins` stretches."""
    starts = _starts(segments)
    edges = np.linspace(0, max(sum(segment.length_s for segment in segments), 1e-9), bins + 1)
    rows = []
    for gpu in _uuids(segments):
        own = [one for one in segments if gpu in one.gpus]
        curves = [(starts[one.number], MeteredDevice(one, gpu).samples) for one in own]
        times = np.concatenate([start + curve.times for start, curve in curves])
        watts = np.concatenate([curve.values for _, curve in curves])
        places = np.clip(np.digitize(times, edges) - 1, 0, bins - 1)
        for place in np.unique(places):
            chosen = watts[places == place]
            middle = float(edges[place] + edges[place + 1]) / 2
            powers = {"mean_w": float(chosen.mean()), "max_w": float(chosen.max())}
            rows.append({"seconds": middle, "gpu": gpu, **powers})
    return rows


def _starts(segments: Sequence[Segment]) -> dict[int, float]:
    starts = np.cumsum([0.0, *(segment.length_s for segment in segments)])
    return {one.number: float(start) for one, start in zip(segments, starts, strict=False)}


def _parts(chosen: Sequence[TimeSpan], segments: dict[int, Segment]) -> list[MeteredPart]:
    """Return windows by segment, neighbours joined: a counter between them need not be known."""
    parts = []
    for number, segment in segments.items():
        windows: list[Window] = []
        for interval in (i for i in chosen if i.segment == number):
            if windows and windows[-1][1] == interval.start:
                windows[-1] = (windows[-1][0], interval.end)
            else:
                windows.append((interval.start, interval.end))
        if pieces := meters.minus(windows, segment.excluded):
            parts.append(MeteredPart(segment, tuple(map(Stretch.of, pieces))))
    return parts


def _total(
    parts: Sequence[MeteredPart], uuids: Sequence[str], ratings: Mapping[int, Rating]
) -> Total:
    """Return the facts of a whole job and of each GPU that its runs had."""
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
        whole |= dict.fromkeys((*AMOUNTS, "mean_power_w"))
        whole |= {"energy_source": NO_SOURCE, "measured": False}
    if whole["energy_source"] == NO_SOURCE and not had:
        whole |= _estimate(parts, ratings, duration)
    return _finished(whole), {uuid: _finished(row) for uuid, row in rows.items()}


def _finished(row: ReducedRow) -> ReducedRow:
    """Return facts with those that follow from them."""
    flags = row["flags"]
    # Nothing is claimed of an unknown energy, so nothing needs a warning of how long it took.
    if row["energy_source"] == NO_SOURCE:
        flags = [flag for flag in flags if flag != "short"]
    kwh, net = _per(row["energy_j"], J_PER_KWH), _per(row["net_energy_j"], J_PER_KWH)
    return {**row, "flags": flags, "energy_kwh": kwh, "net_energy_kwh": net}


def _facts(parts: Sequence[MeteredPart], gpu: str) -> ReducedRow:
    devices = [(MeteredDevice(part.segment, gpu), part) for part in parts]
    # Every process stands for its share of the processors; a GPU is one process's own.
    readings = [
        device.read(window).part(1.0 if gpu else part.share)
        for device, part in devices
        for window in part.windows
    ]
    duration = sum(reading.duration_s for reading in readings)
    energy = _all([reading.energy_j for reading in readings])
    counter = _all([reading.counter_j for reading in readings])
    integral = _all([reading.integral_j for reading in readings])
    samples = sum(reading.samples for reading in readings)
    sampled_w = sum(reading.sample_sum_w for reading in readings) / samples if samples else None
    idle = _idle_w([part.segment for part in parts], gpu)
    covered = 100 * sum(reading.covered_s for reading in readings)
    facts = {
        "duration_s": duration,
        "filled_pct": 100 * _filled(parts),
        "windows": len(readings),
        "energy_j": energy,
        "energy_source": _worst([reading.source for reading in readings]),
        "energy_j_counter": counter if gpu else None,
        "energy_j_integral": integral,
        "crosscheck_pct": _crosscheck_pct(counter, integral),
        "energy_kwh_paper": None if sampled_w is None else sampled_w * duration / J_PER_KWH,
        "mean_power_w": _per(energy, duration),
        "peak_power_w": max((r.peak_w for r in readings if r.peak_w is not None), default=None),
        "idle_power_w": idle,
        "net_energy_j": None if idle is None or energy is None else energy - idle * duration,
        "samples": samples,
        "largest_gap_s": max((r.largest_gap_s for r in readings), default=None) if gpu else None,
        "coverage_pct": _per(covered, duration) if gpu else None,
        "counter_resets": sum(reading.resets for reading in readings),
        "counter_stale_s": max((reading.stale_s for reading in readings), default=0.0),
        **_states(devices),
    }
    facts["measured"] = facts["energy_source"] in MEASURED_SOURCES
    return {**facts, "flags": _flags(facts)}


def _filled(parts: Sequence[MeteredPart]) -> float:
    """Return the share of all stretches that counts."""
    windows = [window for part in parts for window in part.windows]
    spans = sum(window.end - window.start for window in windows)
    return sum(window.seconds for window in windows) / spans if spans > 0 else 1.0


def _states(metered: Sequence[tuple[MeteredDevice, MeteredPart]]) -> ReducedRow:
    devices = [
        (device, [(w.start, w.end) for w in part.windows], sum(w.seconds for w in part.windows))
        for device, part in metered
        if device.gpu
    ]

    def mean(name: str) -> float | None:
        means = [
            (meters.mean_over_windows(d.segment.of(name, d.gpu), windows), s)
            for d, windows, s in devices
        ]
        known = [(value, length) for value, length in means if value is not None and length > 0]
        weight = sum(length for _, length in known)
        return sum(value * length for value, length in known) / weight if known else None

    def values(name: str) -> Any:
        found = (meters.values_of(d.segment.of(name, d.gpu), windows) for d, windows, _ in devices)
        return np.concatenate([[], *found])

    memory, reasons = values("memory_gib"), values("throttle").astype(int)

    def share_pct(bits: int) -> float:
        return float(100 * np.mean((reasons & bits) != 0)) if len(reasons) else 0.0

    shares = {name: share_pct(bit) for name, bit in THROTTLED.items()}
    return {
        "mean_gpu_utilization_pct": mean("utilization_pct"),
        "mean_gpu_memory_gib": mean("memory_gib"),
        "peak_gpu_memory_gib": float(memory.max()) if len(memory) else None,
        "throttled_pct": share_pct(sum(THROTTLED.values())) if len(reasons) else None,
        "throttle_reasons_pct": {name: share for name, share in shares.items() if share > 0},
    }


def _sum(rows: Sequence[ReducedRow], duration: float) -> ReducedRow:
    """Join a job's GPUs: joules are summed, shares averaged over time, extremes kept."""

    def over_time(name: str) -> Any:
        return _all([one[name] and one[name] * one["duration_s"] for one in rows])

    seconds = sum(one["duration_s"] for one in rows)
    row: ReducedRow = {"duration_s": duration}
    row |= {name: _all([one[name] for one in rows]) for name in ADDED}
    row |= {name: _per(over_time(name), seconds) for name in MEAN_COLUMNS}
    row |= {name: _all([one[name] for one in rows], max) for name in MAXIMA}
    row["filled_pct"] = _all([one["filled_pct"] for one in rows], min)
    row["idle_power_w"] = _per(over_time("idle_power_w"), duration)
    row["mean_power_w"] = _per(row["energy_j"], duration)
    row["throttle_reasons_pct"] = {
        r: sum(one["throttle_reasons_pct"].get(r, 0) * one["duration_s"] for one in rows) / seconds
        for r in sorted({reason for one in rows for reason in one["throttle_reasons_pct"]})
    }
    row["crosscheck_pct"] = _crosscheck_pct(row["energy_j_counter"], row["energy_j_integral"])
    sources = [None if one["energy_j"] is None else one["energy_source"] for one in rows]
    row["energy_source"] = _worst(sources)
    row["measured"] = row["energy_source"] in MEASURED_SOURCES
    row["flags"] = sorted({flag for one in rows for flag in one["flags"]})
    return row


def _all(values: Sequence[Any], combine: Callable[[Sequence[Any]], Any] = sum) -> Any:
    """Combine the values of all parts (None if one is unknown, or there is none)."""
    return combine(values) if values and None not in values else None


def _per(amount: float | None, whole: float) -> float | None:
    return amount / whole if amount is not None and whole > 0 else None


def _crosscheck_pct(counter: float | None, integral: float | None) -> float | None:
    return 100 * (integral - counter) / counter if integral is not None and counter else None


def _worst(sources: Sequence[str | None]) -> str:
    """Return the least trustworthy source of a sum (none if a part is unknown)."""
    order = [*MEASURED_SOURCES, ESTIMATE, NO_SOURCE]
    return max((source or NO_SOURCE for source in sources), key=order.index, default=NO_SOURCE)


def _estimate(
    parts: Sequence[MeteredPart], ratings: Mapping[int, Rating], duration: float
) -> ReducedRow:
    """Estimate the energy as each machine's watts per busy core times the job's CPU time."""
    joules = _all(
        [
            _times(ratings[part.segment.number].watts, _busy_s(part, window))
            for part in parts
            for window in part.windows
        ]
    )
    if joules is None:
        return {}
    source = {"energy_source": ESTIMATE}
    return {"energy_j": joules, **source, "mean_power_w": _per(joules, duration)}


def _times(watts: float | None, seconds: float | None) -> float | None:
    return None if watts is None or seconds is None else watts * seconds


def _rested_on(source: str, ratings: Sequence[Rating]) -> ReducedRow:
    """Say what an estimate rests on, with None for each where nothing is estimated.

    The watts of runs on unlike processors are None, and their bases are joined.
    """
    if source != ESTIMATE:
        return {WATTS_KEY: None, "watts_basis": None}
    watts = ratings[0].watts if len(ratings) == 1 else None
    return {WATTS_KEY: watts, "watts_basis": " / ".join(one.basis for one in ratings)}


def _distinct(ratings: Mapping[int, Rating]) -> list[Rating]:
    return list(dict.fromkeys(ratings.values()))


def _busy_s(part: MeteredPart, window: Stretch) -> float | None:
    """Return the CPU seconds of a stretch, as far as it counts."""
    span = window.end - window.start
    grown = meters.growth(part.segment.of("cpu_s"), (window.start, window.end), CPU_BRACKET_S)
    return None if grown is None or not span > 0 else grown * part.share * window.seconds / span


def _idle_w(segments: Sequence[Segment], gpu: str) -> float | None:
    """Return the lower of a GPU's median powers before and after its work.

    A sensor that reports means lags.
    """
    found = []
    for segment in segments if gpu else ():
        device = MeteredDevice(segment, gpu)
        for interval in intervals([segment]):
            if interval.phase in IDLE and interval.duration_s >= 0.9 * SHORTEST_IDLE_S:
                watts = meters.values_of(device.samples, [(interval.start, interval.end)])
                found += [float(np.median(watts))] if len(watts) else []
    return min(found, default=None)


def _flags(facts: ReducedRow) -> list[str]:
    """Return a row's caveats as single words, which docs/reference/energy_log.md explains."""
    crosscheck, gap = facts["crosscheck_pct"], facts["largest_gap_s"]
    checks = {
        "short": facts["duration_s"] < SHORT_S * max(1, facts["windows"]),
        "interleaved": facts["filled_pct"] < 100 * FILLED,
        "crosscheck": crosscheck is not None and abs(crosscheck) > FLAGGED_PCT,
        "gap": gap is not None and gap > meters.GAP_S,
        "counter_reset": facts["counter_resets"] > 0,
        "counter_stale": facts["counter_stale_s"] > 0,
    }
    return [name for name, holds in checks.items() if holds]


def _uuids(segments: Sequence[Segment]) -> list[str]:
    return list(dict.fromkeys(uuid for segment in segments for uuid in segment.gpus))


def _gpus(
    segments: Sequence[Segment], by_gpu: dict[str, ReducedRow], by_phase: dict[str, Total]
) -> dict[str, ReducedRow]:
    kept = ("name", "driver", "power_limit_w", "default_power_limit_w", "sensors", "refused")
    described = {gpu["uuid"]: gpu for segment in segments for gpu in segment.header["gpus"]}
    return {
        uuid: {
            **{key: described[uuid].get(key) for key in kept},
            **row,
            "phases": {name: rows[uuid] for name, (_, rows) in by_phase.items()},
        }
        for uuid, row in by_gpu.items()
    }
