"""A page of every cell's power over time.

It shows a cell's curves when that cell is opened.

The curves are drawings in the page itself, thinned to what can be seen; nothing runs in a reader's
browser.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from longwatt.energy.rated import NO_ESTIMATE
from longwatt.files import sha256, whole_file
from longwatt.layout.escaping import in_html
from longwatt.layout.phases import OTHER, PHASES, WASTED
from longwatt.layout.wording import ESTIMATED, number
from longwatt.provenance.artefacts import check_beside, read_artefact, read_from
from longwatt.provenance.stamps import write_json
from longwatt.study.cells import FINETUNE

PANEL_WIDTH, HEIGHT = 800, 150  # of a panel, in the drawing's units
LEFT_MARGIN, BOTTOM, TOP, RIGHT = 50, 36, 8, 12  # what stands around it
MOST_POINTS = 400  # of all curves of a panel, and stretches that are shaded; more cannot be seen
ALL_POINTS = 470_000  # of a page: a report of 1,000 cells stays below 20 MB
FEWEST = 40  # of a panel
SPARSEST = 10  # of a curve, where a panel has many
KEY = 10  # what the name and the colour of one more curve take, as points
# One per GPU.
GPU_COLOURS = ("#000", "#b2182b", "#2166ac", "#762a83", "#8c510a", "#01665e", "#c51b7d", "#4d4d4d")
NO_SENSOR = "Power was not measured: no sensor could be read."
POWER_STYLE = (
    "body{font:14px/1.45 sans-serif;margin:1.5em;max-width:62em}"
    "summary{cursor:pointer;padding:.25em 0}"
    "details{border-bottom:1px solid #ccc}figure{margin:.4em 0 1em}figcaption{font-size:.93em}"
    "svg{width:100%;height:auto;font-size:11px}svg text{fill:#333}.a{stroke:#666;fill:none}"
    ".n{text-anchor:middle}.e{text-anchor:end}.l{fill:none;stroke-width:1.2}"
    ".p{stroke-opacity:.55;fill:none}.k{display:inline-block;width:1.6em;height:.9em;"
    "margin:0 .4em 0 0;border:1px solid #999}.q{white-space:nowrap;margin-right:1em}"
)
# Lines across what was wasted.
HATCHED = (
    "<svg width='0' height='0' style='position:absolute'><defs>"
    "<pattern id='w' width='6' height='6' patternUnits='userSpaceOnUse' "
    "patternTransform='rotate(45)'><path d='M0 0v6' stroke='#333'/></pattern></defs></svg>"
)
HATCHED_KEY = "background:repeating-linear-gradient(135deg,#fff 0 3px,#555 3px 4px)"

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class PowerPart:
    """A metered part of a cell, its energy.json, and its (seconds, watts) by GPU."""

    name: str
    energy: Mapping[str, Any]
    curves: Mapping[str, Curve]


class Kind(NamedTuple):
    """A reason for which a stretch of time is shaded."""

    phase: str
    wasted: bool


def write_power(
    results: Path,
    folder: Path,
    headings: Mapping[str, str],
    parts: Mapping[str, Sequence[str]],
    provenance: Any,
) -> None:
    """Write power.html, a section for each cell, and say in power.json from what.

    Args:
        results: results/{study}.
        folder: gets power.html and power.json.
        headings: cell -> what it is called.
        parts: metered parts of each cell, training first (`longwatt.study.stages.Stages.parts`).
        provenance: the stamp of power.json.
    """
    made_from, points = dict[str, str](), points_of_a_panel(sum(map(len, parts.values())))
    with whole_file(folder / "power.html") as page:
        page.write(_head())
        for cell, heading in headings.items():
            found = [read_part(results / cell, part) for part in parts[cell]]
            page.write(section(heading, found, points))
            paths = [results / cell / part / "energy.json" for part in parts[cell]]
            made_from |= {str(path): sha256(path) for path in paths}
    write_json(folder / "power.json", {"made_from": made_from, "provenance": provenance})


def points_of_a_panel(panels: int) -> int:
    """Count the points of a panel's curves together, fewer where panels are many."""
    return max(FEWEST, min(MOST_POINTS, ALL_POINTS // max(1, panels)))


def read_part(cell: Path, name: str) -> PowerPart:
    """Read what was metered of one part of a cell."""
    measured, curve = cell / name / "energy.json", cell / name / "power.csv"
    check_beside(measured, curve)
    energy, curves = read_artefact(measured), dict[str, Curve]()
    with read_from(curve), curve.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            curves.setdefault(row["gpu"], []).append((float(row["seconds"]), float(row["mean_w"])))
    return PowerPart(name, energy, curves)


def section(heading: str, parts: Sequence[PowerPart], points: int) -> str:
    """Write a cell's section: its name, which opens to a panel for each part."""
    drawn = "".join(_figure(part, points) for part in parts)
    return f"<details><summary>{in_html(heading)}</summary>{drawn}</details>\n"


def thinned(curve: Curve, points: int) -> Curve:
    """Thin a curve to at most so many points, each the mean of its neighbours."""
    size = max(1, math.ceil(len(curve) / points))
    groups = (curve[start : start + size] for start in range(0, len(curve), size))
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def strips(
    timeline: Sequence[Mapping[str, Any]], length: float, count: int
) -> Iterator[tuple[Kind, int, int]]:
    """Yield (kind, first, last) of stretches, each shaded as what it is most."""
    inside: list[dict[Kind, float]] = [{} for _ in range(count)]
    for interval in timeline:
        kind = Kind(interval["phase"], bool(interval["wasted"]))
        first, last = interval["start_s"] * count / length, interval["end_s"] * count / length
        for place in range(int(first), min(count, math.ceil(last))):
            share = min(last, place + 1) - max(first, place)
            inside[place][kind] = inside[place].get(kind, 0.0) + share
    most = ((max(kinds, key=lambda k: kinds[k]) if kinds else None) for kinds in inside)
    for shaded, group in groupby(enumerate(most), key=lambda place: place[1]):
        places = [place for place, _ in group]
        if shaded:
            yield shaded, places[0], places[-1] + 1


def _head() -> str:
    phases = dict.fromkeys([*PHASES.values(), OTHER])
    looks = {name: f"background:{colour};opacity:.7" for name, colour in phases}
    keys = " ".join(
        f"<span class='q'><span class='k' style='{look}'></span>{name}</span>"
        for name, look in [*looks.items(), (WASTED, HATCHED_KEY)]
    )
    title = "Power over time"
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
        f"<style>{POWER_STYLE}</style>{HATCHED}"
        f"<h1>{title}</h1><p>Open a cell to see its curves.</p><p>{keys}</p>\n"
    )


def _figure(part: PowerPart, points: int) -> str:
    points = max(FEWEST, points - KEY * max(0, len(part.curves) - 2))
    length = max((interval["end_s"] for interval in part.energy["timeline"]), default=0.0) or 1.0
    scale, unit = (3600, "h") if length > 3 * 3600 else (60, "min") if length > 3 * 60 else (1, "s")
    box = f"0 0 {LEFT_MARGIN + PANEL_WIDTH + RIGHT} {TOP + HEIGHT + BOTTOM}"
    inner = [*_shades(part, length, points), *_lines(part, length, points), *_across(length, scale)]
    time = f"Time of the job, all its runs ({unit})"
    inner.append(f"<text class='n' x='{PANEL_WIDTH // 2}' y='{HEIGHT + 30}'>{time}</text>")
    point = part.name.removeprefix("predict/")
    name = "Training" if part.name == FINETUNE else f"Inference ({point})"
    caption = in_html(f"{name}: {sentence(part.energy)}")
    return (
        f"<figure><figcaption>{caption}{_gpus(part)}</figcaption>"
        f"<svg viewBox='{box}'><g transform='translate({LEFT_MARGIN} {TOP})'>{''.join(inner)}</g>"
        f"</svg></figure>"
    )


def _shades(part: PowerPart, length: float, points: int) -> Iterator[str]:
    """Draw phases as lines as thick as the panel is high, and hatch wasted time."""
    paths: dict[str, str] = {}
    for kind, first, last in strips(part.energy["timeline"], length, points):
        left, right = round(PANEL_WIDTH * first / points), round(PANEL_WIDTH * last / points)
        for paint in [PHASES.get(kind.phase, OTHER)[1], *(["url(#w)"] if kind.wasted else [])]:
            paths[paint] = paths.get(paint, "") + f"M{left} {HEIGHT // 2}H{right}"
    for paint, path in paths.items():
        yield f"<path class='p' stroke-width='{HEIGHT}' stroke='{paint}' d='{path}'/>"


def _lines(part: PowerPart, length: float, points: int) -> Iterator[str]:
    """Draw the curves and the axis of watts, or say why there are none."""
    yield f"<path class='a' d='M0 0V{HEIGHT}H{PANEL_WIDTH}'/>"
    if not part.curves:
        yield f"<text class='n' x='{PANEL_WIDTH // 2}' y='{HEIGHT // 2}'>{NO_SENSOR}</text>"
        return
    each = max(SPARSEST, points // len(part.curves))
    curves = [thinned(curve, each) for curve in part.curves.values()]
    ticks = steps(1.08 * max(watts for curve in curves for _, watts in curve))
    for colour, curve in zip(cycle(GPU_COLOURS), curves):
        places = [(round(PANEL_WIDTH * x / length), _height(y, ticks[-1])) for x, y in curve]
        yield f"<path class='l' stroke='{colour}' d='{_path(places)}'/>"
    for tick in ticks:
        yield f"<text class='e' x='-6' y='{_height(tick, ticks[-1]) + 4}'>{tick:g}</text>"
    yield f"<text class='n' transform='translate(-38 {HEIGHT // 2})rotate(-90)'>Power (W)</text>"


def _height(watts: float, highest: float) -> int:
    return round(HEIGHT * (1 - watts / highest))


def _path(places: Sequence[tuple[int, int]]) -> str:
    """Draw a line through places, each given by its distance from the one before."""
    (left, up), *_ = places
    if len(places) == 1:
        return f"M{left} {up}h1"
    moves = (f"{x - a} {y - b}" for (a, b), (x, y) in pairwise(places))
    return f"M{left} {up}l{' '.join(moves)}".replace(" -", "-")


def _across(length: float, scale: float) -> Iterator[str]:
    """Numbers below the axis of time."""
    for tick in steps(length / scale, beyond=False):
        place = round(PANEL_WIDTH * tick * scale / length)
        yield f"<path class='a' d='M{place} {HEIGHT}v4'/>"
        yield f"<text class='n' x='{place}' y='{HEIGHT + 16}'>{tick:g}</text>"


def steps(greatest: float, beyond: bool = True) -> list[float]:
    """Round numbers from 0 to a greatest one, or to the first beyond it."""
    greatest = greatest if greatest > 0 else 1.0
    size = 10 ** math.floor(math.log10(greatest))
    step = next(size * f for f in (0.1, 0.2, 0.25, 0.5, 1, 2, 5) if greatest / (size * f) <= 6)
    count = math.ceil(greatest / step) if beyond else math.floor(greatest / step + 1e-9)
    return [round(number * step, 12) for number in range(count + 1)]


def _gpus(part: PowerPart) -> str:
    """Say which colour is which GPU, where there are several."""
    names = (in_html(f"GPU {gpu.removeprefix('GPU-')[:8]}") for gpu in part.curves)
    coloured = zip(cycle(GPU_COLOURS), names)
    return "".join(f"; <span style='color:{colour}'>{name}</span>" for colour, name in coloured)


def sentence(energy: Mapping[str, Any]) -> str:
    """Say a part's energy in words."""
    if energy["energy_kwh"] is None:
        why = next((said for said in energy["problems"] if said.startswith(NO_ESTIMATE)), "")
        return "energy not known" + (f" ({why})" if why else "")
    basis = f" ({energy['watts_basis']})" if energy.get("watts_basis") else ""
    word = f", {ESTIMATED}{basis}" if energy["energy_source"] == "estimate" else ""
    said = f"{number(1000 * energy['energy_kwh'], '.3g')} Wh{word}"
    said += f", mean {number(energy['mean_power_w'], '.3g')} W"
    check = energy["crosscheck_pct"]
    said += "" if check is None else f", integral against counter {number(check, '+z.1f')} %"
    return said + (f" [{', '.join(energy['flags'])}]" if energy["flags"] else "")
