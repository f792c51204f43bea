"""Write a plan down: plan.md for people, plan.csv and plan.json for programs."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longwatt.config.documents import DEMO
from longwatt.energy.meters import rapl
from longwatt.files import whole_file
from longwatt.freshness.summaries import changed_cells
from longwatt.layout import wording
from longwatt.layout.pages import Section, Table, markdown
from longwatt.layout.wording import NA, duration, gib, how_many, number, percent, short
from longwatt.models.family import FAST, STOCK
from longwatt.plan import cell_cores, data_sizes, urgency
from longwatt.plan.cell_cores import CellCores
from longwatt.plan.data_sizes import TOKENS_PER_WORD, Data
from longwatt.plan.disk import Parameters
from longwatt.plan.forecast import CellPart, Miss
from longwatt.plan.memory import LONGEST, PROCESS_GIB, CellMemory
from longwatt.plan.model_shapes import BIGBIRD_COST
from longwatt.plan.plan import G_PER_KG, HOUR_S, Bill, Plan, PlannedGpus, finished_parts
from longwatt.plan.runtimes import RuntimeModel
from longwatt.plan.work import CPU_FLOPS, CPU_LAYER_S, GPU_FLOPS, GPU_LAYER_S, LARGEST_BATCH
from longwatt.progress import say
from longwatt.provenance.stamps import write_json
from longwatt.study.cells import FINETUNE, LARGEST, PREDICT, classifies
from longwatt.study.checks import checked_stages
from longwatt.study.reported.report_settings import titles as titles_of
from longwatt.study.settings import COMPARISON_DEFAULTS
from longwatt.study.stages import Stages
from longwatt.tokens.references import EACH

DEAREST = 10  # cells that the plan names
WH_PER_KWH = 1000
LEAST_SHOWN_KWH = 0.001  # below it kWh show no digit
PLAN_COLUMNS = (
    "cell", "dataset", "model", "attention", "seq_len", "budget", "protocol", "seed", "part",
    "finished", "gpus", "seconds", "seconds_median", "seconds_at_most", "seconds_source",
    "gpu_hours", "gpu_hours_at_most", "mean_power_w", "power_source", "energy_kwh",
    "energy_kwh_at_most", "energy_cost", "gpu_cost", "gco2e", "steps", "steps_at_most",
    "validations", "validations_at_most", "validation_share", "validation_share_at_most",
    "patience", "cannot_stop_early", "peak_memory_gib",
)  # fmt: skip


def write_plan(
    settings: Mapping[str, Any],
    stamps: Mapping[str, Sequence[str]],
    folder: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write plan.md, plan.csv and plan.json, and a summary to the terminal.

    Args:
        settings: `study_id`, `study`, `machine` (config.yaml), `gpus_given`, `gpus_found`, and
            `demo`: the embedded study, None where there is none.
        stamps: the digests of settings and code in force, by artefact.
        folder: results/{study}.
        provenance: the stamp of plan.json.
    """
    plan = read_plan(settings, stamps)
    with whole_file(folder / "plan.csv", newline="") as stream:
        writer = csv.DictWriter(stream, PLAN_COLUMNS, restval=NA)
        writer.writeheader()
        for part in plan.parts:
            row = {**_row(part, plan.prices), "attention": plan.runtimes.attention(part.cell)}
            row["peak_memory_gib"] = _peak_gib(plan, part)
            writer.writerow({name: value for name, value in row.items() if value is not None})
    write_json(folder / "plan.json", {**facts(plan), "provenance": provenance})
    with whole_file(folder / "plan.md") as stream:
        stream.write(markdown(f"Plan of {plan.stages.study_id}", plan_page(plan)))
    for line in summary(plan):
        say(line)
    table = folder / "plan.csv"
    say(f"the whole plan is in {folder / 'plan.md'}, a row for each cell and part in {table}")


def read_plan(settings: Mapping[str, Any], stamps: Mapping[str, Sequence[str]]) -> Plan:
    """Make the plan of a study. Arguments are as in `write_plan`."""
    machine = settings["machine"]
    stages = checked_stages(settings["study_id"], settings["study"], machine)
    needed = max(stages.gpus(name) for name in stages.cells)
    gpus = PlannedGpus.of(settings["gpus_given"], settings["gpus_found"], needed)
    other = stages.study_id != DEMO and settings["demo"] is not None
    demo = _runtimes(checked_stages(DEMO, settings["demo"], machine)) if other else None
    shared = _shared(stages)
    return Plan(stages, _runtimes(stages), gpus, finished_parts(stages, stamps), demo, shared)


def _shared(stages: Stages) -> CellCores | None:
    """Share this machine's cores among the cells of a study without GPUs."""
    if stages.uses_gpus:
        return None
    return cell_cores.of_study(stages, len(os.sched_getaffinity(0)), rapl.can_be_read())


def _runtimes(stages: Stages) -> RuntimeModel:
    """Foretell run times without results that are there no more."""
    shared = _shared(stages)
    threads = cell_cores.threads_of(stages, shared) if shared else {}
    found = urgency.runtimes(stages, threads)
    found.left_out = changed_cells(found.summary, Path(stages.results))
    return found


def facts(plan: Plan) -> dict[str, Any]:
    """Collect plan.json: the totals, and all that is no row of plan.csv."""
    expected, most = plan.wall_s
    bills = {
        f"{name}{'_at_most' if at_most else ''}": asdict(Bill.of(parts, plan.prices, at_most))
        for at_most in (False, True)
        for name, parts in (("all", plan.parts), ("left", plan.left))
    }
    return {
        "study": plan.stages.study_id,
        "cells": len(plan.stages.cells),
        "finished_parts": len(plan.finished),
        "stale_parts": plan.stale,
        "parts": len(plan.parts),
        "gpus": asdict(plan.gpus),
        "cell_cores": plan.cell_cores and asdict(plan.cell_cores),
        "wall_s": expected,
        "wall_s_at_most": most,
        **bills,
        "prices": plan.prices,
        "disk": [asdict(share) for share in plan.disk],
        "memory": {name: _memory_facts(found) for name, found in plan.memories.items()},
        "memory_misses": {name: asdict(miss) for name, miss in plan.memory_misses.items()},
        "misses": {study: [asdict(miss) for miss in found] for study, found in plan.misses.items()},
        "cannot_stop_early": [part.cell.name for part in plan.parts if part.cannot_stop_early],
    }


def _memory_facts(found: CellMemory) -> dict[str, Any]:
    """Collect what plan.json says of a cell's memory, in GiB."""
    return {**asdict(found), "most": found.most.total, "exceeds": found.exceeds}


def _peak_gib(plan: Plan, part: CellPart) -> float | None:
    """Return the forecast memory of a part on each device, None where it is unknown."""
    known = plan.memories.get(part.cell.name)
    if known is None:
        return None
    point = part.part.removeprefix(PREDICT)
    found = known.training if part.part == FINETUNE else known.predicting.get(point)
    return None if found is None else found.total


def _row(part: CellPart, prices: Mapping[str, Any]) -> dict[str, Any]:
    bill = Bill.of([part], prices)
    own = ("finished", "gpus", "seconds", "seconds_median", "seconds_at_most")
    row = {
        "cell": part.cell.name,
        **vars(part.cell),
        "part": part.part,
        **{name: getattr(part, name) for name in (*own, "energy_kwh", "energy_kwh_at_most")},
        "seconds_source": part.source,
        "gpu_hours": bill.gpu_hours,
        "gpu_hours_at_most": part.gpus * part.seconds_at_most / HOUR_S,
        "mean_power_w": part.power.watts,
        "power_source": part.power.source,
        "energy_cost": bill.energy_cost,
        "gpu_cost": bill.gpu_cost,
        "gco2e": None if bill.co2e_kg is None else bill.co2e_kg * G_PER_KG,
    }
    for work, ending in ((part.work, ""), (part.work_at_most, "_at_most")):
        if work is not None:
            row[f"steps{ending}"] = round(work.steps)
            row[f"validations{ending}"] = work.validations
            row[f"validation_share{ending}"] = work.validation_share
    if part.work_at_most is not None:
        row |= {"patience": part.patience, "cannot_stop_early": part.cannot_stop_early}
    return row


def summary(plan: Plan) -> list[str]:
    """Sum a plan up for the terminal, with what is dear or never stops."""
    lines = _head(plan)
    for row in _dearest(plan)[:3]:
        lines.append(f"dearest: {row['cell']}, {row['expected']} ({row['at most']} at most)")
    stuck, cells = sum(part.cannot_stop_early for part in plan.parts), len(plan.stages.cells)
    never = f"early stopping can never fire in {stuck} of {cells} cells"
    return [*lines, *([never] if stuck else []), *_too_much(plan)]


def plan_page(plan: Plan) -> list[Section]:
    """Make the sections of plan.md."""
    pue = plan.prices["pue"]
    outside = [f"The building's overhead (PUE {pue:g}) is in none of these numbers."]
    left_out = [NOT_IN_IT, *([LEFT_OUT_OF_EXITS] if plan.stages.with_exits else [])]
    kinds = (_speeds, _lengths, _depths, _batches, _powers, _prices)
    assumed = [*(row for of in kinds for row in of(plan)), _fact("early stopping", *STOPPING)]
    assumptions = Table(assumed, ["what", "assumed", "source"])
    by_model = Table(_by_model(plan), ["dataset", "model", "attention", "budget"])
    dearest = f"The dearest {min(DEAREST, len(plan.stages.cells))} cells"
    return [
        Section("", [*_head(plan), *(outside if pue != 1 else [])]),
        Section("By dataset and model", [by_model]),
        Section(dearest, [Table(_dearest(plan), ["cell", "from"])]),
        _validations(plan),
        _stuck(plan),
        _memory(plan),
        _disk(plan),
        Section("What this rests on", [assumptions, *left_out]),
        _error(plan),
    ]


NOT_IN_IT = (
    "Not in the times: making data and finding batch sizes, starting processes and loading models, "
    "waiting for GPUs that others use, attempts that are lost. Of a training that was interrupted "
    "the whole is counted, though it goes on from its last checkpoint."
)
ESTIMATES = (
    "Estimates, not measurements: what comes first is the mean over when trainings may stop early, "
    "as the model assumes it; `at most` holds if none stops before its last step. The time until "
    "all is done is that of a simulated schedule in which every job takes its mean (or most) time."
)
LEAVING = (
    " In the mean, examples leave at exits as stated below; at most, none leaves before the last."
)
LEFT_OUT_OF_EXITS = (
    "Nor is fitting temperatures and comparing exits, which takes seconds a cell; recording what "
    "every exit says of every example is a part of its own (exits)."
)
STALE_NOTE = (
    "{} in the summary of what was made with other settings or code than now: good to scale these "
    "estimates and to tell what power is drawn, but no answer for what is left."
)


def _head(plan: Plan) -> list[str]:
    """Write the sentences that matter before paying."""
    cells, left = len(plan.stages.cells), plan.left
    if not left:
        took = f"nothing is left. What they took: {_bill(plan, plan.parts)}."
        return [f"{cells} cells, all of which have run: {took}"]
    disk = f"{gib(_disk_gib(plan))} of disk"
    lines = [f"{cells} cells, estimated: {_bill(plan, left)}; {_wall(plan)}; {disk}."]
    if plan.finished:
        done = [part for part in plan.parts if part.finished]
        measured = all(part.source == "measured" for part in done)
        word = "was measured" if measured else "took, partly estimated"
        share = f"{len(done)} of {len(plan.parts)}"
        lines.append(
            f"That is what is left: {share} trainings and predictions have run. "
            f"What they {word}: {_bill(plan, done)}."
        )
    lines.append(ESTIMATES + (LEAVING if plan.stages.with_exits else ""))
    if plan.stale:
        lines.append(STALE_NOTE.format(how_many(plan.stale, "measurement")))
    return lines


def _bill(plan: Plan, parts: Sequence[CellPart]) -> str:
    """Say the hours, energy and money of some parts, the most in brackets."""
    bill, most = Bill.of(parts, plan.prices), Bill.of(parts, plan.prices, at_most=True)
    currency = plan.prices["currency"] or NO_CURRENCY
    quantities = [
        (bill.gpu_hours or None, most.gpu_hours, "GPU-hours"),
        _energy(bill.energy_kwh, most.energy_kwh),
        (bill.energy_cost, most.energy_cost, f"{currency} for energy"),
        (bill.gpu_cost, most.gpu_cost, f"{currency} for GPUs"),
        (bill.co2e_kg, most.co2e_kg, "kg CO2e"),
    ]
    said = [
        _pair(short(value), short(limit), f" {unit}")
        for value, limit, unit in quantities
        if value is not None
    ]
    if bill.cpu_hours:
        hours, limit = duration(bill.cpu_hours * HOUR_S), duration(most.cpu_hours * HOUR_S)
        said = [_pair(hours, limit, " on the CPU"), *said]
    return ", ".join(said if bill.energy_kwh is not None else [*said, "energy NA"])


def _energy(kwh: float | None, limit: float | None) -> tuple[float | None, float | None, str]:
    """Return an energy, its most and their unit, Wh where kWh show no digit."""
    if kwh is None or limit is None or limit >= LEAST_SHOWN_KWH:
        return kwh, limit, "kWh"
    return WH_PER_KWH * kwh, WH_PER_KWH * limit, "Wh"


def _kwh(value: float | None) -> str:
    """Write an energy of a table, whose unit is kWh however small it is."""
    small = value is not None and 0 < value < LEAST_SHOWN_KWH
    return number(value, ".2g") if small else short(value)


def _pair(value: str, limit: str, unit: str) -> str:
    return f"{value}{unit}" + (f" (at most {limit})" if limit != value else "")


def _wall(plan: Plan) -> str:
    expected, most = map(duration, plan.wall_s)
    if not plan.gpus.count:
        how = f"{plan.on_cpu} jobs at once" if plan.on_cpu > 1 else "one job at a time"
        return "done in " + _pair(expected, most, f", {how}")
    where = f" on {how_many(plan.gpus.count, 'GPU')}"
    return f"done in {_pair(expected, most, where)}; GPUs: {plan.gpus.source}"


def _by_model(plan: Plan) -> list[dict[str, str]]:
    """Make a row for every dataset, model, attention and budget, and one for all."""
    titles, groups = titles_of(plan.stages.study), dict[tuple[str, ...], list[CellPart]]()
    for part in plan.parts:
        cell, path = part.cell, plan.runtimes.attention(part.cell)
        groups.setdefault((cell.dataset, cell.model, path, cell.budget), []).append(part)
    rows = []
    for (dataset, model, path, budget), parts in groups.items():
        is_random = plan.stages.study["models"][model]["initialisation"] == "random"
        random = wording.random_weights(is_random, brackets=True)
        names = {"dataset": titles[dataset], "model": titles[model] + random}
        names |= {"attention": path, "budget": budget}
        rows.append({**names, **_amounts(plan, parts)})
    everything = {"dataset": "all", **dict.fromkeys(("model", "attention", "budget"), "")}
    return [*rows, {**everything, **_amounts(plan, plan.parts)}]


def _amounts(plan: Plan, parts: Sequence[CellPart]) -> dict[str, str]:
    bill, most = Bill.of(parts, plan.prices), Bill.of(parts, plan.prices, at_most=True)
    on_cpu = not plan.stages.uses_gpus
    trained = [part for part in parts if part.work_at_most]
    validations = sum(part.work_at_most.validations for part in trained if part.work_at_most)
    return {
        "cells": str(len(trained)),
        "run": str(sum(part.finished for part in trained)),
        "time" if on_cpu else "GPU-hours": _amount(bill.device_hours, on_cpu),
        "at most": _amount(most.device_hours, on_cpu),
        "kWh": _kwh(bill.energy_kwh),
        "kWh at most": _kwh(most.energy_kwh),
        "most validations": f"{validations:,}",
        "their share": percent(_validation_share(trained)),
    }


def _amount(hours: float, on_cpu: bool) -> str:
    return duration(hours * HOUR_S) if on_cpu else short(hours)


def _validation_share(trained: Sequence[CellPart]) -> float:
    """Return the share of the longest trainings' time that goes into validations."""
    works = [(part.work_at_most, part.seconds_at_most) for part in trained if part.work_at_most]
    spent = sum(work.validation_share * seconds for work, seconds in works)
    return spent / sum(seconds for _, seconds in works)


def _dearest(plan: Plan) -> list[dict[str, str]]:
    """List the cells that take most device time, whether they have run or not."""
    cells: dict[str, list[CellPart]] = {}
    for part in plan.parts:
        cells.setdefault(part.cell.name, []).append(part)
    bills = {name: Bill.of(own, plan.prices) for name, own in cells.items()}
    return [
        {
            "cell": name,
            "expected": _hours(plan, name, bills[name]),
            "at most": _hours(plan, name, Bill.of(cells[name], plan.prices, at_most=True)),
            "alone it runs": duration(sum(part.seconds for part in cells[name])),
            "kWh": _kwh(bills[name].energy_kwh),
            "from": "; ".join(dict.fromkeys(part.source for part in cells[name])),
        }
        for name in sorted(bills, key=lambda name: -bills[name].device_hours)[:DEAREST]
    ]


def _hours(plan: Plan, name: str, bill: Bill) -> str:
    on_cpu = not plan.stages.gpus(name)
    return _amount(bill.device_hours, on_cpu) + ("" if on_cpu else " GPU-hours")


def _validations(plan: Plan) -> Section:
    known = [part for part in plan.parts if part.work_at_most]
    trained = sorted(known, key=lambda part: -_validation_share([part]))
    most = sum(part.work_at_most.validations for part in trained if part.work_at_most)
    text = (
        f"At most {most:,} validations, {percent(_validation_share(trained))} of all training time "
        "if no cell stops early. Where the last step is none at which one is due, one more after "
        "it is counted, as it is made. The cells with the largest share:"
    )
    rows = [
        {
            "cell": part.cell.name,
            "steps at most": f"{part.work_at_most.steps:,.0f}",
            "validations at most": f"{part.work_at_most.validations:,}",
            "their share": percent(part.work_at_most.validation_share),
            "validations expected": f"{part.work.validations:,}",
            "share expected": percent(part.work.validation_share),
        }
        for part in trained[:DEAREST]
        if part.work and part.work_at_most
    ]
    return Section("Validations", [text, Table(rows, ["cell"])])


def _stuck(plan: Plan) -> Section:
    """List the cells whose early stopping can never fire."""
    stuck = [part for part in plan.parts if part.cannot_stop_early and part.work_at_most]
    heading = "Early stopping that can never fire"
    if not stuck:
        enough = "Every cell has enough validations for its early stopping to fire."
        return Section(heading, [enough])
    text = (
        f"In {len(stuck)} of {len(plan.stages.cells)} cells (patience + 1) x every_steps is no "
        "less than all steps: after a first validation there is no room for as many more as "
        "patience says without improvement before the last step. These cells run to it. Validate "
        "more often (every_steps) or lower patience if they should stop."
    )
    rows = [
        {
            "cell": part.cell.name,
            "steps at most": number(part.work_at_most and part.work_at_most.steps, ",.0f"),
            "validations": _scheduled(part),
            "patience": str(part.patience),
            "every steps": f"{part.every_steps:,}",
        }
        for part in stuck[: wording.LISTED]
    ]
    more = wording.more_rows(stuck, "are in plan.csv")
    return Section(heading, [text, Table(rows, ["cell"]), *more])


def _scheduled(part: CellPart) -> str:
    """Say how many validations are due, and if one follows the last step."""
    assert part.work_at_most is not None and part.every_steps is not None
    due = int(part.work_at_most.steps // part.every_steps)
    return str(due) + (
        ", and one after the last step" if due < part.work_at_most.validations else ""
    )


def _memory(plan: Plan) -> Section:
    """Show the forecast peak of the worst cell of each group, and what takes it."""
    worst: dict[tuple[str, ...], str] = {}
    for name, found in plan.memories.items():
        cell = plan.stages.cells[name]
        key = (cell.dataset, cell.model, cell.budget)
        if key not in worst or found.most.total > plan.memories[worst[key]].most.total:
            worst[key] = name
    rows = [_memory_row(name, plan.memories[name]) for name in worst.values()]
    unknown = sorted(plan.parameters.unknown)
    lacking = [f"Unknown (NA) is that of {wording.listed(unknown)}."] if unknown else []
    tables: list[str | Table] = [MEMORY_TEXT, Table(rows, ["cell", "part"])] if rows else []
    return Section("Memory of a device", [*tables, *lacking, *_too_much(plan)])


MEMORY_TEXT = (
    "Forecast peak of each device, of the cell with the most of every dataset, model and budget. "
    f"On a CPU it is that of the process, whose libraries take about {PROCESS_GIB:g} GiB; a "
    "budget's limit does not count them. The longest input is taken for "
    f"{LONGEST} times the mean one, or seq_len if that is shorter."
)


def _memory_row(name: str, found: CellMemory) -> dict[str, str]:
    most, parts = found.most, {"training": found.training, **found.predicting}
    sizes = {what: gib(size) for what, size in asdict(most).items()}
    limit = NA if found.limit_gib is None else gib(found.limit_gib)
    part = next(part for part, memory in parts.items() if memory is most)
    return {"cell": name, "part": part, "peak": gib(most.total), **sizes, "limit": limit}


def _too_much(plan: Plan) -> list[str]:
    """Warn of cells whose forecast is above what their budget allows."""
    names = [name for name, found in plan.memories.items() if found.exceeds]
    if not names:
        return []
    few = wording.listed(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [
        f"WARNING: the forecast exceeds memory_gib_per_gpu in {len(names)} of "
        f"{len(plan.stages.cells)} cells: {few}. Lower the batch, or ask for "
        "activation_checkpointing or `lora`."
    ]


def _disk_gib(plan: Plan) -> float:
    return sum(share.gib for share in plan.disk)


def _disk(plan: Plan) -> Section:
    sizes = [(share.what, share.gib, share.source) for share in plan.disk]
    sizes.append(("at most together", _disk_gib(plan), ""))
    rows = [{"what": what, "size": gib(size), "source": source} for what, size, source in sizes]
    return Section("Disk", [Table(rows, ["what", "source"]), *_parameters(plan.parameters)])


def _parameters(found: Parameters) -> list[str]:
    """Say how many parameters models have, and which of these numbers are not known yet."""
    sizes = [
        f"{name} {count / 1e6:,.1f} M" + (" (estimated)" if name in found.estimated else "")
        for name, count in sorted(found.trained.items())
    ]
    said = [f"Parameters, counted in the models: {', '.join(sizes)}."] if sizes else []
    if found.estimated & found.trained.keys():
        said.append("Estimated are models whose configuration is not here yet.")
    unknown = found.unknown.items()
    return said + [f"Not counted is {n}, which cannot be built: {why}" for n, why in unknown]


NO_CURRENCY = "(no currency given)"


def _prices(plan: Plan) -> list[dict[str, str]]:
    """List prices and carbon of electricity and GPUs as far as config.yaml has them."""
    known, currency = plan.prices, plan.prices["currency"] or NO_CURRENCY
    grid = ", ".join(str(part) for part in (known["grid_source"], known["grid_year"]) if part)
    prices, carbon = "declared: prices in config.yaml", "declared: carbon in config.yaml"
    facts = (
        ("a kWh", known["price_per_kwh"], currency, prices),
        ("an hour of a GPU", known["price_per_gpu_hour"], currency, prices),
        ("carbon of a kWh", known["grid_gco2e_per_kwh"], "gCO2e", f"{carbon} ({grid})"),
    )
    return [_fact(what, f"{x} {unit}", source) for what, x, unit, source in facts if x is not None]


STOPPING = (
    "each doubling of the steps is as likely to see the stop as any other, between the first step "
    "at which a training can stop and its last: half have stopped at the geometric mean (the order "
    "of jobs), their mean is (last - first) / ln(last / first) (times and bills)",
    "assumed",
)


def _fact(what: str, assumed: str, source: str) -> dict[str, str]:
    return {"what": what, "assumed": assumed, "source": source}


def _speeds(plan: Plan) -> list[dict[str, str]]:
    """List the assumed speeds of devices, and the basis of run times."""
    budgets = plan.stages.study["budgets"]
    used = [budgets[name] for name in sorted({part.cell.budget for part in plan.parts})]
    rows = []
    for precision in sorted({one.get("precision", "fp32") for one in used if one["gpus"]}):
        rate = _rate(GPU_FLOPS[precision], 12, GPU_LAYER_S)
        rows.append(_fact(f"a GPU in {precision}", rate, "assumed: a data-centre GPU of 2020"))
    if any(not one["gpus"] for one in used):
        rows.append(_fact("the CPU", _rate(CPU_FLOPS, 9, CPU_LAYER_S), "assumed: a few cores"))
    if plan.cell_cores:
        rows.append(_fact("cores of a cell", plan.cell_cores.described(), "this machine, if alone"))
    rows += _attentions(plan)
    sources = [part.source for part in plan.parts]
    basis = "; ".join(f"{found} from {source}" for source, found in Counter(sources).items())
    measured = f"measured: {plan.runtimes.summary}"
    known = measured if plan.runtimes.measured else "nothing measured yet"
    return [*rows, _fact("times of trainings and predictions", basis, known)]


def _attentions(plan: Plan) -> list[dict[str, str]]:
    """Make a row for each family and path of attention that a plan reckons with."""
    models = plan.stages.study["models"]
    used = {(models[p.cell.model]["family"], plan.runtimes.attention(p.cell)) for p in plan.parts}
    return [
        _fact(f"{family}, {path} attention", *ATTENTIONS[family, path])
        for family, path in sorted(used)
        if (family, path) in ATTENTIONS
    ]


ATTENTIONS = {
    ("led", STOCK): (
        "chunks that overlap by half, inputs padded to a multiple of the window",
        "transformers",
    ),
    ("led", FAST): ("the pairs of the window and of the global token", "longwatt"),
    ("bigbird_pegasus", STOCK): (
        f"{BIGBIRD_COST:g} times its operations",
        "arXiv 2204.07288, GovReport at 4096 tokens",
    ),
    ("bigbird_pegasus", FAST): ("its operations alone", "assumed"),
}


def _rate(flops: float, exponent: int, layer_s: float) -> str:
    size = f"{flops / 10**exponent:g} x 10^{exponent}"
    return f"{size} operations/s, {layer_s * 1000:g} ms a layer"


def _lengths(plan: Plan) -> list[dict[str, str]]:
    rows = []
    for name, data in sorted(plan.runtimes.data.items()):
        inputs, outputs = data.words_in * TOKENS_PER_WORD, data.words_out * TOKENS_PER_WORD
        trained, validated = data.rows.get("train", 0), _validated(plan, name, data)
        sizes = f"{trained:,} rows to train on, {validated} to validate"
        out = "a label" if classifies(plan.stages.study, name) else f"{outputs:,.0f}"
        lengths = f"{inputs:,.0f} tokens in, {out} out"
        rows.append(_fact(name, f"{sizes}; {lengths}", _data_source(plan, name)))
    return rows


def _depths(plan: Plan) -> list[dict[str, str]]:
    """Make a row for every model with exits and every mean number of layers."""
    counted = Counter(
        _depth(plan, name, point, rule)
        for name in plan.stages.with_exits
        for point in plan.stages.points(name)
        if (rule := plan.stages.predict(name, point).settings["inference"].get("exit")) is not None
    )
    return [
        _fact(
            f"layers that a mean example of {name} runs",
            f"{layers:.1f} at {how_many(points, 'inference point')}",
            source,
        )
        for (name, layers, source), points in counted.items()
    ]


def _depth(plan: Plan, name: str, point: str, rule: Mapping[str, Any]) -> tuple[str, float, str]:
    """Return a model, the layers that a rule's mean example runs, and their source."""
    runtimes, cell = plan.runtimes, plan.stages.cells[name]
    shape, share = runtimes.shapes[cell.model], runtimes.measured_depth(name, f"predict/{point}")
    source = ASSUMED_EXITS if share is None else MEASURED_EXITS
    share = shape.depth(rule) if share is None else share
    return cell.model, share * shape.encoder_layers, source


ASSUMED_EXITS = "assumed: half way between the first exit and the last"
MEASURED_EXITS = "measured: of cells like these at the same point"


def _validated(plan: Plan, name: str, data: Data) -> str:
    """Say how many predictions of the validation split are compared, and with what."""
    if classifies(plan.stages.study, name):
        return f"{data.inputs('validation'):,}"
    scoring = {**COMPARISON_DEFAULTS, **plan.stages.study.get("scoring", {})}
    compared = scoring["references"]
    inputs = f"{data.predictions('validation', None, compared):,}"
    if compared == EACH:
        return f"{inputs} rows (each reference)"
    if data.examples is None:
        unknown = "how many ids are unique is not known before the data are here"
        return f"at most {inputs} inputs (rows; {unknown})"
    return f"{inputs} inputs"


def _data_source(plan: Plan, name: str) -> str:
    entry = plan.stages.study["datasets"][name]
    words = f"words x {TOKENS_PER_WORD} tokens"
    if plan.runtimes.facts.get(name, {}).get("splits"):
        return f"the dataset itself; {words}"
    if entry["source"] in ("needle", "squad_articles"):
        return f"its options; {words}"
    if entry.get("options", {}).get("task") in data_sizes.SCROLLS_DATA:
        return f"arXiv 2204.07288; {words}"
    if entry["source"] == "aclsum_sentences":
        return f"the package; {words}"
    known = data_sizes.repository_name(entry.get("options", {})) in data_sizes.LABELLED_DATA
    if known and classifies(plan.stages.study, name):
        return f"rows as published, words of some thousand rows; {words}"
    return f"assumed: nothing is known of it before it is here; {words}"


def _batches(plan: Plan) -> list[dict[str, str]]:
    """List the largest batches, found by probes or assumed."""
    stages, what, unit = plan.stages, "the largest batch that fits", "examples a device"
    budgets = {name: stages.finetune(name).settings["budget"] for name in stages.cells}
    asked = [name for name, own in budgets.items() if own["per_device_batch_size"] == LARGEST]
    sizes = [size for name in asked if (size := plan.runtimes.largest_batch(name)) is not None]
    untried, rows = len(asked) - len(sizes), []
    if sizes:
        few, many = min(sizes), max(sizes)
        span = f"{few} {unit}" if few == many else f"{few} to {many} {unit}"
        rows.append(_fact(what, span, f"found by trying for {how_many(len(sizes), 'cell')}"))
    if untried:
        source = f"assumed for {how_many(untried, 'cell')} until it has been found by trying"
        rows.append(_fact(what, f"{LARGEST_BATCH} {unit}", source))
    return rows


def _powers(plan: Plan) -> list[dict[str, str]]:
    """Make a row for every assumed power, with the kinds of jobs that draw it."""
    who: dict[tuple[str, float | None, str], set[str]] = {}
    for part in plan.parts:
        kind = f"{part.cell.model} {'training' if part.work else 'predicting'}"
        who.setdefault((part.cell.budget, part.power.watts, part.power.source), set()).add(kind)
    rows = []
    for (budget, watts, source), kinds in who.items():
        draws = NA if watts is None else f"{short(watts)} W a job"
        rows.append(_fact(f"power on {budget}: {', '.join(sorted(kinds))}", draws, source))
    return rows


def _error(plan: Plan) -> Section:
    """Compare predictions with what was measured."""
    rows = [_miss(study, miss) for study, found in plan.misses.items() for miss in found]
    text = (
        "Cells that were measured, each foretold without its own measurement: how many times too "
        "long or too short. Scaled are predictions scaled by the study's other measured cells "
        "(other seeds are left out with it), as above; unscaled are those from operations alone, "
        "which hold while nothing of a study is measured."
    )
    gaps = []
    for study in (name for name, found in plan.misses.items() if not found):
        stale = plan.stale and study == plan.stages.study_id
        where = "with the settings and code in force" if stale else "on this machine"
        gaps.append(f"{study}: nothing measured {where}{TRY_DEMO if study == DEMO else ''}.")
    if DEMO not in plan.misses:
        gaps.append("The embedded study is not here, so predictions were not tried on it.")
    tables: list[str | Table] = [text, Table(rows, ["study", "part", "worst cell"])] if rows else []
    return Section("How far this can be off", [*tables, *_memory_error(plan), *gaps])


def _memory_error(plan: Plan) -> list[str | Table]:
    """Compare forecast peaks of memory with measured ones, if there are any."""
    rows = [
        {
            "study": study,
            "measured trainings": str(miss.cells),
            "median": wording.times(miss.median, ".2f"),
            "worst": wording.times(miss.worst, ".2f"),
            "forecast above": f"{miss.over} of {miss.cells}",
            "worst cell": miss.worst_cell,
        }
        for study, miss in plan.memory_misses.items()
    ]
    text = "Peaks of memory in training, forecast over measured or measured over forecast:"
    return [text, Table(rows, ["study", "worst cell"])] if rows else []


TRY_DEMO = "; run it (longwatt run --study demo, minutes) to see the error"


def _miss(study: str, miss: Miss) -> dict[str, str]:
    return {
        "study": study,
        "part": miss.part,
        "measured cells": str(miss.cells),
        "of them scaled": str(miss.scaled),
        "scaled: median": wording.times(miss.median, ".2f"),
        "worst": wording.times(miss.worst, ".2f"),
        "worst cell": miss.worst_cell or NA,
        "unscaled: median": wording.times(miss.unrefined_median),
        "unscaled: worst": wording.times(miss.unrefined_worst),
    }
