"""Keep lines at the bottom of a terminal while other processes write to it.

Snakemake, its jobs and their workers all write to the standard error that they inherit. A
pseudo-terminal takes that place, so their lines come by here and are put above the kept lines as
they are, colours included. The real terminal gets whole updates only, so nothing tears.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import threading
from collections.abc import Sequence
from typing import Any

RESET, ERASE, UP = b"\x1b[0m", b"\x1b[2K", b"\x1b[1A"
END = b"\x00longwatt: the last line\x00\n"  # what this process writes last, to know it has read all
READ_BYTES = 65536
PARTIAL_S = 0.3  # a line without an end is shown after this time
DRAIN_S = 2.0
USUAL, SMALLEST = (80, 24), (20, 4)  # columns and rows


class Board:
    """Lines that stay below all others of a terminal.

    Args:
        descriptor: the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._lines: list[tuple[bytes, int]] = []  # as drawn, with their columns

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and rows of the terminal as they are now."""
        try:
            found = os.get_terminal_size(self._descriptor)
        except OSError:
            return USUAL
        # A terminal of no size is one that nobody has told its size.
        columns, rows = found.columns or USUAL[0], found.lines or USUAL[1]
        return max(SMALLEST[0], columns), max(SMALLEST[1], rows)

    @property
    def drawn(self) -> bool:
        """Return whether there are lines to keep."""
        return bool(self._lines)

    def draw(self, lines: Sequence[tuple[bytes, int]]) -> None:
        """Replace the kept lines. Each comes with its columns, fewer than the terminal's."""
        with self._lock:
            if list(lines) != self._lines:
                erased = self._erased()
                self._lines = list(lines)
                self._put(erased + self._kept())

    def above(self, text: bytes) -> None:
        """Write text above the kept lines, or as it is if there are none."""
        with self._lock:
            if not self._lines:
                self._put(text)
                return
            whole = text if text.endswith(b"\n") else text + b"\n"
            self._put(self._erased() + whole + self._kept())

    def _kept(self) -> bytes:
        """Return what draws the kept lines.

        The cursor goes back to the start of the last one, where the ^C that a terminal echoes does
        not wrap it.
        """
        if not self._lines:
            return b""
        return RESET + b"\n".join(line for line, _ in self._lines) + b"\r"

    def _erased(self) -> bytes:
        """Return what removes the kept lines, also where a narrower terminal has wrapped them."""
        if not self._lines:
            return b""
        columns = self.size[0]
        rows = sum(max(1, -(-width // columns)) for _, width in self._lines)
        return b"\r" + ERASE + (UP + ERASE) * (rows - 1)

    def _put(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone; jobs go on
            while data:
                data = data[os.write(self._descriptor, data) :]


class OwnedTerminal:
    """Stand-in for standard error (and output) that puts others' lines above a board.

    Args:
        descriptors: those of this process that are the terminal.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._saved = {number: os.dup(number) for number in descriptors}
        self.board = Board(self._saved[descriptors[0]])
        self._master, self._slave = pty.openpty()
        _pass_bytes_as_they_are(self._slave)
        self.resize()
        for number in descriptors:
            os.dup2(self._slave, number)
        self._thread = threading.Thread(target=self._carry, name="longwatt-terminal", daemon=True)
        self._thread.start()

    def resize(self) -> None:
        """Give the stand-in the terminal's size."""
        columns, rows = self.board.size
        with contextlib.suppress(OSError):
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)

    def give_back(self) -> None:
        """Put the terminal back in its place once all lines are on it."""
        if not self._saved:
            return
        with contextlib.suppress(OSError):
            os.write(self._slave, END)
        self._thread.join(DRAIN_S)
        self.board.draw([])
        for number, saved in self._saved.items():
            os.dup2(saved, number)
        self._saved = {}
        # Jobs that outlive this process keep their side of it; what they write then goes nowhere.
        os.close(self._slave)

    def _carry(self) -> None:
        """Carry what is written to the stand-in to the terminal, line by line."""
        waiting = b""
        while True:
            ready = select.select([self._master], [], [], PARTIAL_S if waiting else None)[0]
            if not ready:
                self.board.above(waiting)
                waiting = b""
                continue
            try:
                waiting += os.read(self._master, READ_BYTES)
            except OSError:  # all writers are gone
                return
            if END in waiting:
                self.board.above(waiting.replace(END, b""))
                return
            waiting = self._lines_of(waiting)

    def _lines_of(self, text: bytes) -> bytes:
        """Write the whole lines of a text, and return the rest."""
        if not self.board.drawn and END[:1] not in text:  # nothing is below that it could tear
            self.board.above(text)
            return b""
        whole, newline, rest = text.rpartition(b"\n")
        if newline:
            self.board.above(b"\n".join(map(_last_written, whole.split(b"\n"))) + newline)
        return rest


def _last_written(line: bytes) -> bytes:
    """Return what a line shows at last, after any return to its start."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def _pass_bytes_as_they_are(descriptor: int) -> None:
    attributes: list[Any] = termios.tcgetattr(descriptor)
    attributes[1] &= ~termios.OPOST  # the real terminal does it
    attributes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
