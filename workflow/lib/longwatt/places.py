"""Where the project lies: which paths Snakemake's command lines and patterns can hold."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from longwatt.study import StudyError

# Characters that no command line could be written for -> why.
NEVER = {
    "{": "Snakemake reads a wildcard's name between braces",
    "}": "Snakemake reads a wildcard's name between braces",
    ":": "a colon separates the folders in which Python looks for packages",
}


class ForShell(str):
    """A path that is quoted when it is put into a command line, and else itself.

    Snakemake writes the path of Python into the command of every script as it is, so that one with a blank would be two
    words.
    """

    __slots__ = ()

    def __format__(self, how: str) -> str:
        return format(shlex.quote(str(self)), how)


def check_paths(paths: Iterable[Path | str], on_cluster: bool) -> None:
    """Refuse paths that jobs could not be started with.

    Args:
        paths: of the project, of the folder that it works in, and of Python.
        on_cluster: whether jobs are handed to a cluster, whose command lines Snakemake does not quote.

    Raises:
        StudyError: names the path, the character and what to do.
    """
    for path in map(str, paths):
        bad = next((character for character in path if character in NEVER), None)
        if bad:
            raise StudyError(
                f"{path}: jobs cannot be started from a path with {bad!r}: {NEVER[bad]}; {CURE}"
            )
        bad = next((character for character in path if _means_something(character)), None)
        if on_cluster and bad:
            raise StudyError(
                f"{path}: jobs of a cluster cannot be started from a path with {bad!r}; {CURE}"
            )


CURE = "move or rename the folder, so that its path has letters, digits, '.', '_' and '-' alone"


def _means_something(character: str) -> bool:
    """Tell characters that a shell reads as more than themselves; letters of any language are themselves."""
    return character.isascii() and shlex.quote(character) != character
