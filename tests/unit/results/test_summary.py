"""The summary, whether it is fresh, and the state of every cell."""

import fcntl
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from longwatt.energy import costs
from longwatt.files import sha256
from longwatt.provenance.stamps import digest
from longwatt.results.status import cell_states, up_to_date_rows
from longwatt.results.summary import (
    StaleSummary,
    artefacts,
    check_fresh,
    read_summary,
    summarize,
    write_summary,
)
from longwatt.study.summary_columns import COLUMNS

ROWS = [
    {"cell": f"d/m/{n}/b/generated/seed1", "dataset": "d", "seq_len": n, "inference": "greedy"}
    for n in (64, 128)
]


@pytest.fixture
def results(tmp_path) -> Path:
    """Two finished cells."""
    for row in ROWS:
        contents = {
            "training": {
                "attempts": [1, 2],
                "samples": 100,
                "train_s": 5.0,
                "train_runtime_s": 6.0,
                "stopped_early": True,
            },
            "training_energy": {
                "energy_j": 200.0,
                "energy_kwh": 200 / 3.6e6,
                "energy_source": "nvml_counter",
            },
            "inference": {"inference_samples_per_second": 3.0},
            "inference_energy": {"energy_j": None, "energy_kwh": None, "energy_source": "none"},
            "scores": {"score": 12.5, "score_name": "f1", "f1": 12.5},
        }
        for name, path in artefacts(tmp_path, row).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            stamp = {"settings_digest": "s", "code_digest": "c"}
            path.write_text(json.dumps({**contents[name], "provenance": stamp}))
    return tmp_path


def write(results: Path) -> pd.DataFrame:
    write_summary(results, ROWS, costs.price_figures({}), results / "summary.csv", {})
    for name in ("figures/figures.json", "tables/tables.json", "answer.json"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).write_text(json.dumps({"summary_sha256": sha256(results / "summary.csv")}))
    energies = [artefacts(results, row)["training_energy"] for row in ROWS]
    (results / "power").mkdir(exist_ok=True)
    made_from = {str(path): sha256(path) for path in energies}
    (results / "power/power.json").write_text(json.dumps({"made_from": made_from}))
    return read_summary(results / "summary.csv")


def test_a_row_per_cell_with_unknown_values_na(results):
    table = write(results)
    assert list(table["seq_len"]) == [64, 128]
    assert table["train_power_efficiency"].tolist() == [0.5, 0.5]
    assert table["attempts"].tolist() == [2, 2] and table["stopped_early"].tolist() == [True, True]
    assert table["inference_energy_kwh"].isna().all() and table["rouge1"].isna().all()
    assert ",NA," in (results / "summary.csv").read_text()


def test_paths_of_attention_are_columns_and_na_where_results_do_not_say_them(results):
    older, newer = (artefacts(results, row) for row in ROWS)
    for name, path in (("training", "stock"), ("inference", "fast")):
        facts = json.loads(newer[name].read_text())
        if name == "training":
            settings = {"model": {"attention": "fast"}, "training": {}}
            facts["provenance"]["settings"] = settings
        newer[name].write_text(json.dumps({**facts, "attention": path}))
    assert "attention" not in json.loads(older["training"].read_text())
    table = write(results)
    for column, value in (
        ("attention", "stock"), ("attention_asked", "fast"), ("inference_attention", "fast"),
    ):  # fmt: skip
        assert table[column].fillna("unknown").tolist() == ["unknown", value]


def test_a_fresh_summary_passes_and_a_changed_or_missing_result_is_named(results):
    write(results)
    check_fresh(results, ROWS)
    scores = artefacts(results, ROWS[1])["scores"]
    scores.write_text(scores.read_text() + " ")
    with pytest.raises(StaleSummary, match=r"older than 1 of the results.*\n.*128.*scores\.json"):
        check_fresh(results)
    scores.unlink()
    with pytest.raises(StaleSummary, match="older than 1"):
        check_fresh(results)


@pytest.mark.parametrize("lacking", [{"cell": "d/m/256/b/generated/seed1"}, {"inference": "beams"}])
def test_a_row_that_the_summary_lacks_is_named(results, lacking):
    write(results)
    row = {**ROWS[0], **lacking}
    name = re.escape(str(artefacts(results, row)["scores"]))
    with pytest.raises(StaleSummary, match=f"{name} \\(not in the summary\\)"):
        check_fresh(results, [*ROWS, row])


@pytest.mark.parametrize(
    "name, file", [("figures", "figures/figures.json"), ("tables", "tables/tables.json"),
                   ("answer.json", "answer.json")],
)  # fmt: skip
def test_figures_tables_and_an_answer_of_another_summary_are_refused(results, name, file):
    write(results)
    report = results / file
    report.write_text(json.dumps({"summary_sha256": "of another"}))
    with pytest.raises(StaleSummary, match=f"{name} is older than .*summary.csv"):
        check_fresh(results)
    report.unlink()
    with pytest.raises(StaleSummary, match=f"{name} is older than .*summary.csv, or missing"):
        check_fresh(results)


def test_curves_of_other_energies_are_refused(results):
    write(results)
    check_fresh(results)
    report = results / "power/power.json"
    report.write_text(report.read_text().replace('": "', '": "0', 1))
    with pytest.raises(StaleSummary, match="power is older than"):
        check_fresh(results)
    report.unlink()
    with pytest.raises(StaleSummary, match=r"power is older than .*, or missing"):
        check_fresh(results)


def test_claims_judged_by_another_summary_or_as_other_claims_are_refused(results):
    write(results)
    wanted = {"claims": {"a": 1}}
    with pytest.raises(StaleSummary, match=r"claims.json is older than the summary .*, or missing"):
        check_fresh(results, ROWS, wanted)
    judged = {
        "summary_sha256": sha256(results / "summary.csv"),
        "provenance": {"settings_digest": digest(wanted)},
    }
    (results / "claims.json").write_text(json.dumps(judged))
    check_fresh(results, ROWS, wanted)
    check_fresh(results)
    with pytest.raises(StaleSummary, match="or than the study's claims"):
        check_fresh(results, ROWS, {"claims": {"a": 2}})
    (results / "claims.json").write_text(json.dumps({**judged, "summary_sha256": "of another"}))
    with pytest.raises(StaleSummary, match=r"claims\.json is older"):
        check_fresh(results)


def test_energy_by_phase_waste_and_what_it_costs(results):
    training = artefacts(results, ROWS[0])["training_energy"]
    facts = {
        "energy_j": 3.6e6, "energy_kwh": 1.0, "energy_source": "nvml_counter", "measured": True,
        "flags": ["short", "gap"],
        "net_energy_kwh": 0.8, "energy_kwh_paper": 1.01, "crosscheck_pct": 1.0,
        "idle_power_w": 60.0, "gpu_s": 14400.0,
        "gpus": {"a": {}, "b": {}},
        "phases": {"train": {"energy_kwh": 0.7}, "validation": {"energy_kwh": 0.3}},
        "wasted": {"energy_kwh": 0.25, "duration_s": 600.0},
    }  # fmt: skip
    training.write_text(json.dumps(facts))
    machine = {
        "carbon": {"grams_per_kwh": 300, "source": "the grid", "year": 2025}, "pue": 1.5,
        "prices": {"currency": "EUR", "per_kwh": 0.2, "per_gpu_hour": 2.5},
    }  # fmt: skip
    table = summarize(results, ROWS, costs.price_figures(machine))
    row = table.iloc[0]
    assert (
        row["train_steps_energy_kwh"],
        row["validation_energy_kwh"],
        row["checkpoint_energy_kwh"],
    ) == (0.7, 0.3, 0)
    assert row["train_power_efficiency"] == pytest.approx(100 / 3.6e6)
    assert row["train_steps_power_efficiency"] == pytest.approx(100 / (0.7 * 3.6e6))
    assert (row["wasted_energy_kwh"], row["wasted_runtime_s"], row["train_energy_flags"]) == (
        0.25,
        600,
        "short gap",
    )
    # PUE stands beside and is in nothing.
    assert (row["pue"], row["train_gco2e"], row["train_energy_cost"]) == (1.5, 300, 0.2)
    assert (row["train_gpu_hours"], row["train_gpu_cost"], row["currency"]) == (4, 10, "EUR")
    assert (row["grid_source"], row["grid_year"], row["grid_gco2e_per_kwh"]) == (
        "the grid",
        2025,
        300,
    )
    unpriced = summarize(results, ROWS, costs.price_figures({})).iloc[0]
    assert (
        unpriced["train_gco2e"] is None
        and unpriced["pue"] == 1
        and unpriced["train_gpu_hours"] == 4
    )


def test_joules_per_example_and_per_token(results):
    found = artefacts(results, ROWS[0])
    found["inference"].write_text(json.dumps({"samples": 50, "output_tokens": 400}))
    facts = {
        "energy_j": 2000.0,
        "energy_kwh": 2000 / 3.6e6,
        "energy_source": "nvml_counter",
        "gpus": {},
    }
    found["inference_energy"].write_text(
        json.dumps({**facts, "wasted": {"duration_s": 0, "energy_kwh": None}})
    )
    row = summarize(results, ROWS, costs.price_figures({})).iloc[0]
    assert (row["joules_per_example"], row["joules_per_output_token"]) == (40, 5)
    assert row["inference_power_efficiency"] == 0.025 and row["inference_wasted_energy_kwh"] == 0


def test_no_summary_says_what_to_do(tmp_path):
    with pytest.raises(StaleSummary, match="run the study until nothing is left to do"):
        check_fresh(tmp_path)


def stamps(results: Path) -> dict[str, list[str]]:
    return {str(path): ["s", "c"] for row in ROWS for path in artefacts(results, row).values()}


def states(results: Path) -> list[str]:
    return cell_states(results, ROWS, stamps(results))["state"].tolist()


def test_only_results_of_the_settings_in_force_count(results):
    assert up_to_date_rows(results, ROWS, stamps(results)) == ROWS
    changed = {**stamps(results), str(artefacts(results, ROWS[0])["training"]): ["other", "c"]}
    assert up_to_date_rows(results, ROWS, changed) == ROWS[1:]
    assert cell_states(results, ROWS, changed)["state"].tolist() == ["outdated", "finished"]
    artefacts(results, ROWS[1])["inference"].unlink()
    assert up_to_date_rows(results, ROWS, stamps(results)) == ROWS[:1]


def test_every_cell_has_a_state(results):
    assert states(results) == ["finished", "finished"]
    artefacts(results, ROWS[0])["scores"].unlink()
    artefacts(results, ROWS[1])["scores"].unlink()
    assert states(results) == ["not started", "not started"]
    work = results / ROWS[0]["cell"] / "work"
    (work / "predict-greedy").mkdir(parents=True)
    (work / "attempts.jsonl").write_text('{"event": "start"}\n')
    assert states(results) == ["interrupted", "not started"]
    (work / "attempts.jsonl").write_text('{"event": "end", "status": "completed"}\n')
    assert states(results) == ["trained", "not started"]
    for lock_file in (work / "lock", work / "predict-greedy" / "lock"):
        with lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert states(results) == ["running", "not started"]
    (work / "failure-finetune.json").write_text(json.dumps({"message": "it broke", "log": "x.log"}))
    table = cell_states(results, ROWS, stamps(results))
    assert table["state"].tolist() == ["failed", "not started"]
    assert table.loc[0, ["message", "log"]].tolist() == ["it broke", "x.log"]


def test_the_model_before_training_has_a_row_without_a_training(results):
    before = {**ROWS[0], "inference": "before", "weights": "initial"}
    identity = {"data": "d" * 40, "weights": "w" * 40}
    facts = {
        "inference": {
            "inference_samples_per_second": 2.0, "samples": 4, "attention": "stock",
            "device": "cpu", "identity": identity,
            "provenance": {"settings": {"attention": "fast"}},
        },
        "inference_energy": {"energy_j": 8.0, "energy_kwh": 8 / 3.6e6, "energy_source": "x"},
        "scores": {"score": 1.5, "score_name": "f1"},
    }  # fmt: skip
    paths = artefacts(results, before)
    assert paths.keys() == facts.keys(), "it waits for no training"
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts[name]))
    trained = [{**row, "weights": "trained"} for row in ROWS]
    write_summary(results, [before, *trained], costs.price_figures({}), results / "s.csv", {})
    table = read_summary(results / "s.csv")
    row, other = table.iloc[0], table.iloc[1]
    assert (row["weights"], row["score"], row["joules_per_example"]) == ("initial", 1.5, 2.0)
    unknown = [name for name in COLUMNS if name.startswith(("train_", "validation_", "wasted_"))]
    unknown += ["peak_memory_gib", "parameters", "steps", "attempts", "adaptation", "samples"]
    assert table.loc[0, unknown].isna().all(), "a cost of 0 would be a lie"
    assert (row["attention"], row["attention_asked"]) == ("stock", "fast")
    assert (row["data_digest"], row["weights_digest"]) == ("d" * 12, "w" * 12)
    assert other["train_power_efficiency"] == 0.5
    assert ",2.0," not in (results / "s.csv").read_text().splitlines()[2], "2 attempts, not 2.0"


def test_the_model_of_a_search_is_chosen_by_its_trained_rows(results):
    trained, searched = artefacts(results, ROWS[0]), {"variant_of": "m", "model": "m-1"}
    axes = {"budget": "b", "protocol": "generated", "seed": 1}
    for row, score in zip(ROWS, (2.0, 3.0), strict=True):
        path = artefacts(results, row)["training"]
        path.write_text(json.dumps({**json.loads(path.read_text()), "best_score": score}))
    rows = [{**row, **searched, **axes, "seq_len": 64, "weights": "trained"} for row in ROWS]
    for name in ("inference", "inference_energy", "scores"):
        for row in ROWS:
            path = artefacts(results, {**row, "inference": "before"})[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(trained[name].read_text())
    rows += [{**row, "inference": "before", "weights": "initial"} for row in rows]
    prices = costs.price_figures({})
    assert summarize(results, rows, prices)["selected"].tolist() == [False, True, False, True]
