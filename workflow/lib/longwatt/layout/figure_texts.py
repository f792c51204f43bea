"""Fit the texts of a finished figure to their places and to this machine's fonts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.text import Text

from longwatt.layout import glyphs

EVEN = 0.9  # how full lines of a broken text are; their letters are not as wide as the mean of all
HANDLE = 40  # points that a legend needs beside a label
SHORTEST = 12  # letters of a line
BESIDE = 40  # letters of a name beside an axis
LINES = 4  # of a text; more would leave the panels no room
MOST_LINES = 12  # of what an axis says of its numbers, flags among it


class TextPlace(NamedTuple):
    """A text that users name things by, and the width of its place (points)."""

    text: Text
    width: float
    lines: int = LINES


def make_texts_fit(figure: Figure) -> None:
    """Break titles and labels that are too long, and draw all texts in fitting fonts.

    A character that no font has is spelled out. The first lines are shown of a long text, and
    tables have it whole.
    """
    for artist in figure.findobj(Text):
        if isinstance(artist, Text) and not glyphs.plain_text(artist.get_text()):
            artist.set_text(glyphs.spelled(artist.get_text()))
            artist.set_fontfamily(glyphs.font_families([artist.get_text()]))
    for place in _places(figure):
        letters = place.width / _letter(place.text, figure.dpi)
        place.text.set_text(_broken(place.text.get_text(), letters, place.lines))


def beside_an_axis(names: Iterable[str]) -> list[str]:
    """Break names for an axis, whose texts matplotlib makes anew each time it draws."""
    return ["\n".join(textwrap.wrap(glyphs.spelled(name), BESIDE)) for name in names]


def _places(figure: Figure) -> Iterator[TextPlace]:
    """Yield titles, axes' labels and legends' labels, which may be long."""
    width, height = (72 * float(size) for size in figure.get_size_inches())
    yield from (TextPlace(text, width) for text in figure.texts)  # the title of all panels
    for axis in figure.axes:
        own = width * axis.get_position().width
        left = axis._left_title  # type: ignore[attr-defined]  # it has no public name
        yield from (TextPlace(text, own) for text in (axis.title, left))
        yield TextPlace(axis.xaxis.label, own, MOST_LINES)
        yield TextPlace(axis.yaxis.label, height * axis.get_position().height)
        if legend := axis.get_legend():
            # A label may be as wide as its panel's share of the figure.
            place = axis.get_subplotspec()
            share = width / place.get_gridspec().ncols if place else own
            room = share / getattr(legend, "_ncols", 1) - HANDLE  # it has no public name
            yield from (TextPlace(text, room) for text in legend.get_texts())
    for legend in figure.legends:
        columns = getattr(legend, "_ncols", 1)  # it has no public name
        yield from (TextPlace(text, width / columns - HANDLE) for text in legend.get_texts())


def _letter(text: Text, dpi: float) -> float:
    """Measure the mean width of a text's letters (points), as they are drawn."""
    longest = max(map(len, text.get_text().split("\n")))
    extent = text.get_window_extent()
    upright = text.get_rotation() == 90  # of a vertical axis
    length = (extent.height if upright else extent.width) * 72 / dpi if longest else 0.0
    return max(1.0, length / max(1, longest))


def _broken(text: str, letters: float, most: int = LINES) -> str:
    """Break a text into lines of at most so many letters."""
    room = max(SHORTEST, int(letters * EVEN))
    lines = [
        part
        for line in text.split("\n")
        for part in (textwrap.wrap(line, room) if len(line) > letters else [line])
    ]
    if len(lines) > most:
        lines[most - 1 :] = [f"{lines[most - 1][:-2]} …"]
    return "\n".join(lines)
