"""Run Snakemake, and print last how many CPU seconds were this project's own.

    cd PROJECT && python -m bench.whose_time -n --cores 2 --config study=NAME

The stack is sampled by CPU time. A sample is the project's if it runs a function of the package, of
the Snakefile or of the rules, whatever that calls; all else is Snakemake's, its own start included.
"""

from __future__ import annotations

import signal
import sys
import time
from functools import cache
from pathlib import Path
from types import FrameType

from snakemake.cli import main as snakemake

EVERY_S = 0.005  # CPU seconds between samples
OURS = "CPU seconds of the project's own:"
PACKAGES = "/workflow/lib/"  # of the checkout, whatever its folder is called
MODULE = "<module>"


@cache
def is_ours(file: str, function: str) -> bool:
    """Tell whether a frame is the project's (a rules file's own body only declares)."""
    path = Path(file)
    if path.suffix == ".smk" or path.name == "Snakefile":
        return function != MODULE
    return PACKAGES in path.as_posix()


class Samples:
    """Count samples of the stack, all of them and the project's."""

    def __init__(self) -> None:
        self.all = self.ours = 0

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGPROF."""
        self.all += 1
        while frame is not None and not is_ours(frame.f_code.co_filename, frame.f_code.co_name):
            frame = frame.f_back
        self.ours += frame is not None

    def seconds(self) -> float:
        """Return the project's share of this process's CPU seconds so far."""
        return time.process_time() * self.ours / max(1, self.all)


def main() -> None:
    """Run Snakemake with the given arguments under the sampler."""
    samples = Samples()
    signal.signal(signal.SIGPROF, samples.take)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        snakemake(sys.argv[1:])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(f"{OURS} {samples.seconds():.3f}", file=sys.stderr)


if __name__ == "__main__":
    main()
