"""Make the pictures of docs/gallery.md from the results of `make demo`.

python -m website.gallery

It needs Chromium, for the pictures of pages.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tests.chromium import Tab, browsing

from longwatt import command_line

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "results" / "demo"
IMAGES = ROOT / "docs" / "images"
COLOURS = 256  # a palette: a third of the bytes
FIGURES = {
    "demo_energy": "figures/accuracy_vs_training_energy.png",
    "demo_phases": "figures/energy_by_phase.png",
}
# Picture -> page, width, height, and what is done on the page first.
PAGES = {
    "demo_power": (
        "power/power.html", 940, 510, "document.querySelectorAll('details')[2].open = true"
    ),
    "demo_claims": ("claims.html", 1120, 780, ""),
    "demo_report": ("report.html", 1120, 760, ""),
}  # fmt: skip
DRAWN = "new Promise(done => setTimeout(() => done(true), 2000))"  # the report draws its graph


def pictures() -> Iterator[tuple[str, Image.Image]]:
    """Yield every picture with its name."""
    for name, figure in FIGURES.items():
        yield name, Image.open(DEMO / figure)
    with browsing() as tab:
        for name, (page, width, height, before) in PAGES.items():
            tab.open(DEMO / page, "document.readyState == 'complete'", width)
            tab.resize(width, height)
            yield name, _shot(tab, before)


def _shot(tab: Tab, before: str) -> Image.Image:
    tab.call("Emulation.setScrollbarsHidden", hidden=True)
    tab.evaluate(before or "0")
    tab.evaluate(DRAWN)
    taken = tab.call("Page.captureScreenshot")["data"]
    return Image.open(io.BytesIO(base64.b64decode(taken)))


def main() -> int:
    """Write every picture with few colours, and return the exit status."""
    for name, picture in pictures():
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(IMAGES / f"{name}.png", optimize=True)
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
