"""How the threads of a job wait for each other.

By default they spin for milliseconds before they sleep. Beside another busy process the thread
that they wait for may not be running, so that they burn the very core that it needs; asleep they
leave it. torch's OpenMP reads the variable once, when it is loaded, so it has to be there before
any job starts.
"""

from __future__ import annotations

from collections.abc import Mapping

POLICY, PASSIVE = "OMP_WAIT_POLICY", "PASSIVE"
# Variables by which a user decides it: of OpenMP, of GNU's and of Intel's and LLVM's runtimes.
DECIDED_BY = (POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that has threads sleep while they wait, unless the user decided it.

    Args:
        given: the environment that jobs inherit.
    """
    return {} if any(name in given for name in DECIDED_BY) else {POLICY: PASSIVE}
