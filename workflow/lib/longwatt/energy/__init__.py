"""Energy of a job: its recorder, its log, marks from inside, and the reduction.

From inside a command that `python -m longwatt.energy record` meters:

    from longwatt.energy import phase

    with phase("train"):
        ...
"""

from longwatt.energy.marks import mark, phase

CHANGES_NO_RESULT = "It names what others may import; the modules behind it count by themselves."

__all__ = ["mark", "phase"]
