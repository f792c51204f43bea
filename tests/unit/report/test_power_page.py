"""One page shows every cell's power, and says what it shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longwatt.energy.artefacts import write_energy
from longwatt.files import sha256
from longwatt.layout.phases import WASTED
from longwatt.report.power_page import (
    ALL_POINTS,
    FEWEST,
    HEIGHT,
    MOST_POINTS,
    NO_SENSOR,
    PANEL_WIDTH,
    Kind,
    PowerPart,
    points_of_a_panel,
    read_part,
    section,
    steps,
    strips,
    thinned,
    write_power,
)
from tests.energy_logs import end, header, mark, samples, write


def span(number: int, start_s: float, end_s: float, wasted: bool) -> dict[str, Any]:
    """Return a span of a timeline; spans train and validate in turn."""
    phase = ("train", "validation")[number % 2]
    return {"phase": phase, "start_s": start_s, "end_s": end_s, "wasted": wasted}


@pytest.fixture
def part(tmp_path):
    """A cell with the energy of one metered part."""

    def make(name: str, *lines) -> PowerPart:
        folder = tmp_path / "results" / "cell" / name
        log = write(folder / "energy.jsonl", *lines)
        write_energy(
            log, {"watts_per_core": None}, folder / "energy.json", folder / "power.csv", {}
        )
        return read_part(tmp_path / "results" / "cell", name)

    return make


def killed_and_resumed():
    first = [header(gpus=2), *samples(0, 40, 100, gpus=2), mark(0, "load", attempt=1, step=0)]
    first += [mark(5, "train", attempt=1, step=0)]
    loaded = mark(60, "load", attempt=2, step=0)
    second = [header(60, gpus=2), *samples(60, 100, 150, gpus=2), loaded]
    second += [mark(70, "train", attempt=2, step=0), mark(95, "validation", attempt=2, step=9)]
    return [*first, *second, mark(99, "finish", attempt=2, step=9), end(100)]


def lines_of(text: str) -> list[str]:
    return re.findall(r"<path class='l' stroke='([^']*)'", text)


def places_of(text: str) -> list[tuple[int, int]]:
    """The places of the first curve."""
    start, moves = re.search(r"class='l'[^>]* d='M([^l]*)l([^']*)'", text).groups()
    numbers = [int(number) for number in re.findall(r"-?\d+", start)]
    found = [tuple(numbers)]
    steps_ = [int(number) for number in re.findall(r"-?\d+", moves)]
    for right, down in zip(steps_[::2], steps_[1::2], strict=True):
        found.append((found[-1][0] + right, found[-1][1] + down))
    return found


def test_every_gpu_has_a_line_and_what_was_wasted_is_hatched(part):
    text = section("Needle, LED", [part("finetune", killed_and_resumed())], 400)
    assert len(set(lines_of(text))) == 2 and text.count("GPU 0000") == 2
    assert "url(#w)" in text and "<summary>Needle, LED</summary>" in text
    assert "Time of the job, all its runs (s)" in text and "Power (W)" in text


def test_a_curve_is_drawn_in_watts_over_the_job_s_time(part):
    text = section("x", [part("finetune", header(), samples(0, 100, 250), end(100))], 400)
    assert "Training: 6.94 Wh, mean 250 W, integral against counter +0.0 %" in text
    top = steps(1.08 * 250)[-1]
    places = places_of(text)
    assert {up for _, up in places} == {round(HEIGHT * (1 - 250 / top))}
    assert places[0][0] < 0.02 * PANEL_WIDTH and 0.98 * PANEL_WIDTH < places[-1][0] <= PANEL_WIDTH


def test_without_a_sensor_the_phases_are_shown_and_the_panel_says_why(part):
    found = part(
        "finetune", header(gpus=0), [{"t": header()["t"] + 10**9}], mark(0, "train"), end(9)
    )
    text = section("x", [found], 400)
    assert NO_SENSOR in text and "energy not known" in text and "class='p'" in text
    assert not lines_of(text)


def test_the_page_has_every_cell_and_power_json_says_from_what(part, tmp_path):
    part("finetune", killed_and_resumed())
    part("predict/greedy", header(), samples(0, 10, 100), mark(0, "generate"), end(10))
    parts = {"cell": ["finetune", "predict/greedy"]}
    heading = "A </summary><script>document.title='x'</script> & $5$"
    write_power(
        tmp_path / "results", tmp_path / "power", {"cell": heading}, parts, {"rule": "plot_power"}
    )
    page = (tmp_path / "power/power.html").read_text()
    assert "<script" not in page and "A &lt;/summary&gt;" in page
    assert page.count("<details>") == 1 and page.count("<figure>") == 2
    assert "Inference (greedy): " in page
    assert page.count(WASTED) == 1, "what colours mean is said once"
    facts = json.loads((tmp_path / "power/power.json").read_text())
    energy = tmp_path / "results/cell/predict/greedy/energy.json"
    assert facts["made_from"][str(energy)] == sha256(energy)
    assert not list(Path(tmp_path / "power").glob("*.svg"))


@pytest.mark.parametrize(
    ("length", "points"), [(600, 400), (600, 300), (7, 3), (1, 5), (0, 5), (41, 40)]
)
def test_a_thinned_curve_keeps_its_mean_and_its_ends(length, points):
    curve = [(float(n), float(n % 7)) for n in range(length)]
    found = thinned(curve, points)
    assert len(found) <= points and (len(found) > 0) == (length > 0)
    if length:
        size = -(-length // points)
        assert found[0] == pytest.approx(
            tuple(sum(c) / len(c) for c in zip(*curve[:size], strict=True))
        )


def test_a_stretch_is_shaded_as_what_it_is_most():
    timeline = [
        {"phase": "train", "start_s": 0.0, "end_s": 5.4, "wasted": False},
        {"phase": "validation", "start_s": 5.4, "end_s": 6.0, "wasted": False},
        {"phase": "train", "start_s": 6.0, "end_s": 8.0, "wasted": True},
    ]
    train, wasted = Kind("train", wasted=False), Kind("train", wasted=True)
    wanted = [(train, 0, 5), (Kind("validation", wasted=False), 5, 6), (wasted, 6, 8)]
    assert list(strips(timeline, 10.0, 10)) == wanted
    thousands = [span(n, n / 100, (n + 1) / 100, False) for n in range(10_000)]
    assert len(list(strips(thousands, 100.0, 50))) <= 50
    assert list(strips([], 1.0, 5)) == []


@pytest.mark.parametrize(
    ("greatest", "beyond", "expected"),
    [
        (270, True, [0, 50, 100, 150, 200, 250, 300]), (1, True, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, True, None),
        (4.7, False, [0, 1, 2, 3, 4]), (0.03, False, [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03]),
    ],
)  # fmt: skip
def test_axes_have_round_numbers(greatest, beyond, expected):
    found = steps(greatest, beyond)
    assert expected is None or found == pytest.approx(expected)
    assert found[-1] >= greatest if beyond else found[-1] <= greatest


@pytest.mark.parametrize(("panels", "gpus"), [(2000, 2), (2000, 8), (4000, 8)])
def test_a_page_of_thousands_of_panels_stays_small(panels, gpus):
    """The worst panel: its curve and its phases change at every point."""
    points = points_of_a_panel(panels)
    assert points_of_a_panel(1) == MOST_POINTS and points_of_a_panel(10**9) == FEWEST
    assert points * panels <= ALL_POINTS
    timeline = [span(n, float(n), n + 1.0, n % 3 == 0) for n in range(points)]
    energy = {"timeline": timeline, "energy_kwh": 1.0, "energy_source": "nvml_counter",
              "mean_power_w": 300.0,
              "crosscheck_pct": 0.1, "flags": ["gaps", "short"]}  # fmt: skip
    curves = {
        f"GPU-{g}": [(k * points / 600, 700.0 * (k % 2)) for k in range(600)] for g in range(gpus)
    }
    title = "GovReport, LED large, 16384 tokens (gpu8, generated, seed 1)"
    text = section(title, [PowerPart("finetune", energy, curves)], points)
    # 1,000 cells with two parts or four each, as base64, beside the 4 MB of everything else.
    assert panels * len(text) * 4 / 3 < 16e6
