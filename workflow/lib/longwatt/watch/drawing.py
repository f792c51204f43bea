"""Draw lines of progress with the terminal library rich."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from longwatt.watch.rows import ProgressRow, bar, line_columns, middle

STYLES = {"": "", "good": "green", "bad": "yellow", "dim": "dim"}
BAR = "cyan"


@dataclass(frozen=True)
class ProgressRows:
    """Lines that fill the width of a terminal, one for each row.

    Attributes:
        rows: what they say.
        most: lines at most; the last one then counts those that are left out.
    """

    rows: Sequence[ProgressRow]
    most: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines as rich asks for them."""
        shown = list(self.rows if self.most is None else self.rows[: self.most])
        widths = line_columns(options.max_width, shown)
        for row in shown:
            yield row_text(row, widths, options.max_width)
        if hidden := len(self.rows) - len(shown):
            yield Text(f"and {hidden} more", style="dim")


def row_text(row: ProgressRow, widths: tuple[int, int, int, int], width: int) -> Text:
    """Return one line that is no wider than a width."""
    name, drawn, words, left = widths
    text = Text(no_wrap=True, overflow="ellipsis", end="\n")
    text.append(f"{middle(row.name, name):<{name}} ")
    if drawn:
        filled, empty = bar(row.share, drawn)
        text.append(filled, BAR)
        text.append(f"{empty} ", "dim")
    text.append(f"{middle(row.words, words):<{words}} ", STYLES[row.tone])
    text.append(f"{middle(row.left, left):>{left}}", STYLES[row.tone])
    text.truncate(width, overflow="ellipsis")
    text.rstrip()
    return text
