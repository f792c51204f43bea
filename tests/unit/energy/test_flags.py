"""Flags of energies stand beside their numbers, and nothing is claimed of disclaimed ones."""

import json

import pandas as pd
import pytest

from longwatt.compare.pairing import compare_cells, match
from longwatt.compare.report import comparison_page, headlines
from longwatt.energy import costs, flags
from longwatt.exits import choose
from longwatt.exits.measured import read_cell
from longwatt.layout.drawing import FLAGGED
from longwatt.plan.forecast import _flagged
from longwatt.report.energy_figures import energy_by_phase
from longwatt.report.exits_table import early_exits
from longwatt.report.figures import COST_AXES, accuracy_against
from longwatt.report.tables import energies_table, readable
from longwatt.results.judge_claims import (
    HOLDS,
    SUPPORTED,
    UNCLEAR,
    UNDECIDED,
    Evidence,
    judge,
    judge_test,
)
from longwatt.results.summary import artefacts, summarize
from longwatt.study.claims import ClaimTest
from longwatt.study.summary_columns import COLUMNS, NUMBER_COLUMNS, energy_flags, energy_source
from tests.exit_results import write_study
from tests.unit.compare.test_pairing import SCORING, STUDIES
from tests.unit.compare.test_pairing import row as compared
from tests.unit.exits.test_figures import EXIT_ROW
from tests.unit.report.test_energy_figures import MEASURED
from tests.unit.report.test_figures import row, table, words
from tests.unit.report.test_tables import ROW
from tests.unit.results.test_judge_claims import cell

FLAGGED_ROW = {
    **ROW, **MEASURED, "train_energy_flags": "gap", "train_steps_energy_flags": "short",
    "checkpoint_energy_flags": "short crosscheck",
}  # fmt: skip


@pytest.mark.parametrize("column", [name for name in NUMBER_COLUMNS if energy_source(name)])
def test_every_number_of_energy_has_a_column_of_flags(column):
    named = energy_flags(column)
    assert named in COLUMNS and named not in NUMBER_COLUMNS and named.endswith("_flags")


def test_parts_have_flags_of_their_own():
    for name in ("train_energy_kwh", "train_power_efficiency"):
        assert energy_flags(name) == "train_energy_flags"
    for name in ("train_steps_energy_kwh", "train_steps_power_efficiency"):
        assert energy_flags(name) == "train_steps_energy_flags"
    assert energy_flags("wasted_energy_kwh") == "wasted_energy_flags"
    assert energy_flags("joules_per_example") == "inference_energy_flags"
    assert energy_flags("relative_joules") == "relative_joules_flags"
    for name in ("score", "train_runtime_s", "train_gpu_cost"):
        assert energy_flags(name) is None


@pytest.mark.parametrize(
    ("counted", "flagged"), [(100.0, False), (100.9, False), (101.1, True), (40.0, True)]
)
def test_joules_of_another_time_than_the_seconds_beside_them_are_flagged(counted, flagged):
    energy = {"energy_j": 1.0, "duration_s": counted, "flags": ["gap"]}
    assert flags.of_energy(energy, 100.0) == ["gap", *(["window"] if flagged else [])]
    unknown = {**energy, "energy_j": None}
    assert flags.of_energy(unknown, 100.0) == ["gap"], "nothing is said of no energy"


def test_a_summary_has_the_flags_of_every_part(tmp_path):
    known = {**cell(), "inference": "greedy"}
    found = artefacts(tmp_path, known)
    training = {"train_s": 60.0, "validation_s": 3.0, "train_runtime_s": 63.0}
    training |= {"attempts": [{}], "samples": 9}
    phases = {
        "train": {"energy_j": 6000.0, "energy_kwh": 0.1, "duration_s": 60.0, "flags": []},
        "validation": {"energy_j": 300.0, "energy_kwh": 0.1, "duration_s": 3.0, "flags": ["short"]},
    }
    energy = {"energy_j": 6300.0, "energy_kwh": 0.2, "duration_s": 63.0, "flags": ["gap"]}
    energy |= {"wasted": {"duration_s": 1.0, "energy_kwh": 0.1, "flags": ["short"]}}
    energy |= {"phases": phases, "gpus": {}}
    inference = {"samples": 4, "inference_runtime_s": 2.0}
    spent = {"energy_j": 9.0, "energy_kwh": 0.1, "duration_s": 4.0, "flags": ["short"]}
    spent |= {"gpus": {}, "wasted": {}}
    given = (training, energy, inference, spent, {})
    for path, facts in zip(found.values(), given, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts))
    (made,) = summarize(tmp_path, [known], costs.price_figures({})).to_dict("records")
    assert made["train_energy_flags"] == "gap" and made["train_steps_energy_flags"] is None
    assert made["validation_energy_flags"] == made["wasted_energy_flags"] == "short"
    assert made["inference_energy_flags"] == "short window", "2 s were measured, and 4 s billed"


def judged(kind: str, given: dict, *rows: dict) -> dict:
    base = {**dict.fromkeys(COLUMNS), "score_name": "f1", "initialisation": "checkpoint"}
    summary = pd.DataFrame([{**base, **one} for one in rows])
    evidence = Evidence(summary, [{"left_out": None, **one} for one in rows])
    return judge_test(ClaimTest("t", kind, given), evidence)


@pytest.mark.parametrize("flag", ["short", "gap short", "window"])
@pytest.mark.parametrize("kind", ["ratio", "difference"])
def test_nothing_is_claimed_of_an_energy_that_docs_disclaim(kind, flag):
    rows = [{**cell(model), "train_energy_kwh": kwh} for model, kwh in (("a", 1.0), ("b", 2.0))]
    given = {"column": "train_energy_kwh", "of": {"model": "a"}, "to": {"model": "b"}, "below": 1}
    assert judged(kind, given, *rows)["verdict"] == SUPPORTED
    rows[1]["train_energy_flags"] = flag
    found = judged(kind, given, *rows)
    assert found["verdict"] == UNDECIDED and found["findings"][0]["status"] == UNCLEAR
    assert f"(flag {flag.split()[-1]}), of which nothing is claimed" in found["unclear_because"][0]
    assert found["findings"][0]["notes"] == [f"energy flagged: {', '.join(flag.split())}"]
    rows[1]["train_energy_flags"] = "gap"
    found = judged(kind, given, *rows)
    assert found["findings"][0]["status"] == HOLDS
    assert found["findings"][0]["notes"] == ["energy flagged: gap"]


def test_training_steps_alone_are_judged_by_their_own_flags():
    rows = [
        {**cell(m), "train_energy_kwh": k, "train_steps_energy_kwh": k / 2}
        for m, k in (("a", 1.0), ("b", 2.0))
    ]
    rows[0]["train_steps_energy_flags"] = "short"
    test = {"column": "train_energy_kwh", "of": {"model": "a"}, "to": {"model": "b"}, "below": 1}
    claim = {"statement": "less", "tests": [{"ratio": test}]}
    base = {**dict.fromkeys(COLUMNS), "score_name": "f1", "initialisation": "checkpoint"}
    cells = [{**one, "left_out": None} for one in rows]
    summary = pd.DataFrame([{**base, **one} for one in rows])
    found = judge(summary, {"claims": {"c": claim}, "cells": cells})["c"]
    assert found["verdicts"] == {"whole run": SUPPORTED, "training steps alone": UNDECIDED}
    assert found["notes"] == ["energy flagged: short"]


def test_scores_and_times_are_judged_whatever_is_said_of_energies():
    rows = [
        {**cell(m), "train_runtime_s": s, "train_energy_flags": "short"}
        for m, s in (("a", 1.0), ("b", 2.0))
    ]
    given = {"column": "train_runtime_s", "of": {"model": "a"}, "to": {"model": "b"}, "below": 1}
    found = judged("ratio", given, *rows)
    assert found["verdict"] == SUPPORTED and found["findings"][0]["notes"] == []


def test_tables_show_flags_beside_an_energy_or_in_columns_of_their_own():
    (shown,) = readable(table(row(**FLAGGED_ROW)), {}).to_dict("records")
    assert shown["training energy (Wh)"] == "3.000 (flagged gap)"
    estimated = table(row(**{**FLAGGED_ROW, "train_energy_source": "estimate"}))
    (text,) = readable(estimated, {})["training energy (Wh)"]
    assert text == "3.000 (estimated; flagged gap)"
    rows = table(row(**FLAGGED_ROW, inference_energy_flags="interleaved"))
    (found,) = energies_table(rows, {}).to_dict("records")
    assert {name: text for name, text in found.items() if name.startswith("flags")} == {
        "flags: training": "gap", "flags: steps alone": "short", "flags: validations": "",
        "flags: checkpoints": "short crosscheck", "flags: wasted": "",
        "flags: inference": "interleaved",
    }  # fmt: skip


def test_figures_ring_the_points_whose_energy_is_flagged_and_say_with_what():
    rows = table(row(**FLAGGED_ROW, cell="a"), row(**{**ROW, **MEASURED}, cell="b", seq_len=128))
    for name, found in (("training_energy", ["gap"]), ("training_time", [])):
        figure = accuracy_against(rows, COST_AXES[name], {})
        rings = [line for axis in figure.axes for line in axis.lines if line.get_gid() == FLAGGED]
        assert [len(ring.get_xdata()) for ring in rings] == [1] * len(found)
        assert ("ringed: energy flagged gap" in words(figure)) is bool(found)


def test_energy_by_phase_says_which_phases_are_flagged():
    said = words(energy_by_phase(table(row(**FLAGGED_ROW, cell="a")), {}))
    assert "flagged: training steps: short; checkpoint: short, crosscheck" in said


def test_a_comparison_flags_ratios_of_energy_and_power(tmp_path):
    tables = [pd.DataFrame([one]).reindex(columns=list(COLUMNS)) for one in
              (compared(), compared(train_energy_flags="short"))]  # fmt: skip
    found = match(*tables)
    rows = compare_cells(tmp_path, STUDIES, found, SCORING)
    assert rows["train_energy_flags_b"].tolist() == ["short"]
    assert rows["train_energy_flags_a"].tolist() == [None]
    said = "\n".join(headlines(STUDIES, found, rows, []))
    assert "Training energy (partly flagged short): median" in said
    assert "Mean power in training (partly flagged short): median" in said
    assert "Training speed: median" in said
    text = str(comparison_page(STUDIES, found, rows, []))
    assert "1 (flagged short)" in text


def test_pages_of_exits_show_flags():
    shown = pd.DataFrame([{**row(), **EXIT_ROW, "inference_energy_flags": "short interleaved"}])
    (text,) = early_exits(shown, {})["J/example"]
    assert text == "0.500 (estimated; flagged short, interleaved)"
    point = {"joules_per_example": 0.5, "energy_measured": True, "energy_flags": ["short"]}
    assert choose._energy(point) == "0.5 J per example (flagged short)"


def test_points_of_exits_know_their_flags(tmp_path):
    results = tmp_path / "study"
    cells = write_study(results)
    one = next(c for c in cells if c["points"])
    path = results / one["cell"] / "predict" / next(iter(one["points"])) / "energy.json"
    energy = json.loads(path.read_text())
    path.write_text(json.dumps({**energy, "duration_s": 10**6, "flags": ["short"]}))
    point = next(iter(read_cell(results, one).points))
    assert point.facts["energy_flags"] == ["short", "window"]


def test_a_power_that_a_plan_reckons_with_says_its_flags():
    assert _flagged(["short", "NA", "gap short", ""]) == ", flagged short, gap"
    assert _flagged(["NA", ""]) == ""
