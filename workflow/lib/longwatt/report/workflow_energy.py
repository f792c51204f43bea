"""A page, a figure and tables of the energy of a workflow that `longwatt.energy.meter` meters.

Command line:
    python -m longwatt.report.workflow_energy FOLDER [--watts-per-core W|auto|none]
        [--grams-per-kwh G]
"""

from __future__ import annotations

import argparse
import csv
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from longwatt import command_line
from longwatt.energy.log import LogError
from longwatt.energy.reduction.reduce import ESTIMATE, J_PER_KWH, MEASURED_SOURCES, NO_SOURCE
from longwatt.energy.workflows import runs as jobs
from longwatt.energy.workflows.options import watts_option
from longwatt.energy.workflows.runs import EnergySum, JobRun
from longwatt.energy.workflows.words import WORD_COLUMNS, rows_in_words, source_in_words
from longwatt.files import whole_file
from longwatt.layout import drawing
from longwatt.layout.escaping import in_csv
from longwatt.layout.pages import Section, Table, as_html
from longwatt.layout.wording import ESTIMATED, LISTED, NA, duration, how_many

PAGE_NAME, FIGURE, RULES_TABLE, JOBS_TABLE = "energy.html", "energy", "rules.csv", "jobs.csv"
MOST_BARS = 25
LOST = "lost"
COLOURS = {
    jobs.KEPT_RUN: "#35608d", jobs.REDONE_RUN: "#8fb8de", LOST: "#b2182b",
    jobs.RUNNING_RUN: "#999999",
}  # fmt: skip
NO_RUN = (
    "No job has run since this workflow is metered: its results were there before. Their energy is "
    "unknown. It is metered as soon as a job runs again."
)
NOT_COUNTED = (
    "Snakemake itself, idle machines, memory, disks, networks and cooling are not counted. Jobs "
    "that ask for no GPU (a resource named gpu) are counted on processors alone."
)
COUNTING_WORDS = (
    "Measured energy is that of GPUs that a job had alone, or of the processors' counters where no "
    "other metered job ran beside it. Estimated energy is the job's CPU time, as the kernel counts "
    "it, times the watts of one busy core. Unknown energy is NA."
)


def write_workflow_energy(
    folder: Path, watts_per_core: float | str | None, grams_per_kwh: float | None
) -> None:
    """Write energy.html, energy.svg, rules.csv and jobs.csv beside a meter's ledgers.

    Args:
        folder: the meter's.
        watts_per_core: `auto`, `none` or watts; None is as the workflow was metered.
        grams_per_kwh: of CO2e; None shows none.

    A workflow whose results were all there before it was metered gets a page that says so.
    """
    try:
        runs = jobs.read_runs(folder, watts_per_core)
        parts = energy_sections(runs, grams_per_kwh)
    except LogError:
        runs, parts = [], [Section("", [NO_RUN])]
    rules = [_rule_row(name, own, grams_per_kwh) for name, own in jobs.by_rule(runs).items()]
    _write_csv(folder / RULES_TABLE, rules)
    _write_csv(folder / JOBS_TABLE, [_job_row(run, grams_per_kwh) for run in runs])
    with whole_file(folder / PAGE_NAME) as stream:
        stream.write(as_html("Energy of this workflow", parts))
    with drawing.look():
        drawing.save(draw_rules(runs), folder / FIGURE)


def energy_sections(runs: Sequence[JobRun], grams_per_kwh: float | None) -> list[Section]:
    """Return the page's sections: the whole, rules, jobs, and how it was counted."""
    by_rule = jobs.by_rule(runs)
    largest = sorted(runs, key=lambda run: -(run.energy_j or 0.0))[:LISTED]
    few = f"The {LISTED} runs of most energy of {len(runs)}; {JOBS_TABLE} has all."
    listed = "All runs, those of most energy first." if len(largest) == len(runs) else few
    return [
        Section("", [_whole(runs, grams_per_kwh)]),
        Section("By rule", [Table([_told_rule(*one) for one in by_rule.items()], WORD_COLUMNS)]),
        Section(
            "By job",
            [listed, Table(rows_in_words(largest), WORD_COLUMNS)],
        ),
        Section("How it was counted", [COUNTING_WORDS, *_bases(runs), NOT_COUNTED]),
    ]


def draw_rules(runs: Sequence[JobRun]) -> Figure:
    """Draw each rule's energy as a bar, parted into what was kept, redone and lost."""
    found = {name: _parts(own) for name, own in jobs.by_rule(runs).items()}
    names = sorted(found, key=lambda name: -sum(found[name].values()))[:MOST_BARS]
    figure, (axis,) = drawing.panels(1, 1.2 + 0.32 * max(2, len(names)))
    if not names:
        drawing.leave_empty(axis, "no job was metered")
        return figure
    left = [0.0] * len(names)
    for part, colour in COLOURS.items():
        values = [found[name].get(part, 0.0) / J_PER_KWH for name in names]
        if part != jobs.KEPT_RUN and not any(values):
            continue
        axis.barh(names, values, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    sources = {run.source for run in runs}
    said = f" ({ESTIMATED})" if sources == {ESTIMATE} else ""
    said = f" (some {ESTIMATED})" if ESTIMATE in sources and not said else said
    unknown = sum(run.energy_j is None for run in runs)
    missing = f"\n{unknown} of {len(runs)} runs unknown and left out" if unknown else ""
    axis.set_xlabel(f"Energy, kWh{said}{missing}")
    drawing.legend(figure, axis.get_legend_handles_labels()[0], ncols=3)
    return figure


def _parts(runs: Sequence[JobRun]) -> dict[str, float]:
    """Return known joules by the colour of their part of a bar."""
    found: dict[str, float] = {}
    for run in runs:
        part = LOST if run.state in jobs.LOST_STATES else run.state
        found[part] = found.get(part, 0.0) + (run.energy_j or 0.0)
    return found


def _whole(runs: Sequence[JobRun], grams: float | None) -> str:
    whole = jobs.summed(runs)
    lost = jobs.summed(run for run in runs if run.state in jobs.LOST_STATES)
    said = [
        f"{_amount(whole)} in {how_many(whole.runs, 'run')} of "
        f"{how_many(jobs.number_of_jobs(runs), 'job')}, {_cpu_time(whole)} ({_sources(whole)})."
    ]
    if grams is not None:
        co2 = _bound(whole.energy_j, whole.known_j, ".3g", grams / J_PER_KWH)
        said.append(f"That is {co2} g of CO2e at {grams:g} g per kWh.")
    return " ".join([*said, *([_loss(lost)] if lost.runs else [])])


def _loss(lost: EnergySum) -> str:
    went = f"{how_many(lost.runs, 'run')} that failed or died"
    if lost.known_j is None:
        return f"The energy of {went} is unknown."
    return f"{_amount(lost)} of it went to {went}."


def _amount(total: EnergySum) -> str:
    if total.known_j is None:
        return "An unknown energy"
    return f"{_kwh_bound(total)} kWh"


def _cpu_time(total: EnergySum) -> str:
    if total.known_cpu_s is None:
        return "an unknown CPU time"
    least = "" if total.cpu_s is not None else "at least "
    return f"{least}{duration(total.known_cpu_s)} of CPU time"


def _bound(whole: float | None, known: float | None, shape: str, scale: float = 1.0) -> str:
    """Write a sum times a scale, as a lower bound where it has unknown parts."""
    if known is None:
        return NA
    least = "at least " if whole is None else ""
    return f"{least}{known * scale:{shape}}"


def _kwh_bound(total: EnergySum) -> str:
    return _bound(total.energy_j, total.known_j, ".3g", 1 / J_PER_KWH)


def _sources(total: EnergySum) -> str:
    return ", ".join(f"{count} {source_in_words(one)}" for one, count in total.sources.items())


def _told_rule(name: str, runs: Sequence[JobRun]) -> dict[str, str]:
    whole = jobs.summed(runs)
    lost = jobs.summed(run for run in runs if run.state in jobs.LOST_STATES)
    redone = jobs.summed(run for run in runs if run.state == jobs.REDONE_RUN)
    return {
        "rule": name,
        "jobs": str(jobs.number_of_jobs(runs)),
        "runs": str(whole.runs),
        "s": _bound(whole.seconds, whole.known_s, ".1f"),
        "CPU s": _bound(whole.cpu_s, whole.known_cpu_s, ".2f"),
        "J": _bound(whole.energy_j, whole.known_j, ".3g"),
        "kWh": _kwh_bound(whole),
        "redone kWh": _kwh_bound(redone) if redone.runs else "",
        "lost kWh": _kwh_bound(lost) if lost.runs else "",
        "source": _sources(whole),
    }


def _bases(runs: Sequence[JobRun]) -> list[str]:
    """Say what estimates rest on, and why energies are unknown, each once."""
    estimated = dict.fromkeys(run.basis for run in runs if run.source == ESTIMATE)
    unknown = dict.fromkeys(run.basis for run in runs if run.source == NO_SOURCE)
    said = [f"Estimates rest on: {basis}." for basis in estimated]
    return said + [f"Unknown: {why}." for why in unknown if why]


def _rule_row(name: str, runs: Sequence[JobRun], grams: float | None) -> dict[str, Any]:
    whole = jobs.summed(runs)
    amounts = {
        state: jobs.summed(run for run in runs if run.state == state) for state in jobs.RUN_STATES
    }
    return {
        "rule": name,
        "jobs": jobs.number_of_jobs(runs),
        "runs": whole.runs,
        "runs_with_known_energy": whole.known,
        "s": whole.seconds,
        "cpu_s": whole.cpu_s,
        "energy_j": whole.energy_j,
        "energy_kwh": _kwh(whole.energy_j),
        "known_energy_j": whole.known_j,
        **{f"{state}_energy_j": one.known_j for state, one in amounts.items()},
        "sources": " ".join(whole.sources),
        **_carbon(whole.energy_j, grams),
    }


def _job_row(run: JobRun, grams: float | None) -> dict[str, Any]:
    began = datetime.datetime.fromtimestamp(run.wall_time_s, datetime.UTC)
    return {
        "rule": run.rule,
        "wildcards": ", ".join(f"{name}={value}" for name, value in run.wildcards.items()),
        "output": ", ".join(run.output),
        "run": run.number,
        "state": run.state,
        "host": run.host,
        "began": began.isoformat(timespec="seconds"),
        "s": run.seconds,
        "cpu_s": run.cpu_s,
        "energy_j": run.energy_j,
        "energy_kwh": run.energy_kwh,
        "source": run.source,
        "measured": run.source in MEASURED_SOURCES,
        "devices": " ".join(run.devices),
        "flags": " ".join(run.flags),
        "basis": run.basis,
        **_carbon(run.energy_j, grams),
    }


def _carbon(joules: float | None, grams: float | None) -> dict[str, Any]:
    if grams is None:
        return {}
    return {"gco2e": None if joules is None else joules / J_PER_KWH * grams}


def _kwh(joules: float | None) -> float | None:
    return None if joules is None else joules / J_PER_KWH


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(path, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["rule"])
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if value is None:
        return NA
    return in_csv(value) if isinstance(value, str) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line that the module's docstring describes."""
    parser = argparse.ArgumentParser(prog="python -m longwatt.report.workflow_energy")
    parser.add_argument("folder", type=Path, help="the meter's folder, which holds jobs/")
    parser.add_argument("--watts-per-core", type=watts_option)
    parser.add_argument("--grams-per-kwh", type=command_line.number_from_zero)
    given = parser.parse_args(arguments)
    write_workflow_energy(given.folder, given.watts_per_core, given.grams_per_kwh)
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
