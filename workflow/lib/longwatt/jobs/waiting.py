"""Decide how the threads of a job wait for each other.

By default they spin for milliseconds before they sleep. Beside another busy process the thread
that they wait for may not be running, so that they burn the very core that it needs. Asleep at once
(`OMP_WAIT_POLICY=PASSIVE`) they leave it, but then a quiet machine loses a quarter of its speed to
waking them (0.76 of a tiny LED's steps; `bench.threads`). A short spin keeps both. torch's OpenMP
reads the variable once, when it is loaded, so it has to be there before any job starts.
"""

from __future__ import annotations

from collections.abc import Mapping

CHANGES_NO_RESULT = "It says how threads wait."

POLICY = "OMP_WAIT_POLICY"
SPIN, TURNS = "GOMP_SPINCOUNT", "10000"  # GNU's own default is 300,000
# Variables by which a user decides it: of OpenMP, of GNU's and of Intel's and LLVM's runtimes.
DECIDED_BY = (POLICY, SPIN, "KMP_BLOCKTIME", "KMP_LIBRARY")


def thread_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that makes waiting threads sleep soon, unless the user decided."""
    return {} if any(name in given for name in DECIDED_BY) else {SPIN: TURNS}


def described(given: Mapping[str, str]) -> str:
    """Describe how threads wait by the variables that decide it, or as `default`."""
    found = [f"{name}={given[name].lower()}" for name in DECIDED_BY if name in given]
    return " ".join(found) or "default"
