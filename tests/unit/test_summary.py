"""The summary, whether it is fresh, and the state of every cell."""

import fcntl
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from longwatt.provenance import sha256
from longwatt.status import cell_states, up_to_date
from longwatt.summary import StaleSummary, artefacts, check_fresh, read_summary, write_summary

ROWS = [{"cell": f"d/m/{n}/b/generated/seed1", "dataset": "d", "seq_len": n, "inference": "greedy"} for n in (64, 128)]


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
            "training_energy": {"energy_j": 200.0, "energy_kwh": 200 / 3.6e6, "energy_source": "nvml_counter"},
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
    write_summary(results, ROWS, results / "summary.csv", {})
    for name in ("figures/figures.json", "tables/tables.json"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).write_text(json.dumps({"summary_sha256": sha256(results / "summary.csv")}))
    return read_summary(results / "summary.csv")


def test_a_row_per_cell_with_unknown_values_na(results):
    table = write(results)
    assert list(table["seq_len"]) == [64, 128]
    assert table["train_power_efficiency"].tolist() == [0.5, 0.5]
    assert table["attempts"].tolist() == [2, 2] and table["stopped_early"].tolist() == [True, True]
    assert table["inference_energy_kwh"].isna().all() and table["rouge1"].isna().all()
    assert ",NA," in (results / "summary.csv").read_text()


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


@pytest.mark.parametrize("name", ["figures", "tables"])
def test_figures_and_tables_of_another_summary_are_refused(results, name):
    write(results)
    report = results / name / f"{name}.json"
    report.write_text(json.dumps({"summary_sha256": "of another"}))
    with pytest.raises(StaleSummary, match=f"{name} is older than .*summary.csv"):
        check_fresh(results)
    report.unlink()
    with pytest.raises(StaleSummary, match=f"{name} is older than .*summary.csv, or missing"):
        check_fresh(results)


def test_no_summary_says_what_to_do(tmp_path):
    with pytest.raises(StaleSummary, match="run the study first"):
        check_fresh(tmp_path)


def stamps(results: Path) -> dict[str, list[str]]:
    return {str(path): ["s", "c"] for row in ROWS for path in artefacts(results, row).values()}


def states(results: Path) -> list[str]:
    return cell_states(results, ROWS, stamps(results))["state"].tolist()


def test_only_results_of_the_settings_in_force_count(results):
    assert [up_to_date(results, row, stamps(results)) for row in ROWS] == [True, True]
    changed = {**stamps(results), str(artefacts(results, ROWS[0])["training"]): ["other", "c"]}
    assert [up_to_date(results, row, changed) for row in ROWS] == [False, True]
    assert cell_states(results, ROWS, changed)["state"].tolist() == ["outdated", "finished"]
    artefacts(results, ROWS[1])["inference"].unlink()
    assert [up_to_date(results, row, stamps(results)) for row in ROWS] == [True, False]


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
