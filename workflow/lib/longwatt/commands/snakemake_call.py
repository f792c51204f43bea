"""Call Snakemake as a user would, and show the command line."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from longwatt import shipped

# Where Snakemake looks for a workflow in the folder that it works in.
FOUND_BY_SNAKEMAKE = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
CORES_OPTIONS = ("--cores", "-c", "--jobs", "-j", "--profile")  # each says how many, or may
SNAKEFILE_OPTIONS = ("--snakefile", "-s")
CONFIG_OPTIONS = ("--config", "-C")
SIGNALS_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


def call(
    targets: Sequence[str] = (),
    study: str | None = None,
    options: Sequence[str] = (),
    cores: str = "all",
) -> int:
    """Run Snakemake in this folder, after its command line was printed.

    Args:
        targets: rules to ask for, none for all results.
        study: the study's name, None for the one of config.yaml.
        options: options of Snakemake, passed on as they are.
        cores: value of `--cores` where `options` say nothing of it.

    Returns:
        Snakemake's status, 128 + N after signal N.
    """
    arguments = arguments_for(targets, study, options, cores)
    typer.echo(f"$ {shlex.join(['snakemake', *arguments])}", err=True)
    command = [sys.executable, "-m", "snakemake", *arguments]
    with subprocess.Popen(command) as process, _signals_forwarded(process):
        status = process.wait()
    return 128 - status if status < 0 else status


def arguments_for(
    targets: Sequence[str], study: str | None, options: Sequence[str], cores: str
) -> list[str]:
    """Make the arguments of Snakemake for a call.

    The settings of `--config` come last, since Snakemake reads words after them as more settings.
    """
    rest, settings = split_config(options)
    named = [] if _any_of(SNAKEFILE_OPTIONS, rest) else _snakefile()
    counted = [] if _any_of(CORES_OPTIONS, rest) else ["--cores", cores]
    chosen = [*([f"study={study}"] if study is not None else []), *settings]
    return [*targets, *named, *counted, *rest, *(["--config", *chosen] if chosen else [])]


def split_config(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate Snakemake's other options from the settings after `--config`."""
    rest: list[str] = []
    settings: list[str] = []
    reads_settings = False
    for word in options:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            reads_settings = name in CONFIG_OPTIONS
            if not reads_settings:
                rest.append(word)
            elif equals:  # --config=study=NAME
                settings.append(value)
        else:
            (settings if reads_settings else rest).append(word)
    return rest, settings


def _any_of(names: Sequence[str], options: Sequence[str]) -> bool:
    """Return whether an option is given, with its value behind it or not."""
    short = tuple(name for name in names if not name.startswith("--"))
    return any(
        word.partition("=")[0] in names or (not word.startswith("--") and word.startswith(short))
        for word in options
    )


def own_workflow() -> bool:
    """Return whether this folder has a workflow of its own."""
    return any(Path(name).is_file() for name in FOUND_BY_SNAKEMAKE)


def _snakefile() -> list[str]:
    """Name the shipped workflow where this folder has none of its own."""
    return [] if own_workflow() else ["--snakefile", str(shipped.ROOT / "Snakefile")]


@contextmanager
def _signals_forwarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Outlive Snakemake on Ctrl-C, and pass other signals on to it.

    The terminal tells both of Ctrl-C.
    """

    def forward(number: int, _: FrameType | None) -> None:
        if process.poll() is None:
            os.kill(process.pid, number)

    def stay(number: int, _: FrameType | None) -> None:
        """Leave the end to Snakemake, which the terminal has told too."""

    before = {signal.SIGINT: signal.signal(signal.SIGINT, stay)}
    before |= {number: signal.signal(number, forward) for number in SIGNALS_FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
