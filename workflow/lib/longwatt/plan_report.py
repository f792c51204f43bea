"""Write a plan down: plan.md for people, plan.csv and plan.json for programs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from longwatt import plan_urgency
from longwatt.cells import LARGEST, classifies
from longwatt.data_sizes import LABELLED_DATA, SCROLLS_DATA, TOKENS_PER_WORD, Data, repository_name
from longwatt.footprint import Parameters
from longwatt.forecast import CellPart, Miss
from longwatt.fresh_summary import changed_cells
from longwatt.pages import Section, Table, markdown
from longwatt.plan import G_PER_KG, HOUR_S, Bill, Plan, PlannedGpus, finished_parts
from longwatt.progress import say
from longwatt.provenance import whole_file, write_json
from longwatt.references import EACH
from longwatt.report_settings import titles as titles_of
from longwatt.runtime_model import RuntimeModel
from longwatt.settings import COMPARISON_DEFAULTS
from longwatt.shapes import BIGBIRD_COST
from longwatt.stages import Stages
from longwatt.study import DEMO
from longwatt.study_checks import checked_stages
from longwatt.training_work import CPU_FLOPS, CPU_LAYER_S, GPU_FLOPS, GPU_LAYER_S, LARGEST_BATCH
from longwatt.wording import (
    LISTED,
    NA,
    count,
    duration,
    gib,
    more_rows,
    number,
    percent,
    random_weights,
    short,
    times,
)

DEAREST = 10  # cells that the plan names
COLUMNS = (
    "cell", "dataset", "model", "seq_len", "budget", "protocol", "seed", "part", "finished", "gpus",
    "seconds", "seconds_median", "seconds_at_most", "seconds_source", "gpu_hours", "gpu_hours_at_most",
    "mean_power_w", "power_source", "energy_kwh", "energy_kwh_at_most", "energy_cost", "gpu_cost", "gco2e",
    "steps", "steps_at_most", "validations", "validations_at_most", "validation_share", "validation_share_at_most",
    "patience", "cannot_stop_early",
)  # fmt: skip


def write_plan(
    settings: Mapping[str, Any],
    stamps: Mapping[str, Sequence[str]],
    folder: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write plan.md, plan.csv and plan.json, and a summary to the terminal.

    Args:
        settings: `study_id`, `study`, `machine` (config.yaml), `gpus_given`, `gpus_found`, and `demo`: the embedded
            study, None where there is none.
        stamps: the digests of settings and code in force, by artefact.
        folder: results/{study}.
        provenance: the stamp of plan.json.
    """
    plan = read_plan(settings, stamps)
    with whole_file(folder / "plan.csv", newline="") as stream:
        _write_rows(stream, plan)
    write_json(folder / "plan.json", {**facts(plan), "provenance": provenance})
    sections = page(plan)
    with whole_file(folder / "plan.md") as stream:
        stream.write(markdown(f"Plan of {plan.stages.study_id}", sections))
    for line in summary(plan):
        say(line)
    say(
        f"the whole plan is in {folder / 'plan.md'}, a row for each cell and part in {folder / 'plan.csv'}"
    )


def read_plan(settings: Mapping[str, Any], stamps: Mapping[str, Sequence[str]]) -> Plan:
    """Make the plan of a study. Arguments are as in `write_plan`."""
    machine = settings["machine"]
    stages = checked_stages(settings["study_id"], settings["study"], machine)
    needed = max(stages.gpus(name) for name in stages.cells)
    gpus = PlannedGpus.of(settings["gpus_given"], settings["gpus_found"], needed)
    other = stages.study_id != DEMO and settings["demo"] is not None
    demo = _runtimes(checked_stages(DEMO, settings["demo"], machine)) if other else None
    return Plan(stages, _runtimes(stages), gpus, finished_parts(stages, stamps), demo)


def _runtimes(stages: Stages) -> RuntimeModel:
    """Foretell run times without results that are there no more."""
    found = plan_urgency.runtimes(stages)
    found.left_out = changed_cells(found.summary, Path(stages.results))
    return found


def facts(plan: Plan) -> dict[str, Any]:
    """Collect plan.json: the totals, and all that is no row of plan.csv."""
    expected, most = plan.wall_s
    bills = {
        "all": (plan.parts, False),
        "left": (plan.left, False),
        "all_at_most": (plan.parts, True),
        "left_at_most": (plan.left, True),
    }
    return {
        "study": plan.stages.study_id,
        "cells": len(plan.stages.cells),
        "finished_parts": len(plan.finished),
        "stale_parts": plan.stale,
        "parts": len(plan.parts),
        "gpus": asdict(plan.gpus),
        "wall_s": expected,
        "wall_s_at_most": most,
        **{
            name: asdict(Bill.of(parts, plan.prices, at_most))
            for name, (parts, at_most) in bills.items()
        },
        "prices": plan.prices,
        "disk": [asdict(share) for share in plan.disk],
        "misses": {study: [asdict(miss) for miss in found] for study, found in plan.misses.items()},
        "cannot_stop_early": [part.cell.name for part in plan.parts if part.cannot_stop_early],
    }


def _write_rows(stream: TextIO, plan: Plan) -> None:
    writer = csv.DictWriter(stream, COLUMNS, restval=NA)
    writer.writeheader()
    for part in plan.parts:
        known = {
            name: value for name, value in _row(part, plan.prices).items() if value is not None
        }
        writer.writerow(known)


def _row(part: CellPart, prices: Mapping[str, Any]) -> dict[str, Any]:
    bill = Bill.of([part], prices)
    trained = {} if part.work is None or part.work_at_most is None else _training_row(part)
    return {
        "cell": part.cell.name,
        **vars(part.cell),
        "part": part.part,
        "finished": part.finished,
        "gpus": part.gpus,
        "seconds": part.seconds,
        "seconds_median": part.seconds_median,
        "seconds_at_most": part.seconds_at_most,
        "seconds_source": part.source,
        "gpu_hours": bill.gpu_hours,
        "gpu_hours_at_most": part.gpus * part.seconds_at_most / HOUR_S,
        "mean_power_w": part.power.watts,
        "power_source": part.power.source,
        "energy_kwh": part.energy_kwh,
        "energy_kwh_at_most": part.energy_kwh_at_most,
        "energy_cost": bill.energy_cost,
        "gpu_cost": bill.gpu_cost,
        "gco2e": None if bill.co2e_kg is None else bill.co2e_kg * G_PER_KG,
        **trained,
    }


def _training_row(part: CellPart) -> dict[str, Any]:
    assert part.work is not None and part.work_at_most is not None
    return {
        "steps": round(part.work.steps),
        "steps_at_most": round(part.work_at_most.steps),
        "validations": part.work.validations,
        "validations_at_most": part.work_at_most.validations,
        "validation_share": part.work.validation_share,
        "validation_share_at_most": part.work_at_most.validation_share,
        "patience": part.patience,
        "cannot_stop_early": part.cannot_stop_early,
    }


def summary(plan: Plan) -> list[str]:
    """Sum a plan up for the terminal, with what is dear or never stops."""
    lines = _head(plan)
    lines += [
        f"dearest: {row['cell']}, {row['expected']} ({row['at most']} at most)"
        for row in _dearest(plan)[:3]
    ]
    stuck = [part for part in plan.parts if part.cannot_stop_early]
    lines += (
        [f"early stopping can never fire in {len(stuck)} of {len(plan.stages.cells)} cells"]
        if stuck
        else []
    )
    return lines


def page(plan: Plan) -> list[Section]:
    """Make the sections of plan.md."""
    pue = plan.prices["pue"]
    outside = [f"The building's overhead (PUE {pue:g}) is in none of these numbers."]
    left_out = [NOT_IN_IT, *([LEFT_OUT_OF_EXITS] if plan.stages.with_exits else [])]
    return [
        Section("", [*_head(plan), *(outside if pue != 1 else [])]),
        Section("By dataset and model", [Table(_by_model(plan), ["dataset", "model", "budget"])]),
        Section(
            f"The dearest {min(DEAREST, len(plan.stages.cells))} cells",
            [Table(_dearest(plan), ["cell", "from"])],
        ),
        _validations(plan),
        _stuck(plan),
        _disk(plan),
        Section(
            "What this rests on",
            [Table(_assumptions(plan), ["what", "assumed", "source"]), *left_out],
        ),
        _error(plan),
    ]


NOT_IN_IT = (
    "Not in the times: making data and finding batch sizes, starting processes and loading models, waiting for GPUs "
    "that others use, attempts that are lost. Of a training that was interrupted the whole is counted, though it goes "
    "on from its last checkpoint."
)


LEAVING = (
    " In the mean, examples leave at exits as stated below; at most, none leaves before the last."
)
LEFT_OUT_OF_EXITS = (
    "Nor is fitting temperatures and comparing exits, which takes seconds a cell; recording what every exit says of "
    "every example is a part of its own (exits)."
)


def _head(plan: Plan) -> list[str]:
    """Write the sentences that matter before paying."""
    cells, left = len(plan.stages.cells), plan.left
    if not left:
        return [
            f"{cells} cells, all of which have run: nothing is left. What they took: {_bill(plan, plan.parts)}."
        ]
    lines = [
        f"{cells} cells, estimated: {_bill(plan, left)}; {_wall(plan)}; {gib(_disk_gib(plan))} of disk."
    ]
    if plan.finished:
        done = [part for part in plan.parts if part.finished]
        word = (
            "was measured"
            if all(part.source == "measured" for part in done)
            else "took, partly estimated"
        )
        lines.append(
            f"That is what is left: {len(done)} of {len(plan.parts)} trainings and predictions have run. "
            f"What they {word}: {_bill(plan, done)}."
        )
    lines.append(
        "Estimates, not measurements: what comes first is the mean over when trainings may stop early, as the model "
        "assumes it; `at most` holds if none stops before its last step. The time until all is done is that of a "
        "simulated schedule in which every job takes its mean (or most) time."
        + (LEAVING if plan.stages.with_exits else "")
    )
    if plan.stale:
        lines.append(
            f"{count(plan.stale, 'measurement')} in the summary of what was made with other settings or code than "
            "now: good to scale these estimates and to tell what power is drawn, but no answer for what is left."
        )
    return lines


def _bill(plan: Plan, parts: Sequence[CellPart]) -> str:
    """Say the hours, energy and money of some parts, the most in brackets."""
    bill, most = Bill.of(parts, plan.prices), Bill.of(parts, plan.prices, at_most=True)
    currency = plan.prices["currency"] or NO_CURRENCY
    quantities = [
        (bill.gpu_hours or None, most.gpu_hours, "GPU-hours"),
        (bill.energy_kwh, most.energy_kwh, "kWh"),
        (bill.energy_cost, most.energy_cost, f"{currency} for energy"),
        (bill.gpu_cost, most.gpu_cost, f"{currency} for GPUs"),
        (bill.co2e_kg, most.co2e_kg, "kg CO2e"),
    ]
    said = [
        _pair(short(value), short(limit), f" {unit}")
        for value, limit, unit in quantities
        if value is not None
    ]
    on_cpu = [
        _pair(duration(bill.cpu_hours * HOUR_S), duration(most.cpu_hours * HOUR_S), " on the CPU")
    ]
    return ", ".join(
        [
            *(on_cpu if bill.cpu_hours else []),
            *said,
            *([] if bill.energy_kwh is not None else ["energy NA"]),
        ]
    )


def _pair(value: str, limit: str, unit: str) -> str:
    return f"{value}{unit}" + (f" (at most {limit})" if limit != value else "")


def _wall(plan: Plan) -> str:
    expected, most = plan.wall_s
    where = f" on {count(plan.gpus.count, 'GPU')}" if plan.gpus.count else ", one job at a time"
    source = f"; GPUs: {plan.gpus.source}" if plan.gpus.count else ""
    return "done in " + _pair(duration(expected), duration(most), where) + source


def _by_model(plan: Plan) -> list[dict[str, str]]:
    """Make a row for every dataset, model and budget, and one for all."""
    titles, groups = titles_of(plan.stages.study), dict[tuple[str, str, str], list[CellPart]]()
    for part in plan.parts:
        groups.setdefault((part.cell.dataset, part.cell.model, part.cell.budget), []).append(part)
    rows = []
    for (dataset, model, budget), parts in groups.items():
        random = random_weights(
            plan.stages.study["models"][model]["initialisation"] == "random", brackets=True
        )
        names = {"dataset": titles[dataset], "model": titles[model] + random, "budget": budget}
        rows.append({**names, **_amounts(plan, parts)})
    return [*rows, {"dataset": "all", "model": "", "budget": "", **_amounts(plan, plan.parts)}]


def _amounts(plan: Plan, parts: Sequence[CellPart]) -> dict[str, str]:
    bill, most = Bill.of(parts, plan.prices), Bill.of(parts, plan.prices, at_most=True)
    on_cpu = not plan.stages.uses_gpus
    hours, limit = bill.gpu_hours + bill.cpu_hours, most.gpu_hours + most.cpu_hours
    trained = [part for part in parts if part.work_at_most]
    validations = sum(part.work_at_most.validations for part in trained if part.work_at_most)
    return {
        "cells": str(len(trained)),
        "run": str(sum(part.finished for part in trained)),
        "time" if on_cpu else "GPU-hours": _amount(hours, on_cpu),
        "at most": _amount(limit, on_cpu),
        "kWh": short(bill.energy_kwh),
        "kWh at most": short(most.energy_kwh),
        "most validations": f"{validations:,}",
        "their share": percent(_validation_share(trained)),
    }


def _amount(hours: float, on_cpu: bool) -> str:
    return duration(hours * HOUR_S) if on_cpu else short(hours)


def _validation_share(trained: Sequence[CellPart]) -> float:
    """CellPart of the longest trainings' time that goes into validations."""
    works = [(part.work_at_most, part.seconds_at_most) for part in trained if part.work_at_most]
    return sum(work.validation_share * seconds for work, seconds in works) / sum(
        seconds for _, seconds in works
    )


def _by_cell(plan: Plan) -> dict[str, list[CellPart]]:
    cells: dict[str, list[CellPart]] = {}
    for part in plan.parts:
        cells.setdefault(part.cell.name, []).append(part)
    return cells


def _dearest(plan: Plan) -> list[dict[str, str]]:
    """List the cells that take most device time, whether they have run or not."""
    hours = {
        n: sum(max(1, p.gpus) * p.seconds for p in parts) / HOUR_S
        for n, parts in _by_cell(plan).items()
    }
    most = {
        n: sum(max(1, p.gpus) * p.seconds_at_most for p in parts) / HOUR_S
        for n, parts in _by_cell(plan).items()
    }
    named = sorted(hours, key=lambda name: -hours[name])[:DEAREST]
    return [
        {
            "cell": name,
            "expected": _hours(plan, name, hours[name]),
            "at most": _hours(plan, name, most[name]),
            "alone it runs": duration(sum(part.seconds for part in _by_cell(plan)[name])),
            "kWh": short(Bill.of(_by_cell(plan)[name], plan.prices).energy_kwh),
            "from": "; ".join(dict.fromkeys(part.source for part in _by_cell(plan)[name])),
        }
        for name in named
    ]


def _hours(plan: Plan, name: str, hours: float) -> str:
    return f"{short(hours)} GPU-hours" if plan.stages.gpus(name) else duration(hours * HOUR_S)


def _validations(plan: Plan) -> Section:
    trained = sorted(
        (part for part in plan.parts if part.work_at_most),
        key=lambda part: -_validation_share([part]),
    )
    most = sum(part.work_at_most.validations for part in trained if part.work_at_most)
    text = (
        f"At most {most:,} validations, {percent(_validation_share(trained))} of all training time if no cell stops "
        "early. Where the last step is none at which one is due, one more after it is counted, as it is made. The "
        "cells with the largest share:"
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
        return Section(
            heading, ["Every cell has enough validations for its early stopping to fire."]
        )
    text = (
        f"In {len(stuck)} of {len(plan.stages.cells)} cells (patience + 1) x every_steps is no less than all "
        "steps: after a first validation there is no room for as many more as patience says without improvement before "
        "the last step. These cells run to it. Validate more often (every_steps) or lower patience if they should stop."
    )
    rows = [
        {
            "cell": part.cell.name,
            "steps at most": number(part.work_at_most and part.work_at_most.steps, ",.0f"),
            "validations": _scheduled(part),
            "patience": str(part.patience),
            "every steps": f"{part.every_steps:,}",
        }
        for part in stuck[:LISTED]
    ]
    more = more_rows(stuck, "are in plan.csv")
    return Section(heading, [text, Table(rows, ["cell"]), *more])


def _scheduled(part: CellPart) -> str:
    """Say how many validations are due, and if one follows the last step."""
    assert part.work_at_most is not None and part.every_steps is not None
    due = int(part.work_at_most.steps // part.every_steps)
    return (
        f"{due}, and one after the last step" if due < part.work_at_most.validations else str(due)
    )


def _disk_gib(plan: Plan) -> float:
    return sum(share.gib for share in plan.disk)


def _disk(plan: Plan) -> Section:
    rows = [
        {"what": share.what, "size": gib(share.gib), "source": share.source} for share in plan.disk
    ]
    rows.append({"what": "at most together", "size": gib(_disk_gib(plan)), "source": ""})
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
    return said + [
        f"Not counted is {n}, which cannot be built: {why}" for n, why in found.unknown.items()
    ]


def _assumptions(plan: Plan) -> list[dict[str, str]]:
    rows = [
        *_speeds(plan),
        *_lengths(plan),
        *_depths(plan),
        *_batches(plan),
        *_powers(plan),
        *_prices(plan),
    ]
    return [*rows, _fact("early stopping", *STOPPING)]


NO_CURRENCY = "(no currency given)"


def _prices(plan: Plan) -> list[dict[str, str]]:
    """List prices and carbon of electricity and GPUs as far as config.yaml has them."""
    known, currency = plan.prices, plan.prices["currency"] or NO_CURRENCY
    grid = ", ".join(str(part) for part in (known["grid_source"], known["grid_year"]) if part)
    facts = (
        ("a kWh", known["price_per_kwh"], currency, "declared: prices in config.yaml"),
        (
            "an hour of a GPU",
            known["price_per_gpu_hour"],
            currency,
            "declared: prices in config.yaml",
        ),
        (
            "carbon of a kWh",
            known["grid_gco2e_per_kwh"],
            "gCO2e",
            f"declared: carbon in config.yaml ({grid})",
        ),
    )
    return [
        _fact(what, f"{value} {unit}", source)
        for what, value, unit, source in facts
        if value is not None
    ]


STOPPING = (
    "each doubling of the steps is as likely to see the stop as any other, between the first step at which a training "
    "can stop and its last: half have stopped at the geometric mean (the order of jobs), their mean is "
    "(last - first) / ln(last / first) (times and bills)",
    "assumed",
)


def _fact(what: str, assumed: str, source: str) -> dict[str, str]:
    return {"what": what, "assumed": assumed, "source": source}


def _speeds(plan: Plan) -> list[dict[str, str]]:
    """List the assumed speeds of devices, and the basis of run times."""
    budgets = plan.stages.study["budgets"]
    used = sorted({part.cell.budget for part in plan.parts})
    rows = []
    precisions = {budgets[name].get("precision", "fp32") for name in used if budgets[name]["gpus"]}
    for precision in sorted(precisions):
        rate = f"{GPU_FLOPS[precision] / 1e12:g} x 10^12 operations/s, {GPU_LAYER_S * 1000:g} ms a layer"
        rows.append(_fact(f"a GPU in {precision}", rate, "assumed: a data-centre GPU of 2020"))
    if any(not budgets[name]["gpus"] for name in used):
        rate = f"{CPU_FLOPS / 1e9:g} x 10^9 operations/s, {CPU_LAYER_S * 1000:g} ms a layer"
        rows.append(_fact("the CPU", rate, "assumed: a few cores"))
    families = {entry["family"] for entry in plan.stages.study["models"].values()}
    if "bigbird_pegasus" in families:
        published = "arXiv 2204.07288, GovReport at 4096 tokens"
        rows.append(
            _fact("BigBird's sparse attention", f"{BIGBIRD_COST:g} times its operations", published)
        )
    sources = [part.source for part in plan.parts]
    counted = {source: sources.count(source) for source in dict.fromkeys(sources)}
    basis = "; ".join(f"{count} from {source}" for source, count in counted.items())
    measured = (
        f"measured: {plan.runtimes.summary}" if plan.runtimes.measured else "nothing measured yet"
    )
    return [*rows, _fact("times of trainings and predictions", basis, measured)]


def _lengths(plan: Plan) -> list[dict[str, str]]:
    rows = []
    for name, data in sorted(plan.runtimes.data.items()):
        inputs, outputs = data.words_in * TOKENS_PER_WORD, data.words_out * TOKENS_PER_WORD
        sizes = f"{data.rows.get('train', 0):,} rows to train on, {_validated(plan, name, data)} to validate"
        out = "a label" if _is_labelled(plan, name) else f"{outputs:,.0f}"
        lengths = f"{inputs:,.0f} tokens in, {out} out"
        rows.append(_fact(name, f"{sizes}; {lengths}", _data_source(plan, name)))
    return rows


def _is_labelled(plan: Plan, dataset: str) -> bool:
    return classifies(plan.stages.study, dataset)


def _depths(plan: Plan) -> list[dict[str, str]]:
    """Make a row for every model with exits and every mean number of layers."""
    counted = Counter(
        _depth(plan, name, point)
        for name in plan.stages.with_exits
        for point in plan.stages.points(name)
        if _exit_rule(plan, name, point) is not None
    )
    return [
        _fact(
            f"layers that a mean example of {name} runs",
            f"{layers:.1f} at {count(points, 'inference point')}",
            source,
        )
        for (name, layers, source), points in counted.items()
    ]


def _exit_rule(plan: Plan, name: str, point: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (
        plan.stages.predict(name, point).settings["inference"].get("exit")
    )
    return found


def _depth(plan: Plan, name: str, point: str) -> tuple[str, float, str]:
    """Return a model, the layers of a mean example, and their source."""
    runtimes, cell = plan.runtimes, plan.stages.cells[name]
    shape, share = runtimes.shapes[cell.model], runtimes.measured_depth(name, f"predict/{point}")
    if share is None:
        return (
            cell.model,
            shape.depth(_exit_rule(plan, name, point)) * shape.encoder_layers,
            ASSUMED_EXITS,
        )
    return cell.model, share * shape.encoder_layers, MEASURED_EXITS


ASSUMED_EXITS = "assumed: half way between the first exit and the last"
MEASURED_EXITS = "measured: of cells like these at the same point"


def _validated(plan: Plan, name: str, data: Data) -> str:
    """Say how many predictions of the validation split are compared, and with what."""
    if _is_labelled(plan, name):
        return f"{data.inputs('validation'):,}"
    compared = plan.stages.study.get("scoring", {}).get(
        "references", COMPARISON_DEFAULTS["references"]
    )
    inputs = f"{data.predictions('validation', None, compared):,}"
    if compared == EACH:
        return f"{inputs} rows (each reference)"
    if data.examples is None:
        return f"at most {inputs} inputs (rows; how many ids are unique is not known before the data are here)"
    return f"{inputs} inputs"


def _data_source(plan: Plan, name: str) -> str:
    entry = plan.stages.study["datasets"][name]
    words = f"words x {TOKENS_PER_WORD} tokens"
    if plan.runtimes.facts.get(name, {}).get("splits"):
        return f"the dataset itself; {words}"
    if entry["source"] == "needle":
        return f"its options; {words}"
    if entry.get("options", {}).get("task") in SCROLLS_DATA:
        return f"arXiv 2204.07288; {words}"
    if entry["source"] == "aclsum_sentences":
        return f"the package; {words}"
    if _is_labelled(plan, name) and repository_name(entry.get("options", {})) in LABELLED_DATA:
        return f"rows as published, words of some thousand rows; {words}"
    return f"assumed: nothing is known of it before it is here; {words}"


def _batches(plan: Plan) -> list[dict[str, str]]:
    """List the largest batches, found by probes or assumed."""
    stages, what, unit = plan.stages, "the largest batch that fits", "examples a device"
    asked = [
        n
        for n in stages.cells
        if stages.finetune(n).settings["budget"]["per_device_batch_size"] == LARGEST
    ]
    sizes = [size for name in asked if (size := plan.runtimes.largest_batch(name)) is not None]
    untried, rows = len(asked) - len(sizes), []
    if sizes:
        span = (
            f"{min(sizes)} {unit}"
            if len(set(sizes)) == 1
            else f"{min(sizes)} to {max(sizes)} {unit}"
        )
        rows.append(_fact(what, span, f"found by trying for {count(len(sizes), 'cell')}"))
    if untried:
        source = f"assumed for {count(untried, 'cell')} until it has been found by trying"
        rows.append(_fact(what, f"{LARGEST_BATCH} {unit}", source))
    return rows


def _powers(plan: Plan) -> list[dict[str, str]]:
    """Make a row for every assumed power, with the kinds of jobs that draw it."""
    who: dict[tuple[str, float | None, str], set[str]] = {}
    for part in plan.parts:
        kind = f"{part.cell.model} {'training' if part.work else 'predicting'}"
        who.setdefault((part.cell.budget, part.power.watts, part.power.source), set()).add(kind)
    return [
        _fact(
            f"power on {budget}: {', '.join(sorted(kinds))}",
            NA if watts is None else f"{short(watts)} W a job",
            source,
        )
        for (budget, watts, source), kinds in who.items()
    ]


def _error(plan: Plan) -> Section:
    """Compare predictions with what was measured."""
    rows, missing = [], []
    for study, found in plan.misses.items():
        rows += [_miss(study, miss) for miss in found]
        missing += [] if found else [study]
    text = (
        "Cells that were measured, each foretold without its own measurement: how many times too long or too short. "
        "Scaled are predictions scaled by the study's other measured cells (other seeds are left out with "
        "it), as above; unscaled are those from operations alone, which hold while nothing of a study is measured."
    )
    gaps = []
    for study in missing:
        stale = plan.stale and study == plan.stages.study_id
        where = "with the settings and code in force" if stale else "on this machine"
        gaps.append(f"{study}: nothing measured {where}{TRY_DEMO if study == DEMO else ''}.")
    if DEMO not in plan.misses:
        gaps.append("The embedded study is not here, so predictions were not tried on it.")
    tables: list[str | Table] = [text, Table(rows, ["study", "part", "worst cell"])] if rows else []
    return Section("How far this can be off", [*tables, *gaps])


TRY_DEMO = "; run it (snakemake --cores all --config study=demo, minutes) to see the error"


def _miss(study: str, miss: Miss) -> dict[str, str]:
    return {
        "study": study,
        "part": miss.part,
        "measured cells": str(miss.cells),
        "of them scaled": str(miss.scaled),
        "scaled: median": times(miss.median, ".2f"),
        "worst": times(miss.worst, ".2f"),
        "worst cell": miss.worst_cell or NA,
        "unscaled: median": times(miss.unrefined_median),
        "unscaled: worst": times(miss.unrefined_worst),
    }
