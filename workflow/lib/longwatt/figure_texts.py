"""Texts of a finished figure: in fonts that have their characters, and no line wider than its place."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.text import Text

from longwatt import glyphs

EM = 0.6  # mean width of a letter, as a share of the size of its font
HANDLE = 40  # points that a legend needs beside a label
SHORTEST = 12  # letters of a line


class Place(NamedTuple):
    """A text that users name things by, and the width of its place (points)."""

    text: Text
    width: float


def make_texts_fit(figure: Figure) -> None:
    """Break titles and labels that are too long, and draw every text in fonts that have its characters.

    What no font has is spelled out.
    """
    for place in _places(figure):
        place.text.set_text(_broken(place.text.get_text(), place.width / (EM * float(place.text.get_fontsize()))))
    for artist in figure.findobj(Text):
        if isinstance(artist, Text) and not artist.get_text().isascii():
            artist.set_text(glyphs.spelled(artist.get_text()))
            artist.set_fontfamily(glyphs.families([artist.get_text()]))


def _places(figure: Figure) -> Iterator[Place]:
    """The texts of a figure that may be long: its title, its panels' titles, its legends' labels."""
    width = 72 * float(figure.get_size_inches()[0])
    yield from (Place(text, width) for text in figure.texts)  # the title of all panels
    for axis in figure.axes:
        own = width * axis.get_position().width
        left = axis._left_title  # type: ignore[attr-defined]  # it has no public name
        yield from (Place(text, own) for text in (axis.title, left))
        yield from (Place(text, own / 2) for text in axis.get_yticklabels())
        legend = axis.get_legend()
        yield from (Place(text, own) for text in (legend.get_texts() if legend else ()))
    for legend in figure.legends:
        columns = getattr(legend, "_ncols", 1)  # it has no public name
        yield from (Place(text, width / columns - HANDLE) for text in legend.get_texts())


def _broken(text: str, letters: float) -> str:
    """A text whose lines have at most so many letters; wide ones, as of Chinese, count twice."""
    lines = []
    for line in text.split("\n"):
        wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
        room = max(SHORTEST, int(letters * len(line) / max(1, len(line) + wide)))
        lines += textwrap.wrap(line, room) or [""]
    return "\n".join(lines)
