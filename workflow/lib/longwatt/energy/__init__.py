"""The energy of a job: a recorder beside it, one append-only log, marks from inside, and their reduction to numbers.

From inside a command that `python -m longwatt.energy record` meters:

    from longwatt.energy import phase

    with phase("train"):
        ...
"""

from longwatt.energy.marks import mark, phase

__all__ = ["mark", "phase"]
