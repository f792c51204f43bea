"""Watts of one busy core, declared in config.yaml or by the processor's rated power.

A core is what the system counts as a CPU: CPU time is counted in these, and a hyper-thread is one.
The processor's rated watts are shared evenly by all of them, so that the estimates of jobs which
keep a whole processor busy add up to its rated power, however many they are.
"""

from __future__ import annotations

import csv
import functools
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

AUTO_WATTS, NO_WATTS = "auto", "none"  # words of `watts_per_core` in config.yaml
NO_ESTIMATE = "no estimate: "  # before the reason, among the problems of a log
WATTS_KEY = "watts_per_core"
# The table: a file of a package that is never imported, since it would load much else.
TABLE_PACKAGE, TABLE = "codecarbon", "codecarbon/data/hardware/cpu_power.csv"
# Of its releases, the pinned one last, since their metadata does not tell.
TABLE_YEARS = {"3.3.2": 2026}
# Words of a processor's name that say nothing of its model: marks, speed, graphics, generation.
NOISE = re.compile(
    r"\((?:r|tm)\)|[®™\u200b]|\b(?:cpu|processors?)\b|\b\d+(?:st|nd|rd|th) gen\b"
    r"|\b(?:\d+|dual|quad|six|eight|twelve|sixteen)-cores?\b|@.*|\b(?:with|w/)\s.*",
    re.IGNORECASE,
)
CORES_IN_NAME = re.compile(r"\b(\d+)-cores?\b", re.IGNORECASE)  # AMD's names tell them
# Processors that no cloud rents out.
OF_PEOPLE = re.compile(r"\b(?:core|ryzen|athlon|pentium|celeron|atom|apple|n\d{2,3})\b")
# Watts of one busy virtual CPU: the middle of what Cloud Carbon Footprint publishes for servers of
# unknown kind of three clouds, 3.5 (AWS), 3.76 (Azure) and 4.26 (Google), from SPECpower_ssj2008.
# Single kinds have 1.69 (EPYC of the second generation) to 8.58 (Sandy Bridge).
# https://www.cloudcarbonfootprint.org/docs/methodology
ASSUMED_W, ASSUMED_FROM = 3.76, "Cloud Carbon Footprint's servers, kinds from 1.7 to 8.6 W"
ADVICE = f"set {WATTS_KEY} in config.yaml to its rated watts divided by its hardware threads"


@dataclass(frozen=True)
class Rating:
    """Watts of one busy core, and where they are from.

    Attributes:
        watts: None where they are unknown or not wanted.
        basis: where they are from, or why they are unknown and what to do.
    """

    watts: float | None
    basis: str


def watts_setting(machine: Mapping[str, Any]) -> float | str | None:
    """Return `watts_per_core` of config.yaml: a number, AUTO_WATTS (default) or None."""
    wanted = machine.get(WATTS_KEY, AUTO_WATTS)
    return None if wanted == NO_WATTS else wanted


def rate(setting: float | str | None, facts: Mapping[str, Any] | None) -> Rating:
    """Return what one busy core of a machine draws.

    Args:
        setting: as `watts_setting`.
        facts: of its processor, as `longwatt.energy.meters.processor.processor_facts`; None where
            a log does not hold them.
    """
    if setting is None:
        return Rating(None, f"no estimate is wanted: {WATTS_KEY} is none")
    if setting != AUTO_WATTS:
        return Rating(float(setting), f"declared: {WATTS_KEY}")
    if facts is None:
        return Rating(None, f"the log is older than estimates and names no processor; {ADVICE}")
    return _looked_up(facts)


def _looked_up(facts: Mapping[str, Any]) -> Rating:
    name = facts["name"]
    try:
        table, version = rated_watts()
    except (PackageNotFoundError, OSError) as error:
        return Rating(None, f"the table of processors is not here ({error}); {_installing()}")
    watts = table.get(model_name(name))
    cpus, counted = _cpus_per_socket(facts)
    if watts and cpus:
        shared = f"{watts:g} W / {cpus} hardware threads{counted}"
        return Rating(watts / cpus, f"rated: {name}, {shared}, {version}")
    called = " of ".join(filter(None, (name, facts["board"])))
    unknown = f"{version} has no {called!r}"
    if watts:
        unknown = f"{version} has {watts:g} W for {name!r}, but its threads are not shown here"
    if facts["virtual"] and not OF_PEOPLE.search(model_name(name)):
        return Rating(
            ASSUMED_W, f"assumed for a virtual CPU: {ASSUMED_W} W, {ASSUMED_FROM}; {unknown}"
        )
    return Rating(None, f"{unknown}; {ADVICE}")


def _cpus_per_socket(facts: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return the hardware threads of a whole socket, and a caveat of their count.

    A virtual machine is shown some of them, so that they are known only if the name tells. Windows
    shows its Linux all of them unless .wslconfig says otherwise.
    """
    cpus, cores = facts["cpus_per_socket"], facts["cores_per_socket"]
    if not facts["virtual"]:
        return cpus, ""
    if facts["wsl"]:
        return cpus, " as Windows shows them"
    told = CORES_IN_NAME.search(facts["name"])
    if told is None or not cpus or not cores:
        return None, ""
    return int(told[1]) * max(1, cpus // cores), " by its name"


@functools.cache
def rated_watts() -> tuple[Mapping[str, float], str]:
    """Read rated watts by `model_name`, and name the table with its version and year.

    Models that the table gives different watts are left out.

    Raises:
        importlib.metadata.PackageNotFoundError: the package of the table is not installed.
        OSError: its table is not there.
    """
    package = distribution(TABLE_PACKAGE)
    found: dict[str, set[float]] = defaultdict(set)
    with open(str(package.locate_file(TABLE)), encoding="utf-8", newline="") as stream:  # noqa: PTH123
        for row in csv.DictReader(stream):
            # A few rows have 0, or two numbers in one.
            if re.fullmatch(r"\d+(\.\d+)?", row["TDP"]) and float(row["TDP"]) > 0:
                found[model_name(row["Name"])].add(float(row["TDP"]))
    year = TABLE_YEARS.get(package.version)
    version = f"{TABLE_PACKAGE} {package.version}" + (f" ({year})" if year else "")
    return {name: watts.pop() for name, watts in found.items() if len(watts) == 1}, version


def model_name(name: str) -> str:
    """Return a processor's name without words that say nothing of its model, in lower case."""
    return " ".join(NOISE.sub(" ", name).lower().split())


def _installing() -> str:
    pinned = f"{TABLE_PACKAGE}=={next(reversed(TABLE_YEARS))}"
    return shlex.join([sys.executable, "-m", "pip", "install", "--no-deps", pinned])
