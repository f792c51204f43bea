"""Draw the display again and again, once the rules have said which study they run."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from snakemake_logger_plugin_longwatt.run_events import RunEvents
from snakemake_logger_plugin_longwatt.terminal import OwnedTerminal

EVERY_S = 0.5
ANNOUNCED = "longwatt.watch.announced"


class Ticker:
    """A thread that draws until it is closed.

    Snakemake loads its plugins before the rules say where their own longwatt lies. Nothing of
    longwatt is imported here before the rules have done so.

    Args:
        events: what Snakemake says.
        terminal: where to draw.
        no_colour: whether to draw without colours.
    """

    def __init__(self, events: RunEvents, terminal: OwnedTerminal, no_colour: bool) -> None:
        self._events, self._terminal, self._no_colour = events, terminal, no_colour
        self._over = threading.Event()
        self._display: Any = None
        self._thread = threading.Thread(target=self._draw_on, name="longwatt-bars", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop drawing."""
        self._over.set()
        self._thread.join(2 * EVERY_S)

    def _draw_on(self) -> None:
        while not self._over.wait(EVERY_S):
            # Bars that cannot be drawn must not end a study.
            with contextlib.suppress(Exception):
                self._draw()

    def _draw(self) -> None:
        self._terminal.resize()
        if self._display is None and study_is_announced():
            from snakemake_logger_plugin_longwatt.display import Display

            self._display = Display(self._events, self._no_colour)
        if self._display is not None:
            lines = self._display.lines(*self._terminal.board.size)
            if not self._over.is_set():
                self._terminal.board.draw(lines)


def study_is_announced() -> bool:
    """Check whether rules of longwatt run in this process, and have named their study."""
    ask = getattr(sys.modules.get(ANNOUNCED), "announced", None)
    return ask is not None and ask() is not None
