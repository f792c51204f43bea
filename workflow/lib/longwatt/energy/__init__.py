"""Energy of a job: its recorder, its log, marks from inside, and the reduction.

From inside a command that `longwatt energy record` meters:

    from longwatt.energy import phase

    with phase("train"):
        ...

At the end of any Snakefile, for kWh per rule and job in its report:

    from longwatt.energy import meter; meter(workflow)

With Hugging Face's Trainer alone:

    from longwatt.energy import EnergyCallback

    trainer = Trainer(..., callbacks=[EnergyCallback()])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longwatt.energy.marks import mark, phase

if TYPE_CHECKING:
    from longwatt.energy.workflows.hook import meter

CHANGES_NO_RESULT = "It names what others may import; the modules behind it count by themselves."

__all__ = ["mark", "meter", "phase"]


def __getattr__(name: str) -> Any:
    """Load what only other programs need: a study's jobs begin without it."""
    if name == "meter":
        from longwatt.energy.workflows.hook import meter

        return meter
    if name == "EnergyCallback":
        from longwatt.energy.trainer import energy_callback

        return energy_callback()
    raise AttributeError(f"module 'longwatt.energy' has no attribute {name!r}")
