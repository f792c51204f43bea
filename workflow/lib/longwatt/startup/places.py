"""Check that Snakemake's command lines and patterns can hold the project's paths."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from longwatt.config.errors import StudyError

# Characters that no command line could be written for -> why.
NEVER = {
    "{": "Snakemake reads a wildcard's name between braces",
    "}": "Snakemake reads a wildcard's name between braces",
    ":": "a colon separates the folders in which Python looks for packages",
}
CURE = "move or rename the folder, so that its path has letters, digits, '.', '_' and '-' alone"

# Where Apptainer and Singularity look for folders to show inside a container.
BINDS = ("APPTAINER_BIND", "SINGULARITY_BIND")


class ForShell(str):
    """A path that is quoted when it is formatted into a command line.

    Snakemake writes the path of Python into the command of every script as it is, so that one with
    a blank would be two words.
    """

    __slots__ = ()

    def __format__(self, how: str) -> str:
        return format(shlex.quote(str(self)), how)


def check_paths(paths: Iterable[Path | str], on_cluster: bool) -> None:
    """Refuse paths that jobs could not be started with.

    Args:
        paths: those of the project, of the folder that it works in, and of Python.
        on_cluster: jobs are handed to a cluster, whose command lines Snakemake does not quote.

    Raises:
        StudyError: names the path, the character and what to do.
    """
    for path in map(str, paths):
        if bad := next((one for one in path if one in NEVER), None):
            raise StudyError(
                f"{path}: jobs cannot be started from a path with {bad!r}: {NEVER[bad]}; {CURE}"
            )
        # Letters of any language mean only themselves to a shell.
        bad = next((one for one in path if one.isascii() and shlex.quote(one) != one), None)
        if on_cluster and bad:
            raise StudyError(
                f"{path}: jobs of a cluster cannot be started from a path with {bad!r}; {CURE}"
            )


def container_environment(
    folders: Iterable[Path | str], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment in which containers see folders, beside those that a user named.

    Snakemake shows a container the folder that it works in. The project may lie elsewhere.
    """
    shown = [str(folder) for folder in folders]
    return {name: ",".join(filter(None, [environment.get(name, ""), *shown])) for name in BINDS}
