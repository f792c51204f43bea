"""The summary, whether it is fresh, and the state of every cell."""

import fcntl
import json
from pathlib import Path

import pandas as pd
import pytest

from longwatt.status import cell_states
from longwatt.summary import StaleSummary, artefacts, check_fresh, finished, read_summary, write_summary

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
            path.write_text(json.dumps(contents[name]))
    return tmp_path


def write(results: Path) -> pd.DataFrame:
    write_summary(results, ROWS, results / "summary.csv", {})
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
    check_fresh(results, [row["cell"] for row in ROWS])
    scores = artefacts(results, ROWS[1])["scores"]
    scores.write_text(scores.read_text() + " ")
    with pytest.raises(StaleSummary, match=r"older than 1 of the results.*\n.*128.*scores\.json"):
        check_fresh(results)
    scores.unlink()
    with pytest.raises(StaleSummary, match="older than 1"):
        check_fresh(results)


def test_a_cell_that_the_summary_lacks_is_named(results):
    write(results)
    with pytest.raises(StaleSummary, match="d/m/256/b/generated/seed1 \\(not in the summary\\)"):
        check_fresh(results, [ROWS[0]["cell"], "d/m/256/b/generated/seed1"])


def test_no_summary_says_what_to_do(tmp_path):
    with pytest.raises(StaleSummary, match="run the study first"):
        check_fresh(tmp_path)


def test_only_whole_rows_are_finished(results):
    assert finished(results, ROWS) == ROWS
    artefacts(results, ROWS[0])["inference"].unlink()
    assert finished(results, ROWS) == ROWS[1:]


def states(results: Path) -> list[str]:
    return cell_states(results, ROWS)["state"].tolist()


def test_every_cell_has_a_state(results):
    assert states(results) == ["finished", "finished"]
    artefacts(results, ROWS[0])["scores"].unlink()
    artefacts(results, ROWS[1])["scores"].unlink()
    assert states(results) == ["not started", "not started"]
    work = results / ROWS[0]["cell"] / "work"
    work.mkdir()
    (work / "attempts.jsonl").write_text("{}\n")
    assert states(results) == ["interrupted", "not started"]
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert states(results) == ["running", "not started"]
    (work / "failure-finetune.json").write_text(json.dumps({"message": "it broke", "log": "x.log"}))
    table = cell_states(results, ROWS)
    assert table["state"].tolist() == ["failed", "not started"]
    assert table.loc[0, ["message", "log"]].tolist() == ["it broke", "x.log"]
