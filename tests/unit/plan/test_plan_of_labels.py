"""The plan of a study of labels: exits, points that differ by cell, cost of recording exits."""

import csv
import json
from pathlib import Path

import pytest

from longwatt.freshness.made_settings import settings_of_rows
from longwatt.plan.forecast import Powers, foretell, jobs
from longwatt.plan.report import write_plan
from longwatt.plan.urgency import Urgency, runtimes
from longwatt.plan.work import record_seconds
from longwatt.provenance.stamps import write_json
from longwatt.report.settings_table import settings_in_force
from longwatt.study.cells import RECORD
from longwatt.study.checks import checked_stages
from longwatt.study.settings_in_force import exit_rule_words
from longwatt.study.stages import Stages
from tests.labelled_study import cell_of, labelled_study
from tests.spacing import single_spaced
from tests.unit.plan.test_plan import UNKNOWN, given, plan_of, stamps

POINTS = [
    "last-b1", "last-b32", "leave-t0.5-b1", "leave-t0.5-b32", "leave-t0.9-b1", "leave-t0.9-b32",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Results and data are looked for below the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stages() -> Stages:
    return checked_stages("s", labelled_study(), {})


def measure(rows: list[dict]) -> None:
    """A summary with these values, NA elsewhere."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    Path("results/s").mkdir(parents=True, exist_ok=True)
    with Path("results/s/summary.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="NA")
        writer.writeheader()
        writer.writerows(rows)


def part_of(plan, model: str, part: str):
    return next(p for p in plan.parts if (p.cell.name, p.part) == (cell_of(model), part))


def test_every_cell_has_its_own_points_and_only_several_exits_are_recorded(stages):
    found = {}
    for part in foretell(stages, runtimes(stages), (), Powers(stages.study, [], UNKNOWN, 1)):
        found.setdefault(part.cell.model, []).append(part.part)
    assert found == {
        "exits": ["finetune", RECORD, *(f"predict/{point}" for point in POINTS)],
        "standard": ["finetune", "predict/last-b1", "predict/last-b32"],
        "efficient": ["finetune", "predict/last-b1", "predict/last-b32"],
    }


def test_fewer_layers_take_less_time_and_leaving_early_half_of_what_is_above_the_first_exit(stages):
    model = runtimes(stages)
    seconds = {
        (kind, part): model.predict(cell_of(kind), part).seconds
        for kind in ("standard", "efficient")
        for part in ("finetune", "predict/last-b1")
    }
    for part in ("finetune", "predict/last-b1"):
        assert seconds["efficient", part] / seconds["standard", part] == pytest.approx(4 / 6)
    exits = cell_of("exits")
    last, early = (
        model.predict(exits, f"predict/{point}").seconds for point in ("last-b1", "leave-t0.9-b1")
    )
    assert last == pytest.approx(seconds["standard", "predict/last-b1"])
    assert early / last == pytest.approx((1 + 6) / 2 / 6)
    assert model.at_most(exits, "predict/leave-t0.9-b1").seconds == pytest.approx(last)


def test_without_regrouping_a_batch_is_waited_for_through_all_layers():
    apart = labelled_study(inference={"leave": {"regroup_batches": 1}})
    cell, part = cell_of("exits"), "predict/leave-t0.9-b32"
    models = [runtimes(checked_stages("s", study, {})) for study in (labelled_study(), apart)]
    seconds = [model.predict(cell, part).seconds for model in models]
    assert seconds[0] < seconds[1] < seconds[0] / ((1 + 6) / 2 / 6) * 1.01


def test_recording_runs_every_split_through_all_layers_once(stages):
    model, name = runtimes(stages), cell_of("exits")
    assert (
        model.recorded_examples(name) == 1978 + 3766
    )  # temperatures are fitted on the one, points are of the other
    chosen = {**stages.record_exits(name).settings, "splits": ["test"]}
    one = record_seconds(chosen, model.shapes["exits"], model.data["sentences"])
    assert model.predict(name, RECORD).seconds / one == pytest.approx(
        (1978 + 3766) / 3766, rel=0.01
    )


def test_measured_layers_replace_the_assumption_and_seconds_are_scaled_by_pace():
    plain = runtimes(checked_stages("s", labelled_study(), {}))
    exits, part = cell_of("exits"), "predict/leave-t0.9-b1"
    at_two_layers = plain.modelled(exits, part, depth=2 / 6)
    other = cell_of("exits").replace("seed42", "seed43")
    row = {"cell": other, "inference": "leave-t0.9-b1", "mean_layers": 2}
    measure([{**row, "inference_runtime_s": 3 * at_two_layers}])
    grid = labelled_study()["grid"]
    seeds = labelled_study(grid=[{**grid[0], "seeds": [42, 43]}, grid[1]])
    model = runtimes(checked_stages("s", seeds, {}))
    assert model.measured_depth(exits, part) == pytest.approx(2 / 6)
    assert model.predict(exits, part).seconds == pytest.approx(3 * at_two_layers)
    assert model.at_most(exits, part).seconds == pytest.approx(
        3 * plain.modelled(exits, part, depth=1.0)
    )
    assert model.predict(exits, part, without=other).seconds == pytest.approx(
        plain.predict(exits, part).seconds
    )
    assert model.predict(exits, RECORD).seconds == pytest.approx(3 * plain.modelled(exits, RECORD))


def test_predictions_wait_for_what_is_recorded_and_jobs_are_as_urgent_as_the_scheduler_has_them(
    stages,
):
    parts = foretell(stages, runtimes(stages), (), Powers(stages.study, [], UNKNOWN, 1))
    found = {(job.cell, job.part): job for job in jobs(parts)}
    after = {key: job.after for key, job in found.items()}
    exits, standard = cell_of("exits"), cell_of("standard")
    assert after[exits, RECORD] == "finetune" and after[standard, "predict/last-b1"] == "finetune"
    assert {after[exits, f"predict/{point}"] for point in POINTS} == {RECORD}
    for (name, part), job in found.items():
        point = part.removeprefix("predict/") if part.startswith("predict/") else None
        assert job.priority == Urgency(stages).of(name, point), part


def test_a_plan_of_labels_is_written_before_anything_is_there(capsys):
    study = labelled_study()
    write_plan(given(study, gpus=2), stamps(checked_stages("s", study, {})), Path("results/s"), {})
    text = single_spaced(Path("results/s/plan.md").read_text())
    facts = json.loads(Path("results/s/plan.json").read_text())
    for word in (
        "3,868 rows to train on, 1,978 to validate",
        "a label out",
        "layers that a mean example of exits runs | 3.5 at 4 inference points",
        "assumed: half way between the first exit and the last",
        "what exits say",
        "none leaves before the last",
    ):
        assert word in text, word
    assert (
        0 < facts["left"]["gpu_hours"] < facts["left_at_most"]["gpu_hours"] and facts["parts"] == 14
    )
    assert "3 cells, estimated" in capsys.readouterr().out


def test_a_share_of_disk_for_what_exits_say():
    shares = {share.what: share.gib for share in plan_of(labelled_study()).disk}
    grid = labelled_study()["grid"]
    without = {share.what for share in plan_of(labelled_study(grid=[grid[1]])).disk}
    assert 0 < shares["what exits say"] < 0.01 and "what exits say" not in without


def test_what_is_recorded_counts_as_finished_when_its_stamp_is_in_force(stages):
    from longwatt.plan.plan import finished_parts
    from longwatt.provenance.stamps import digest

    name = cell_of("exits")
    for stage in (stages.finetune(name), stages.record_exits(name)):
        block = {"settings_digest": digest(dict(stage.settings)), "code_digest": "code"}
        Path(stage.artefact).parent.mkdir(parents=True)
        Path(stage.artefact).write_text(json.dumps({"provenance": block}))
    assert finished_parts(stages, stamps(stages)) == {(name, "finetune"), (name, RECORD)}


def test_settings_in_force_are_those_of_labels(stages, tmp_path):
    for stage in stages.cell_stages():
        write_json(tmp_path / stage.artefact, {"provenance": {"settings": stage.settings}})
    groups = settings_of_rows(tmp_path / stages.results, stages.summarize().settings["rows"])
    table = settings_in_force(groups, {}).set_index("setting")
    by_model = {table.loc["models", column]: table[column] for column in table.columns}
    exits, standard = by_model["exits"], by_model["standard"]
    assert exits["exits.layers"] == "0, 1, 3, 5" and standard["exits.layers"] == "5"
    assert (exits["exits.layer_weights"], exits["metric"]) == ("learned", "macro_f1")
    wanted = ("validation", "fitted")
    assert (exits["calibration.split"], exits["calibration.temperatures"]) == wanted
    assert standard["calibration.split"] == "not used"
    assert exits["inference.leave-t0.9-b32.exit"] == "threshold 0.9"
    assert exits["inference.last-b1.exit"] == "last"
    assert standard["inference.leave-t0.9-b32.exit"] == "not used"
    assert exits["inference.leave-t0.9-b32.regroup_batches"] == "8"
    assert "inference.leave-t0.9-b1.regroup_batches" not in table.index  # nothing is regrouped
    words = ("generation", "max_target_tokens", "references", "task")
    assert not [name for name in table.index if any(word in name for word in words)]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"threshold": 0.9}, "threshold 0.9"),
        ({"patience": 2}, "patience 2"),
        ({"oracle": True}, "oracle"),
        (None, "last"),
    ],
)
def test_a_rule_in_words(rule, said):
    assert exit_rule_words(rule) == said
