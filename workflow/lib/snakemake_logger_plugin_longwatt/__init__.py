"""Provide Snakemake's `--logger longwatt`: bars of progress below its lines, in a terminal.

Snakemake finds the plugin by the name of this package. The plugin adds to Snakemake's own output
and replaces none of it. Without a terminal it does nothing at all.
"""

# No postponed annotations here: Snakemake reads the types of the settings as types.
import atexit
import os
import sys
from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_longwatt.run_events import RunEvents

__all__ = ["LogHandler"]

QUIET = {"all", "progress"}  # of `--quiet`: who asks for this wants no bars
STREAMS = {1: "stdout", 2: "stderr"}


class LogHandler(LogHandlerBase):  # type: ignore[misc]
    """A handler that follows a run's events and draws its progress."""

    def __post_init__(self) -> None:
        """Take the terminal, if there is one to draw on."""
        self._events = RunEvents()
        self._terminal: Any = None
        self._ticker: Any = None
        if draws(self.common_settings):
            self._take_terminal()

    def _take_terminal(self) -> None:
        # Loaded only where it is needed: not for every job on a cluster.
        from snakemake_logger_plugin_longwatt.terminal import OwnedTerminal
        from snakemake_logger_plugin_longwatt.ticker import Ticker

        for name in STREAMS.values():
            getattr(sys, name).flush()
        self._terminal = OwnedTerminal([n for n in (2, 1) if os.isatty(n)])
        self._ticker = Ticker(self._events, self._terminal, bool(self.common_settings.nocolor))
        atexit.register(self.close)

    def emit(self, record: LogRecord) -> None:
        """Take in what an event says. Snakemake's own handler prints it."""
        event = getattr(record, "event", None)
        if self._ticker is not None and event is not None:
            self._events.take(str(getattr(event, "value", event)), vars(record))

    def close(self) -> None:
        """Give the terminal back."""
        ticker, terminal = self._ticker, self._terminal
        self._ticker = self._terminal = None
        if ticker is not None:
            ticker.close()
            for name in STREAMS.values():
                getattr(sys, name).flush()
            terminal.give_back()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Return False: Snakemake goes on to print its own lines."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """Return False: it writes no log."""
        return False

    @property
    def has_filter(self) -> bool:
        """Return True: it needs the events that `--quiet` hides."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Return True: it formats nothing."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Return False: it draws no graph."""
        return False


def draws(settings: Any) -> bool:
    """Return whether there is a terminal to draw on, and a run that wants bars."""
    quiet = {str(getattr(one, "value", one)).lower() for one in settings.quiet or ()}
    terminal = os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb"
    return terminal and not settings.dryrun and not quiet & QUIET
