"""A plan before the bill: parameters, steps, order of jobs, measured and remaining work."""

import csv
import json
import math
import os
from pathlib import Path

import pytest
from bench.packing import published_study

from longwatt.config.documents import normalise
from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.energy.rated import Rating
from longwatt.freshness.summary_file import newest_summary
from longwatt.layout.pages import markdown
from longwatt.models.parameter_counts import count_or_reason
from longwatt.plan import makespan
from longwatt.plan import urgency as plan_urgency
from longwatt.plan.cell_cores import CellCores
from longwatt.plan.data_sizes import SCROLLS_DATA
from longwatt.plan.disk import checkpoint_bytes, parameters_of
from longwatt.plan.forecast import Powers, jobs
from longwatt.plan.makespan import Job, schedule
from longwatt.plan.plan import Bill, PlannedGpus, finished_parts
from longwatt.plan.report import facts, plan_page, read_plan, write_plan
from longwatt.plan.runtimes import RuntimeModel
from longwatt.provenance.stamps import digest
from longwatt.study import settings
from longwatt.study.cells import expand
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages
from snakemake_scheduler_plugin_longwatt.policy import GPU, Need, choose
from tests import processors
from tests.spacing import single_spaced

LED_BASE = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072}
LED_BASE["decoder_ffn_dim"] = 3072
PRICES = {"carbon": {"grams_per_kwh": 400, "source": "somebody", "year": 2024}}
PRICES |= {"prices": {"currency": "EUR", "per_kwh": 0.25, "per_gpu_hour": 2}, "pue": 1.2}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Look for results and data below the working folder; count models here: torch is loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "longwatt.plan.disk.counted", lambda models: [*map(count_or_reason, models)]
    )


def grid(**budget) -> dict:
    """The published grid of 64 cells with SCROLLS' data: validations every 500 or 10 steps."""
    study = published_study()
    for entry in study["budgets"].values():
        del entry["watts_per_gpu"]
    for name in study["datasets"]:
        study["datasets"][name] |= {"source": "scrolls", "options": {"task": name}}
    qasper = study["datasets"]["qasper"]
    qasper["training"] = {**qasper.get("training", {}), "validation": {"every_steps": 10}}
    for block in study["grid"]:
        block["protocols"] = ["generated"]
    for entry in study["budgets"].values():
        entry.update(budget)
    return normalise(study)


def given(
    study: dict, gpus: int | None = 8, demo: dict | None = None, machine: dict | None = None
) -> dict:
    """What the rule gives its script."""
    machine = machine or {}
    found = {"study_id": "s", "study": study, "machine": machine, "gpus_given": gpus}
    return {**found, "gpus_found": 0, "demo": demo}


def stamps(stages: Stages) -> dict[str, list[str]]:
    return {
        stage.artefact: [digest(dict(stage.settings)), "code"] for stage in stages.cell_stages()
    }


def plan_of(study: dict, **more):
    found = given(study, **more)
    return read_plan(found, stamps(checked_stages("s", study, found["machine"])))


def part_of(plan, cell: str, part: str = "finetune"):
    return next(
        p for p in plan.parts if (p.cell.name, p.part) == (f"{cell}/generated/seed42", part)
    )


def measure(cells: dict[str, dict], path: str = "results/s/summary.csv") -> None:
    """A summary with these values of trainings, NA elsewhere.

    The published study takes the stock path of attention, every other its families' default.
    """
    taken = "stock" if "/s/" in path else "fast"
    known = dict.fromkeys(("attention", "attention_asked", "inference_attention"), taken)
    cells = {name: {**known, **values} for name, values in cells.items()}
    measured = dict.fromkeys(key for row in cells.values() for key in row)
    columns = ["cell", "model", "budget", "inference", *measured]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="NA")
        writer.writeheader()
        for name, values in cells.items():
            _, model, _, budget, *_ = name.split("/")
            writer.writerow(
                {"cell": name, "model": model, "budget": budget, "inference": "greedy", **values}
            )


def test_parameters_of_models_whose_configuration_is_not_here_yet_are_estimates():
    study, found = grid(), []
    hub = {"initialisation": "checkpoint", "repository": "a/b", "revision": "c", "config": {}}
    study["models"]["led_base"] |= hub
    for configs, estimated in (({}, {"led_base"}), ({"led_base": {"vocab_size": 265}}, set())):
        found.append(
            parameters_of(RuntimeModel(study, expand(study), configs, {}, Path("summary.csv")))
        )
        assert found[-1].estimated == estimated and found[-1].trained == found[-1].whole
        assert not found[-1].unknown
    assert found[0].trained["led_base"] - found[1].trained["led_base"] == 50000 * 1024, (
        "LED-large is assumed"
    )


def test_a_model_that_cannot_be_built_is_named_in_the_plan_and_takes_no_disk():
    study = grid()
    study["models"]["led_base"]["config"] = {"d_model": 770, "encoder_attention_heads": 16}
    write_plan(given(study), stamps(Stages("s", study, {})), Path("results/s"), {})
    text = Path("results/s/plan.md").read_text()
    assert "Not counted is led_base, which cannot be built: ValueError" in text
    assert "led_large 4" in text


def test_checkpoints_under_way_are_weights_and_moments_three_times_and_the_best_weights():
    assert checkpoint_bytes(10) == 10 * 4 * (3 * 3 + 3)


def test_qasper_on_one_gpu_validates_up_to_2140_times():
    plan = plan_of(grid())
    most = part_of(plan, "qasper/led_base/4096/gpu1").work_at_most
    assert (most.steps, most.validations) == (21400, 2140)
    assert most.validation_share > 0.9
    assert len(plan.stages.cells) == 64 and len(plan.parts) == 128


def test_cells_whose_early_stopping_can_never_fire_are_named():
    plan = plan_of(grid())
    stuck = {part.cell.name for part in plan.parts if part.cannot_stop_early}
    assert stuck == {
        "gov_report/led_base/1024/gpu8x4/generated/seed42"
    }  # 1,250 steps, validated every 500
    part = part_of(plan, "gov_report/led_base/1024/gpu8x4")
    assert (part.work_at_most.steps, part.patience) == (1250, 3)
    assert part.seconds == part.seconds_at_most


@pytest.mark.parametrize(("steps", "stuck"), [(1999, True), (2000, True), (2001, False)])
def test_a_training_cannot_stop_early_at_its_last_step(steps, stuck):
    study = grid()
    study["training"]["max_steps"] = (
        steps  # validated every 500 with a patience of 3: the first stop is at 2,000
    )
    part = part_of(plan_of(study), "gov_report/led_base/4096/gpu1")
    assert part.cannot_stop_early is stuck and (part.seconds == part.seconds_at_most) is stuck


def test_the_validation_after_the_last_step_is_told_from_those_that_are_due():
    write_plan(given(grid()), stamps(checked_stages("s", grid(), {})), Path("results/s"), {})
    text = single_spaced(Path("results/s/plan.md").read_text())
    assert "| 2, and one after the last step | 3 | 500 |" in text
    assert "one more after it is counted" in text


def test_what_is_expected_is_no_more_than_the_most():
    plan = plan_of(grid(watts_per_gpu=300))
    for part in plan.parts:
        assert 0 < part.seconds <= part.seconds_at_most
        assert 0 < part.energy_kwh <= part.energy_kwh_at_most
    assert plan.wall_s[0] < plan.wall_s[1]


def test_a_plan_says_that_unique_ids_are_not_known_before_the_data():
    study, said = grid(), {}
    study["scoring"] = {"references": "best"}
    for kind in ("best", "each"):
        write_plan(given(study), stamps(checked_stages("s", study, {})), Path("results/s"), {})
        said[kind] = Path("results/s/plan.md").read_text()
        study = {**study, "scoring": {"references": "each"}}
    assert "at most 1,726 inputs" in said["best"]
    assert "not known before the data are here" in said["best"]
    assert "1,726 rows (each reference)" in said["each"] and "unique" not in said["each"]


def test_bills_are_means_and_the_order_of_jobs_is_by_medians():
    plan = plan_of(grid())
    part = part_of(plan, "qasper/led_base/4096/gpu1")  # stops between 40 and 21,400 steps
    assert part.work.steps == pytest.approx((21400 - 40) / math.log(21400 / 40))
    assert part.seconds_median == plan.runtimes.predict(part.cell.name, "finetune").seconds
    assert part.seconds / part.seconds_median == pytest.approx(
        part.work.steps / math.sqrt(40 * 21400), rel=0.01
    )
    assert Bill.of([part], plan.prices).gpu_hours == part.seconds / 3600
    (job,) = (
        job for job in jobs(plan.parts) if (job.cell, job.part) == (part.cell.name, "finetune")
    )
    assert job.seconds == part.seconds and job.priority == plan_urgency.Urgency(plan.stages).of(
        part.cell.name
    )


def test_what_other_settings_once_took_only_scales_what_is_left():
    name, study = "qmsum/led_base/1024/gpu1/generated/seed42", grid(watts_per_gpu=300)
    plain = part_of(plan_of(study), "qmsum/led_base/1024/gpu1")
    seconds = 2 * plain.seconds_median
    row = {"train_runtime_s": seconds, "train_energy_kwh": 0.2, "steps": 500, "validations": 1}
    measure({name: row})
    part = part_of(
        plan_of(study), "qmsum/led_base/1024/gpu1"
    )  # no artefact carries the stamps in force
    assert not part.finished and part.source.startswith("scaled by 1 measured cells")
    assert part.seconds == pytest.approx(2 * plain.seconds) and part.seconds_at_most > part.seconds
    assert part.energy_kwh == pytest.approx(0.3 * part.seconds / 3600)
    assert part.work.steps == plain.work.steps
    write_plan(given(study), stamps(checked_stages("s", study, {})), Path("results/s"), {})
    text = Path("results/s/plan.md").read_text()
    assert "1 measurement in the summary of what was made with other settings" in text
    assert "but no answer for what is left" in text
    assert "s: nothing measured with the settings and code in force" in text


def test_jobs_run_in_the_scheduler_s_own_order():
    """Every decision is that of the plugin which decides in earnest."""
    plan = plan_of(grid())
    spans, planned = plan.spans, jobs(plan.parts)
    assert len(spans) == 128
    for moment in sorted({span.start for span in spans}):
        running = [s for s in spans if s.start < moment < s.end]
        trained = {s.job.cell for s in spans if s.end <= moment and s.job.part == "finetune"}
        begun = {(s.job.cell, s.job.part) for s in spans if s.start < moment}
        ready = [
            j
            for j in planned
            if (j.cell, j.part) not in begun and (j.after is None or j.cell in trained)
        ]
        ready.sort(key=lambda job: (-job.priority, job.cell, job.part))
        free = {GPU: 8 - sum(s.job.gpus for s in running)}
        chosen = {
            (ready[i].cell, ready[i].part)
            for i in choose([Need(j.priority, {GPU: j.gpus}) for j in ready], free)
        }
        assert chosen == {(s.job.cell, s.job.part) for s in spans if s.start == moment}


def test_a_schedule_holds_gpus_back_and_runs_so_many_jobs_on_the_cpu():
    def job(
        cell: str, gpus: int, seconds: float, part: str = "finetune", after: str | None = None
    ) -> Job:
        urgency = plan_urgency.of_cell(gpus, seconds, part != "finetune")
        return Job(cell, part, gpus, seconds, urgency, after)

    wide, narrow = job("wide", 2, 5), [job(f"narrow{n}", 1, 10 + n) for n in range(3)]
    spans = {s.job.cell: (s.start, s.end) for s in schedule([*narrow, wide], 2)}
    assert spans["wide"] == (0, 5) and spans["narrow2"] == (5, 17) and spans["narrow0"] == (16, 26)
    late = job("late", 2, 1, "predict/x", "finetune")
    first = job("late", 2, 3)
    order = [(s.job.part, s.start) for s in schedule([late, first], 2)]
    assert order == [("finetune", 0), ("predict/x", 3)]
    on_cpu = [job("a", 0, 3), job("b", 0, 4), job("c", 1, 6), job("d", 0, 1)]
    lengths = [makespan.length(schedule(on_cpu, 1, at_once)) for at_once in (1, 2, 3)]
    assert lengths == [8, 6, 6]
    ends = {span.job.cell: span.end for span in schedule(on_cpu, 1, 2)}
    assert ends == {"a": 3, "b": 4, "c": 6, "d": 4}
    with pytest.raises(ValueError, match="wide needs 2 GPUs, but there are 1"):
        schedule([wide], 1)


def test_the_heaviest_moment_is_found():
    spans = [
        makespan.Span(Job(c, "finetune", 1, 0, 0), a, b)
        for c, a, b in (("a", 0, 4), ("b", 3, 9), ("c", 4, 8))
    ]
    assert makespan.most_at_once(spans, {"a": 10, "b": 3, "c": 1}) == ["a", "b"]
    assert makespan.most_at_once(spans, {"a": 1, "b": 3, "c": 5}) == ["b", "c"]


def test_the_gpus_that_a_plan_reckons_with():
    assert PlannedGpus.of(8, 0, 8) == PlannedGpus(8, "as given")
    assert PlannedGpus.of(None, 4, 2) == PlannedGpus(4, "found here")
    assert PlannedGpus.of(None, 0, 8).count == 8
    assert "largest budget" in PlannedGpus.of(None, 0, 8).source
    assert PlannedGpus.of(2, 0, 8) == PlannedGpus(8, "2 as given, but the largest budget needs 8")
    assert PlannedGpus.of(None, 0, 0).count == 0


DECLARED = Rating(9.0, "declared: watts_per_core")
UNKNOWN = Rating(None, "the table has no 'Zilog Z80'; set watts_per_core")


def four(processes: int) -> int:
    return 4


def test_power_is_measured_or_declared_or_unknown():
    study = grid(watts_per_gpu=250)
    cells = checked_stages("s", study, {}).cells
    one, eight = (cells[f"qasper/led_base/1024/{b}/generated/seed42"] for b in ("gpu1", "gpu8x4"))
    large = cells["gov_report/led_large/1024/gpu1/generated/seed42"]
    same = {"model": "led_base", "budget": "gpu1", "train_energy_source": "nvml_counter"}
    rows = [{**same, "train_mean_power_w": watts} for watts in ("200", "220", "NA")]
    powers = Powers(study, rows, DECLARED, four)
    assert powers.of(one, trains=True).watts == 210 and powers.of(
        one, trains=True
    ).source.startswith("measured of 2 rows")
    assert powers.of(large, trains=True).watts == 210
    assert "(budget)" in powers.of(large, trains=True).source
    assert powers.of(eight, trains=True).watts == 2000
    assert "declared" in powers.of(eight, trains=True).source
    assert powers.of(one, trains=False).watts == 250
    assert Powers(grid(), [], DECLARED, four).of(one, trains=True).watts is None
    on_cpu = {**study, "budgets": {"gpu1": {"gpus": 0}}}
    assert Powers(on_cpu, [], DECLARED, four).of(one, trains=True).watts == 36
    shared = CellCores(1, 8, 8, "")
    several = {**study, "budgets": {"gpu1": {"gpus": 0, "processes": 2}}}
    declared = Powers(several, [], DECLARED, shared.of).of(one, trains=True)
    assert (declared.watts, declared.source) == (
        18, "2 x 9 W of a busy core, declared: watts_per_core",
    )  # fmt: skip
    estimated = [{**rows[0], "train_energy_source": "estimate"}]
    powers = Powers(study, estimated, UNKNOWN, four)
    assert powers.of(one, trains=True).source.startswith("estimated")
    nothing = Powers(on_cpu, [], UNKNOWN, four).of(one, trains=True)
    assert nothing.watts is None and nothing.source == (
        "unknown: nothing measured; the table has no 'Zilog Z80'; set watts_per_core"
    )


def test_watts_that_other_threads_drew_are_no_cell_s_power():
    study = grid()
    one = checked_stages("s", study, {}).cells["qasper/led_base/1024/gpu1/generated/seed42"]
    on_cpu = {**study, "budgets": {"gpu1": {"gpus": 0}}}
    same = {"model": "led_base", "budget": "gpu1"}
    train = [{**same, "train_mean_power_w": "90", "threads": said} for said in ("8", "1", "NA")]
    train[1]["train_mean_power_w"], train[2]["train_mean_power_w"] = "30", "40"
    predict = [{**same, "inference_mean_power_w": "80", "inference_threads": "8", "threads": "1"}]

    def watts(rows, trains, threads):
        return Powers(on_cpu, rows, DECLARED, four, {one.name: threads}).of(one, trains).watts

    assert watts(train, True, 1) == 35, "what is not said counts as before"
    assert watts(train, True, 8) == 65 and watts(train[:1], True, 1) == 36, "declared instead"
    assert watts(predict, False, 8) == 80 and watts(predict, False, 1) == 36


def test_declared_power_changes_no_setting_of_a_job():
    cell = "qasper/led_base/1024/gpu1/generated/seed42"
    plain, declared = (
        checked_stages("s", grid(**more), {}) for more in ({}, {"watts_per_gpu": 300})
    )
    assert plain.finetune(cell).settings == declared.finetune(cell).settings
    assert plain.predict(cell, "greedy").settings == declared.predict(cell, "greedy").settings
    assert "watts_per_gpu" not in settings.BUDGET_DEFAULTS


def test_declared_power_of_gpus_is_refused_where_there_are_none():
    study = grid()
    study["budgets"]["gpu1"] |= {"gpus": 0, "watts_per_gpu": 300}
    with pytest.raises(StudyError, match=r"budgets\.gpu1\.watts_per_gpu is for budgets with GPUs"):
        checked_stages("s", study, {})


def test_energy_is_unknown_where_no_power_is_known_and_money_follows_it():
    plan = plan_of(grid(), machine=PRICES)
    assert all(part.energy_kwh is None for part in plan.parts)
    write_plan(given(grid(), machine=PRICES), stamps(plan.stages), Path("results/s"), {})
    facts = json.loads(Path("results/s/plan.json").read_text())
    assert facts["all"]["energy_kwh"] is None and facts["all"]["co2e_kg"] is None
    assert facts["all"]["gpu_cost"] == pytest.approx(2 * facts["all"]["gpu_hours"])
    assert "energy NA" in Path("results/s/plan.md").read_text()


def test_a_plan_says_what_people_pay_and_what_it_rests_on(capsys):
    study = grid(watts_per_gpu=300)
    found = stamps(checked_stages("s", study, PRICES))
    write_plan(given(study, machine=PRICES), found, Path("results/s"), {"rule": "plan"})
    facts, text = (
        json.loads(Path("results/s/plan.json").read_text()),
        Path("results/s/plan.md").read_text(),
    )
    bill = facts["left_at_most"]
    assert bill["energy_kwh"] == pytest.approx(0.3 * bill["gpu_hours"])
    assert bill["energy_cost"] == pytest.approx(0.25 * bill["energy_kwh"])
    assert bill["co2e_kg"] == pytest.approx(0.4 * bill["energy_kwh"])
    assert facts["wall_s"] >= facts["left"]["gpu_hours"] * 3600 / 8
    rows = list(csv.DictReader(Path("results/s/plan.csv").read_text().splitlines()))
    assert len(rows) == 128 and sum(float(row["gpu_hours"]) for row in rows) == pytest.approx(
        facts["all"]["gpu_hours"]
    )
    for word in (
        "64 cells",
        "0.25 EUR",
        "400 gCO2e",
        "somebody, 2024",
        "2,140",
        "PUE 1.2",
        "declared: budgets.gpu1.watts_per_gpu",
        "arXiv 2204.07288",
    ):
        assert word in text, word
    assert "not measurements" in text and "random weights" in text
    said = capsys.readouterr().out
    assert (
        "64 cells, estimated" in said and "early stopping can never fire in 1 of 64 cells" in said
    )


def test_a_finished_cell_counts_as_measured_and_only_the_rest_is_left():
    study, done = grid(watts_per_gpu=300), "qmsum/led_base/1024/gpu1/generated/seed42"
    stages = checked_stages("s", study, {})
    measured = {"train_runtime_s": 3600, "inference_runtime_s": 60, "steps": 500, "validations": 1}
    power = {"train_mean_power_w": 200, "train_energy_kwh": 0.21}
    measure({done: {**measured, **power, "train_steps_s": 3000, "validation_s": 600}})
    made = {"finetune": stages.finetune(done), "predict": stages.predict(done, "greedy")}
    for stage in made.values():
        block = {"settings_digest": digest(dict(stage.settings)), "code_digest": "code"}
        Path(stage.artefact).parent.mkdir(parents=True)
        Path(stage.artefact).write_text(json.dumps({"provenance": block}))
    plan = plan_of(study)
    part = part_of(plan, "qmsum/led_base/1024/gpu1")
    assert part.finished
    assert (part.seconds, part.seconds_at_most, part.energy_kwh) == (3600, 3600, 0.21)
    assert part.work.validation_share == pytest.approx(1 / 6) and part.work.validations == 1
    assert len(plan.left) == 126 and done not in {span.job.cell for span in plan.spans}
    other = part_of(plan, "qmsum/led_base/2048/gpu1")
    assert (
        other.source == "scaled by 1 measured cells (model and budget)" and other.power.watts == 200
    )
    assert other.power.source.startswith("measured")
    stale = {**stamps(stages), made["finetune"].artefact: ["other", "code"]}
    assert finished_parts(stages, stale) == frozenset()


def test_a_training_that_stopped_early_scales_the_most_by_its_pace():
    """Half the expected steps in half the expected time: the pace and total are the model's."""
    plain = plan_of(grid()).runtimes
    cell = "qmsum/led_base/1024/gpu1/generated/seed42"
    work = plain.work(cell)
    steps = work.steps / 2
    seconds = steps * work.step_s + work.validation_s
    measure({cell: {"train_runtime_s": seconds, "steps": steps, "validations": 1}})
    model = plan_urgency.runtimes(checked_stages("s", grid(), {}))
    assert model.predict(cell, "finetune").seconds == pytest.approx(seconds)
    assert model.at_most(cell).seconds == pytest.approx(plain.at_most(cell).seconds)
    measure({cell: {"train_runtime_s": 2 * seconds, "steps": steps, "validations": 1}})
    slower = plan_urgency.runtimes(checked_stages("s", grid(), {}))
    assert slower.at_most(cell).seconds == pytest.approx(2 * plain.at_most(cell).seconds)
    assert slower.at_most(cell).refined_by == "dataset, model, seq_len and budget"


@pytest.mark.parametrize(
    ("each", "at_once", "watts", "how"),
    [(1, 4, 12.0, "4 jobs at once"), ("all", 1, 48.0, "one job at a time")],
)
def test_a_plan_shares_the_cores_as_a_run_does(
    study_schema, root, monkeypatch, each, at_once, watts, how
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr("longwatt.processes.CGROUPS", Path("none"))
    demo = read_study(root / "studies" / "demo.yaml", study_schema)
    machine = {"cores_per_cell": each, "watts_per_core": 12.0}
    plan = plan_of(demo, gpus=0, machine=machine)
    assert plan.on_cpu == at_once and plan.parts[0].power.watts == watts
    expected, _ = plan.wall_s
    alone = sum(part.seconds for part in plan.parts)
    assert pytest.approx(alone / at_once, rel=0.6 if at_once > 1 else 1e-9) == expected
    assert facts(plan)["cell_cores"]["at_once"] == at_once
    page = markdown("t", plan_page(plan))
    assert how in page and f"cores_per_cell is {each}" in page
    assert set(plan.runtimes.threads.values()) == {1 if each == 1 else 4}


@pytest.mark.parametrize(
    ("text", "watts", "said"),
    [
        (processors.EPYC, 280 / 128, "1 x 2.19 W of a busy core, rated: AMD EPYC 7763 64-Core"),
        (processors.UNKNOWN, None, "unknown: nothing measured; codecarbon"),
    ],
)
def test_a_plan_rates_the_processor_of_the_machine_that_plans(
    study_schema, root, tmp_path, monkeypatch, text, watts, said
):
    processors.set_processor(tmp_path, monkeypatch, text)
    demo = read_study(root / "studies" / "demo.yaml", study_schema)
    plan = plan_of(demo, gpus=0, machine={"cores_per_cell": 1})
    assert {part.power.watts for part in plan.parts} == {watts}
    assert said in markdown("t", plan_page(plan))
    off = plan_of(demo, gpus=0, machine={"cores_per_cell": 1, "watts_per_core": None})
    assert "no estimate is wanted: watts_per_core is none" in off.parts[0].power.source


def test_a_plan_declares_the_watts_of_all_processes_and_takes_none_of_other_threads(
    study_schema, root, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr("longwatt.processes.CGROUPS", Path("none"))
    demo = read_study(root / "studies" / "demo.yaml", study_schema)
    budgets = {name: {**entry, "processes": 2} for name, entry in demo["budgets"].items()}
    machine = {"cores_per_cell": 1, "watts_per_core": 12.0}
    found = given({**demo, "budgets": budgets}, gpus=0, machine=machine)
    plan = read_plan(found, {})
    assert {part.power.watts for part in plan.parts} == {24.0}
    cell = plan.parts[0].cell
    for threads, watts in (("4", 24.0), ("1", 70.0)):
        row = {"model": cell.model, "budget": cell.budget, "threads": threads}
        plan = read_plan(found, {})
        plan.runtimes.rows = [{**row, "train_mean_power_w": "70"}]
        assert plan.parts[0].power.watts == watts


def test_the_newer_summary_counts(tmp_path):
    results = tmp_path / "results" / "s"
    assert newest_summary(results) == results / "summary.csv"
    for name, age in (("summary.csv", 100), ("partial/summary.csv", 200)):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("cell\n")
        os.utime(results / name, (age, age))
    assert newest_summary(results) == results / "partial" / "summary.csv"
    os.utime(results / "summary.csv", (300, 300))
    assert newest_summary(results) == results / "summary.csv"


def test_a_plan_says_how_far_predictions_were_off(study_schema, root):
    demo = read_study(root / "studies" / "demo.yaml", study_schema)
    stages = checked_stages("demo", demo, {})
    names = sorted(stages.cells)[:3]
    model = plan_urgency.runtimes(stages)
    plain = [model.modelled(name, "finetune") for name in names]
    measure(
        {n: {"train_runtime_s": f * s} for n, s, f in zip(names, plain, (2, 2, 8), strict=True)},
        "results/demo/summary.csv",
    )
    found = plan_of(grid(), demo=demo).misses
    assert found["s"] == []
    (miss,) = found["demo"]  # cells of other lengths
    wanted = (3, pytest.approx(2), pytest.approx(8))
    assert (miss.cells, miss.unrefined_median, miss.unrefined_worst) == wanted
    assert (
        miss.worst == pytest.approx(4) and miss.worst_cell == names[2]
    )  # foretold from the other two: 2, not 8
    write_plan(
        given(grid(), demo=demo), stamps(checked_stages("s", grid(), {})), Path("results/s"), {}
    )
    text = Path("results/s/plan.md").read_text()
    assert "4.00 x" in text and "s: nothing measured on this machine" in text
    measure({names[0]: {"train_runtime_s": 2 * plain[0]}}, "results/demo/summary.csv")
    (alone,) = plan_of(grid(), demo=demo).misses["demo"]  # nothing is left that could scale it
    assert (alone.cells, alone.scaled, alone.median, alone.worst) == (1, 0, None, None)
    assert alone.unrefined_median == pytest.approx(2)
    write_plan(
        given(grid(), demo=demo), stamps(checked_stages("s", grid(), {})), Path("results/s"), {}
    )
    assert "| 1 | 0 | NA | NA |" in single_spaced(Path("results/s/plan.md").read_text())
    Path("results/demo/summary.csv").unlink()
    write_plan(
        given(grid(), demo=demo), stamps(checked_stages("s", grid(), {})), Path("results/s"), {}
    )
    assert "demo: nothing measured on this machine; run it" in Path("results/s/plan.md").read_text()


def test_what_nothing_is_measured_of_and_batches_that_were_found():
    study = grid()
    for entry in study["budgets"].values():
        entry["per_device_batch_size"] = "largest"
    name = "qmsum/led_base/1024/gpu1/generated/seed42"
    stages = checked_stages("s", study, {})
    found = Path(stages.finetune_inputs(name)["batch_size"])
    before = plan_of(study)
    assert part_of(before, "qmsum/led_base/1024/gpu1").work_at_most.steps == 50 * math.ceil(
        1257 / 8
    )
    found.parent.mkdir(parents=True)
    found.write_text(json.dumps({"per_device_batch_size": 24}))
    after = plan_of(study)
    assert part_of(after, "qmsum/led_base/1024/gpu1").work_at_most.steps == 50 * math.ceil(
        1257 / 24
    )
    assert part_of(after, "qmsum/led_base/2048/gpu1").work_at_most.steps == 50 * math.ceil(1257 / 8)
    write_plan(given(study), stamps(stages), Path("results/s"), {})
    text = Path("results/s/plan.md").read_text()
    assert "found by trying for 1 cell" in text
    assert "assumed for 63 cells until it has been found by trying" in text
    assert "nothing measured yet" in text and "summary.csv" not in text


def test_a_plan_shows_the_path_of_attention_of_every_cell():
    study = grid()
    study["models"]["led_base"]["attention"] = "fast"
    write_plan(given(study), stamps(checked_stages("s", study, {})), Path("results/s"), {})
    with Path("results/s/plan.csv").open(newline="") as stream:
        paths = {(row["model"], row["attention"]) for row in csv.DictReader(stream)}
    assert paths == {("led_base", "fast"), ("led_large", "stock"), ("bigbird_large", "stock")}
    text = single_spaced(Path("results/s/plan.md").read_text())
    assert "| QMSum | LED-base (random weights) | fast | gpu1 |" in text
    assert "| QMSum | LED-large (random weights) | stock | gpu1 |" in text
    assert "| led, fast attention | the pairs of the window and of the global token |" in text
    assert "| led, stock attention | chunks that overlap by half" in text
    assert "| bigbird_pegasus, stock attention | 3 times its operations |" in text


def test_checkpoints_on_the_hub_have_known_shapes_before_they_are_here():
    study = grid()
    hub = {"initialisation": "checkpoint", "repository": "allenai/led-base-16384"}
    study["models"]["led_base"] |= {**hub, "config": {}}
    model = RuntimeModel(study, expand(study), {}, {}, Path("none"))
    assert (model.shapes["led_base"].d_model, model.shapes["led_base"].window) == (768, 1025)
    assert model.data["qasper"] == SCROLLS_DATA["qasper"]


def test_a_plan_shows_memory_its_limit_and_its_error():
    text = single_spaced(markdown("", plan_page(plan_of(grid(memory_gib_per_gpu=1)))))
    assert "Memory of a device" in text and "Peaks of memory in training" not in text
    assert "WARNING: the forecast exceeds memory_gib_per_gpu in 64 of 64 cells" in text
    plan = plan_of(grid(memory_gib_per_gpu=10_000))
    assert "WARNING" not in markdown("", plan_page(plan))
    name = "qmsum/led_base/1024/gpu1/generated/seed42"
    measure({name: {"peak_memory_gib": plan.memories[name].training.total * 2}})
    plan = plan_of(grid())
    plan.finished = frozenset({(name, "finetune")})
    text = single_spaced(markdown("", plan_page(plan)))
    assert "| s | 1 | 2.00 x | 2.00 x | 0 of 1 | qmsum/led_base/1024/gpu1" in text
