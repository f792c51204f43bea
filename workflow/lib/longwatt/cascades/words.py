"""Say in sentences what cascades cost, and whether they pay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longwatt.cascades.audit import BY_CHANCE, ESCALATES, LOSES, NO_CHEAPER, PAYS
from longwatt.cascades.points import J
from longwatt.cascades.real import RUN_NOISE
from longwatt.layout.wording import ESTIMATED, NA, interval, number, percent, short

Audited = Mapping[str, Any]


class Words:
    """The sentences of one group of cells.

    Args:
        names: how cells are called, by name.
        unit: of costs.
        estimated: whether joules are estimates.
    """

    def __init__(self, names: Mapping[str, str], unit: str, estimated: bool) -> None:
        self.names, self.unit, self.estimated = names, unit, estimated

    def cost(self, value: float | None) -> str:
        """Write the cost of a request."""
        if value is None:
            return NA
        what = "J" if self.unit == J else "ms"
        return f"{short(value)} {what}"

    def costs(self, across: str | None = None) -> str:
        """Say what the costs are, and how the machines differ that they were measured on."""
        unlike = ""
        if across:
            unlike = f" Some were measured on {across} than the rest, so machines are compared too."
        if self.unit != J:
            return (
                "Costs are milliseconds of a request, batched as measured: the energy of some of "
                f"these cells is not known.{unlike}"
            )
        kind = f", {ESTIMATED}" if self.estimated else ""
        return f"Costs are joules of a request{kind}, batched as measured.{unlike}"

    def members(self, facts: Audited) -> str:
        """Name the cells of a cascade, in the order in which they answer."""
        cheap = [facts["first"], *([facts["second"]] if "second" in facts else [])]
        return f"{' and '.join(self.names[one] for one in cheap)}, then {self.names[facts['last']]}"

    def verdict(self, facts: Audited, keep: float) -> str:
        """Say whether a cascade pays, and why not."""
        return f"{facts['verdict']}: {self.members(facts)}. {self._why(facts, keep)}"

    def _why(self, facts: Audited, keep: float) -> str:
        stated, last = facts["stated"], self.names[facts["last"]]
        asked = f"It asks {last} in {percent(stated['rate'])} of the requests"
        even = f"{percent(facts['break_even_rate'])} from which {last} alone costs less"
        if facts["verdict"] == PAYS:
            return f"{asked}, below the {even}, and has a {self.stated(stated)}."
        if facts["why"] == NO_CHEAPER:
            return f"{self.names[facts['first']]} costs no less than {last}."
        if facts["why"] == LOSES:
            kept, wanted = percent(stated["kept"], ".1f"), percent(keep)
            lost = f"On other examples it keeps {kept} of the better cell's score, not {wanted}"
            sure = percent(stated["sure"])
            if facts["verdict"] == BY_CHANCE:
                return f"{lost}; that may be chance, since {sure} of their resamples keep it."
            return f"{lost}."
        if facts["why"] == ESCALATES:
            return f"{asked}, above the {even}."
        instead = self.names[facts["instead"]]
        enough = f"{instead} alone scores as much at no more cost"
        return f"{enough}; the cascade has a {self.stated(stated)}."

    def stated(self, stated: Audited) -> str:
        """Write score and cost, and what is kept of the better cell's score."""
        ends = interval(stated["difference_low"], stated["difference_high"], "+.2f")
        return (
            f"score of {number(stated['score'], '.2f')} at {self.cost(stated['cost'])}, "
            f"{number(stated['difference'], '+.2f')} ({ends}) beside the better cell"
        )

    def run(self, facts: Audited) -> str:
        """Say how a cascade that ran agrees with the computed one."""
        cells = f"{self.names[facts['first']]}, then {self.names[facts['cell']]}"
        whose = f"{facts['inference']} ({cells}, split {facts['split']})"
        has = f"score {number(facts['score'], '.2f')} at {self.cost(facts['cost'])}"
        if "missing" in facts:
            return (
                f"{whose}: {has}; {self.names[facts['missing']]} did not answer these examples "
                "alone, so nothing is computed beside it"
            )
        computed = (
            f"{number(facts['computed_score'], '.2f')} at {self.cost(facts['computed_cost'])}"
        )
        return f"{whose}: {has}; computed {computed}. {self._agreement(facts)}"

    def _agreement(self, facts: Audited) -> str:
        count, other = facts["examples"], facts["differing_answers"]
        alike = f"all {count} answers agree" if not other else f"{other} of {count} answers differ"
        if moved := facts["differing_escalations"]:
            alike += f", and {moved} examples are escalated in one of them only"
        if None in (facts["cost"], facts["computed_cost"]):
            return f"{alike.capitalize()}."
        ratio = facts["cost"] / facts["computed_cost"]
        near = "within" if abs(ratio - 1) <= RUN_NOISE else "beyond"
        across = f" (measured on {facts['across']})" if facts["across"] else ""
        return (
            f"{alike.capitalize()}; it costs {number(ratio, '.2f')} times what was computed, "
            f"{near} the {percent(RUN_NOISE)} that one run varies by{across}."
        )
