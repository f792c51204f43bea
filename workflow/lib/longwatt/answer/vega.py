"""Find the plotting library that Snakemake carries, and pack it for a page."""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ASSETS = Path("assets/data")
LIBRARY = Path("vega/vega.js")
# What Vega's one file is made of, by Snakemake's folders of licences.
VEGA_PARTS = (
    "vega", "d3-array", "d3-color", "d3-contour", "d3-delaunay", "d3-dispatch", "d3-dsv",
    "d3-force", "d3-format", "d3-geo", "d3-geo-projection", "d3-hierarchy", "d3-interpolate",
    "d3-path", "d3-quadtree", "d3-regression", "d3-scale", "d3-shape", "d3-time",
    "d3-time-format", "d3-timer", "delaunator", "hashlru", "quickselect", "regression",
    "science", "topojson-client",
)  # fmt: skip


@cache
def packed_vega() -> str:
    """Return Vega with its licences before it, gzipped, as base64.

    Raises:
        FileNotFoundError: the Snakemake that is installed carries no Vega.
    """
    text = "".join((*_licences(), (_assets() / LIBRARY).read_text(encoding="utf-8")))
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def _licences() -> list[str]:
    """Return the licence of every part as a comment."""
    found = ((name, _assets() / name / "LICENSE") for name in VEGA_PARTS)
    texts = ((name, path.read_text("utf-8")) for name, path in found if path.is_file())
    return [f"/* {name}\n{text.replace('*/', '* /').strip()}\n*/\n" for name, text in texts]


@cache
def _assets() -> Path:
    spec = find_spec("snakemake")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / ASSETS / LIBRARY).is_file():
            return Path(folder) / ASSETS
    raise FileNotFoundError(
        "The page's plot needs Vega, which Snakemake carries for its report, but the Snakemake "
        f"here has no {ASSETS / LIBRARY}. Install `snakemake[reports]` as envs/requirements.txt "
        "pins it."
    )
