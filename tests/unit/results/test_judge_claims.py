"""Claims: what they compare, and when they are supported, contradicted or not decidable."""

import json
import math
import random
from collections.abc import Callable

import pandas as pd
import pytest

from longwatt.config.documents import normalise, read_yaml, validate
from longwatt.config.studies import read_study
from longwatt.report.claims_page import words_of_test
from longwatt.results.judge_claims import (  # fmt: skip
    CONTRADICTED,
    FAILS,
    HOLDS,
    STEPS_ALONE,
    SUPPORTED,
    UNCLEAR,
    UNDECIDED,
    WHOLE_RUN,
    Estimate,
    Evidence,
    judge,
    judge_test,
    verdict_against,
)
from longwatt.study.cells import expand
from longwatt.study.claims import ClaimTest, check_claims, list_tests, point_of
from longwatt.study.stages import Stages
from longwatt.study.summary_columns import COLUMNS
from tests.conftest import ROOT

LENGTHS = (1024, 2048, 3072, 4096)
# Scores by dataset, model and budget, by length. LED-base on GovReport and Qasper: table 2 of arXiv
# 2204.07288; the others are made up so that every claim holds.
SCORES = {
    ("gov_report", "led_base", "gpu1"): (49.53, 51.15, 51.67, 51.71),
    ("gov_report", "led_base", "gpu1x4"): (49.53, 51.28, 52.09, 52.27),
    ("gov_report", "led_base", "gpu8x4"): (48.78, 50.18, 50.60, 50.95),
    ("gov_report", "led_large", "gpu1"): (52.4, 53.4, 54.0, 54.5),
    ("gov_report", "bigbird_large", "gpu1"): (45.0, 46.0, 47.0, 48.0),
    ("summ_screen_fd", "led_base", "gpu1"): (18.0, 18.5, 19.0, 19.5),
    ("summ_screen_fd", "led_large", "gpu1"): (20.0, 20.5, 21.0, 21.5),
    ("summ_screen_fd", "bigbird_large", "gpu1"): (14.0, 14.5, 15.0, 15.5),
    ("qmsum", "led_base", "gpu1"): (28.0, 28.5, 29.0, 29.5),
    ("qmsum", "led_large", "gpu1"): (31.0, 33.0, 34.0, 35.0),
    ("qmsum", "bigbird_large", "gpu1"): (24.0, 24.5, 25.0, 25.5),
    ("qasper", "led_base", "gpu1"): (17.68, 22.74, 29.57, 32.88),
    ("qasper", "led_base", "gpu1x4"): (21.39, 27.87, 33.75, 34.20),
    ("qasper", "led_base", "gpu8x4"): (25.30, 29.97, 33.94, 36.36),
    ("qasper", "led_large", "gpu8x4"): (20.0, 24.0, 28.0, 32.0),
    ("qasper", "bigbird_large", "gpu8x4"): (15.0, 18.0, 21.0, 23.0),
}
# How far intervals over the validation split's examples (972, 338, 272, 1726) reach either way.
HALVES = {"gov_report": 0.45, "summ_screen_fd": 0.76, "qmsum": 0.85, "qasper": 1.75}
# samples/J, kWh and samples/s at 1024 tokens.
EFFICIENCY = {"led_base": 3.0, "led_large": 1.0, "bigbird_large": 1.05}
ENERGY = {"led_base": 2.0, "led_large": 2.5, "bigbird_large": 8.0}
SPEED = {"led_base": 10.0, "led_large": 4.0, "bigbird_large": 3.0}


def row(cell: dict) -> dict:
    """One row of a study in which every claim of the paper holds."""
    step = LENGTHS.index(cell["seq_len"])
    longer = 1 + 0.1 * step if cell["dataset"] == "qasper" else 1 + step
    energy = ENERGY[cell["model"]] * longer
    efficiency = EFFICIENCY[cell["model"]] / (1 + step)
    score, half = (
        SCORES[cell["dataset"], cell["model"], cell["budget"]][step],
        HALVES[cell["dataset"]],
    )
    return {
        **dict.fromkeys(COLUMNS), **cell,
        "score": score, "score_name": "score", "score_ci_low": score - half,
        "score_ci_high": score + half,
        "initialisation": "checkpoint", "train_energy_source": "nvml_counter",
        "train_energy_kwh": energy, "train_steps_energy_kwh": 0.7 * energy,
        "train_power_efficiency": efficiency, "train_steps_power_efficiency": efficiency / 0.7,
        "train_runtime_s": 14400 * energy, "train_steps_s": 10000 * energy,
        "train_samples_per_second": SPEED[cell["model"]] / (1 + step),
        "inference_samples_per_second": 4 * SPEED[cell["model"]] / (1 + step),
    }  # fmt: skip


@pytest.fixture(scope="module")
def study() -> dict:
    return read_study(ROOT / "studies/paper.yaml", ROOT / "workflow/schemas/study.schema.json")


@pytest.fixture(scope="module")
def cells(study) -> list[dict]:
    return [
        {**vars(c), "cell": n, "inference": "greedy", "left_out": None}
        for n, c in expand(study).items()
    ]


@pytest.fixture
def summary(cells) -> pd.DataFrame:
    table = pd.DataFrame([row(cell) for cell in cells])
    table["mean_gpu_utilization_pct"] = utilisation(0, len(table))
    return table


def utilisation(seed: int, cells: int) -> list[float]:
    """Per cent that have nothing to do with anything else."""
    source = random.Random(seed)
    return [source.uniform(70, 94) for _ in range(cells)]


def where(table: pd.DataFrame, **wanted) -> pd.Series:
    return pd.Series(True, table.index) & (table[list(wanted)] == pd.Series(wanted)).all(axis=1)


def change(column: str, by: Callable[[float], float], **wanted) -> Callable[[pd.DataFrame], None]:
    """Change some cells' numbers, a score with its interval and energy with that of its steps."""
    moved = {
        "score": ("score", "score_ci_low", "score_ci_high"),
        "train_energy_kwh": ("train_energy_kwh", "train_steps_energy_kwh"),
        "train_power_efficiency": ("train_power_efficiency", "train_steps_power_efficiency"),
        "train_runtime_s": ("train_runtime_s", "train_steps_s"),
    }

    def apply(table: pd.DataFrame) -> None:
        for name in moved.get(column, (column,)):
            table.loc[where(table, **wanted), name] = table.loc[where(table, **wanted), name].map(
                by
            )

    return apply


def verdicts(study: dict, cells: list[dict], table: pd.DataFrame, number: int) -> dict[str, str]:
    (name,) = (name for name in study["claims"] if name.startswith(f"{number:02}_"))
    return judge(table, {"claims": {name: study["claims"][name]}, "cells": cells})[name]["verdicts"]


NUMBERS = range(1, 12)
WITHOUT_ENERGY = (6, 7, 11)
FALSE = {
    1: change("train_power_efficiency", lambda x: 1 / x),
    2: change("score", lambda x: x + 20, model="bigbird_large"),
    3: change(
        "train_energy_kwh", lambda x: 10 * x, dataset="qmsum", model="led_large", seq_len=1024
    ),
    4: change("score", lambda x: x - 9, model="led_large", seq_len=2048),
    5: change("train_energy_kwh", lambda x: x / 100, dataset="qasper", model="bigbird_large"),
    6: change("inference_samples_per_second", lambda x: 9.0),
    7: change("score", lambda x: x - 5, dataset="gov_report", model="led_base", seq_len=2048),
    8: change("score", lambda x: x + 30, dataset="qasper", model="led_large"),
    9: change("train_energy_kwh", lambda x: 10 * x, dataset="qasper", seq_len=4096),
    10: change(
        "train_runtime_s",
        lambda x: x / 10,
        dataset="gov_report",
        model="bigbird_large",
        seq_len=4096,
    ),
    11: change("score", lambda x: x - 9, dataset="qasper", budget="gpu1x4", seq_len=3072),
}
# A cell that each claim needs.
NEEDED = {
    1: "qmsum/led_base/2048/gpu1", 2: "qmsum/bigbird_large/1024/gpu1",
    3: "gov_report/led_large/1024/gpu1",
    4: "gov_report/led_large/4096/gpu1", 5: "qasper/bigbird_large/1024/gpu8x4",
    6: "qasper/led_base/3072/gpu1x4",
    7: "gov_report/led_base/2048/gpu1", 8: "qasper/led_large/1024/gpu8x4",
    9: "qasper/led_base/4096/gpu8x4",
    10: "gov_report/bigbird_large/4096/gpu1", 11: "qasper/led_base/2048/gpu1x4",
}  # fmt: skip
# A change of the energy of training steps alone that contradicts what the whole run supports.
STEPS_DIFFER = {
    1: change("train_steps_power_efficiency", lambda x: 1 / x),
    2: change("train_steps_power_efficiency", lambda x: 3 * x, model="bigbird_large"),
    3: change("train_steps_energy_kwh", lambda x: 10 * x, model="led_large", seq_len=1024),
    4: change("train_steps_energy_kwh", lambda x: 10 * x, model="led_large"),
    5: change("train_steps_energy_kwh", lambda x: x / 100, model="bigbird_large"),
    8: change("train_steps_power_efficiency", lambda x: x / 10, model="led_base"),
    9: change("train_steps_energy_kwh", lambda x: 10 * x, seq_len=4096),
    10: change("train_steps_energy_kwh", lambda x: 1 / x),
}


def test_the_paper_s_claims_are_eleven_and_fit_its_grid(study, cells, study_schema):
    validate(study, json.loads(study_schema.read_text()), "studies/paper.yaml")
    check_claims(study, cells, "studies/paper.yaml")
    assert [int(name[:2]) for name in study["claims"]] == list(NUMBERS)
    assert "protocol" not in json.dumps([claim["tests"] for claim in study["claims"].values()])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_claim_that_the_numbers_bear_out_is_supported_by_either_energy(
    study, cells, summary, number
):
    ways = [WHOLE_RUN] if number in WITHOUT_ENERGY else [WHOLE_RUN, STEPS_ALONE]
    assert verdicts(study, cells, summary, number) == dict.fromkeys(ways, SUPPORTED)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_claim_that_the_numbers_deny_is_contradicted(study, cells, summary, number):
    FALSE[number](summary)
    assert set(verdicts(study, cells, summary, number).values()) == {CONTRADICTED}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_claim_without_one_of_its_cells_is_not_decidable_and_names_it(
    study, cells, summary, number
):
    missing = f"{NEEDED[number]}/generated/seed42"
    table = summary[summary["cell"] != missing]
    (name,) = (name for name in study["claims"] if name.startswith(f"{number:02}_"))
    judged = judge(table, {"claims": {name: study["claims"][name]}, "cells": cells})[name]
    assert set(judged["verdicts"].values()) == {UNDECIDED}
    lacking = [
        why
        for test in judged["tests"]
        for way in test["judged"].values()
        for why in way["unclear_because"]
    ]
    assert {why for why in lacking if "reaches across" not in why} == {f"{missing} is not finished"}


@pytest.mark.parametrize("number", NUMBERS)
def test_only_claims_about_energy_need_it_measured(study, cells, summary, number):
    unmeasured = [
        name
        for name in COLUMNS
        if name.startswith("train_") and ("energy_kwh" in name or "power_e" in name)
    ]
    summary[unmeasured] = None
    expected = SUPPORTED if number in WITHOUT_ENERGY else UNDECIDED
    assert set(verdicts(study, cells, summary, number).values()) == {expected}


@pytest.mark.parametrize("number", (2, 3, 4, 5, 7, 8, 9, 11))
def test_a_score_that_is_not_known_well_enough_decides_nothing(study, cells, summary, number):
    summary["score_ci_low"], summary["score_ci_high"] = summary["score"] - 9, summary["score"] + 9
    assert set(verdicts(study, cells, summary, number).values()) == {UNDECIDED}


@pytest.mark.parametrize("number", STEPS_DIFFER)
def test_energy_is_judged_twice(study, cells, summary, number):
    STEPS_DIFFER[number](summary)
    assert verdicts(study, cells, summary, number) == {
        WHOLE_RUN: SUPPORTED,
        STEPS_ALONE: CONTRADICTED,
    }


def test_one_summary_can_bear_out_all_claims_together(study, cells, summary):
    judged = judge(summary, {"claims": study["claims"], "cells": cells})
    assert len(judged) == 11
    assert {verdict for claim in judged.values() for verdict in claim["verdicts"].values()} == {
        SUPPORTED
    }


@pytest.mark.parametrize("half", [None, 0.05])
def test_table_2_itself_supports_the_claim_about_batches_however_well_it_is_known(
    study, cells, summary, half
):
    """With intervals as wide as those of its examples it does so among all claims."""
    known = (
        {"score_ci_low": summary["score"] - half, "score_ci_high": summary["score"] + half}
        if half
        else {}
    )
    table = summary.assign(**{"score_ci_low": None, "score_ci_high": None, **known})
    assert verdicts(study, cells, table, 11) == {WHOLE_RUN: SUPPORTED}


def test_utilisation_that_knows_nothing_of_energy_is_found_not_to_predict_it(study, cells, summary):
    given = study["claims"]["10_time_not_utilisation_predicts_energy"]["tests"][0]["correlation"]
    figure_6 = where(summary, dataset="gov_report", budget="gpu1")
    found = []
    for seed in range(40):
        summary.loc[figure_6, "mean_gpu_utilization_pct"] = utilisation(seed, 12)
        found.append(
            judge_test(ClaimTest("t", "correlation", given), Evidence(summary, cells))["verdict"]
        )
    assert found.count(SUPPORTED) >= 36 and CONTRADICTED not in found
    summary["mean_gpu_utilization_pct"] = summary["train_energy_kwh"]
    assert (
        judge_test(ClaimTest("t", "correlation", given), Evidence(summary, cells))["verdict"]
        == CONTRADICTED
    )


# Kinds of test, one at a time.


def cell(model: str = "a", seq_len: int = 64, seed: int = 1, left_out: str | None = None) -> dict:
    axes = {
        "dataset": "d",
        "model": model,
        "seq_len": seq_len,
        "budget": "b",
        "protocol": "generated",
        "seed": seed,
    }
    return {
        **axes,
        "inference": "greedy",
        "cell": f"{model}/{seq_len}/seed{seed}",
        "left_out": left_out,
    }


def evidence(*rows: dict, cells: list[dict] | None = None) -> Evidence:
    """Rows as a summary; each holds its axes (see `cell`) and what it knows."""
    base = {**dict.fromkeys(COLUMNS), "score_name": "f1", "initialisation": "checkpoint"}
    table = pd.DataFrame([{**base, **row} for row in rows])
    return Evidence(
        table, [{**row} for row in cells or [{"left_out": None, **row} for row in rows]]
    )


def judged(kind: str, given: dict, found: Evidence) -> dict:
    return judge_test(ClaimTest("t", kind, given), found)


@pytest.mark.parametrize(
    ("bounds", "estimate", "status"),
    [
        ({"above": 0}, Estimate(1, 0.5, 1.5), HOLDS),
        ({"above": 0}, Estimate(1, -0.5, 2.5), UNCLEAR),
        ({"above": 0}, Estimate(-1, -2, 0), FAILS),
        ({"at_least": 0}, Estimate(-1, -2, 0), UNCLEAR),
        ({"above": 0}, Estimate(0), FAILS),
        ({"at_least": 0}, Estimate(0), HOLDS),
        ({"at_least": -1, "at_most": 1}, Estimate(0, -0.9, 0.9), HOLDS),
        ({"at_least": -1, "at_most": 1}, Estimate(0, -2, 2), UNCLEAR),
        ({"at_least": -1, "at_most": 1}, Estimate(3, 1.1, 5), FAILS),
        ({"at_most": 0.56}, Estimate(52.27 - 51.71), HOLDS),
        ({"below": 1}, Estimate(0.5, 0.2, math.inf), UNCLEAR),
    ],
)
def test_a_number_keeps_to_its_thresholds_with_all_of_its_interval_or_not_surely(
    bounds, estimate, status
):
    assert verdict_against(bounds, estimate) == status


def scored(model: str, score: float, half: float, **more) -> dict:
    return {
        **cell(model, **more),
        "score": score,
        "score_ci_low": score - half,
        "score_ci_high": score + half,
    }


PAIR = {"column": "score", "of": {"model": "a"}, "to": {"model": "b"}, "above": 0}


def test_the_interval_of_a_difference_is_the_root_of_both_squared():
    (found,) = judged("difference", PAIR, evidence(scored("a", 20, 3), scored("b", 10, 4)))[
        "findings"
    ]
    assert (found["number"], found["interval"], found["values"]) == (10, [5, 15], [20, 10])
    assert found["cells"] == ["a", "b"]


def test_the_interval_of_a_ratio_is_that_of_logarithms_and_may_be_open():
    given = {**PAIR, "above": 1}
    (found,) = judged("ratio", given, evidence(scored("a", 20, 2), scored("b", 10, 1)))["findings"]
    below = math.hypot(math.log(20 / 18), math.log(11 / 10))
    assert found["number"] == pytest.approx(2) and found["interval"][0] == pytest.approx(
        2 * math.exp(-below)
    )
    (found,) = judged("ratio", given, evidence(scored("a", 20, 2), scored("b", 1, 1)))["findings"]
    assert found["interval"][1] is None and found["status"] == HOLDS
    (found,) = judged("ratio", given, evidence(scored("a", 20, 2), scored("b", 0, 1)))["findings"]
    assert found["number"] is None and found["status"] == UNCLEAR


def test_several_seeds_have_student_s_interval_and_one_has_none_but_for_scores():
    rows = [{**cell("a", seed=n), "train_runtime_s": 10.0 + n} for n in (1, 2, 3)]
    given = {"column": "train_runtime_s", "above": 5}
    (found,) = judged("value", given, evidence(*rows))["findings"]
    half = 4.303 / math.sqrt(3)
    assert found["number"] == 12 and found["interval"] == pytest.approx([12 - half, 12 + half])
    (alone,) = judged("value", given, evidence(rows[0]))["findings"]
    assert alone["interval"] is None and alone["status"] == HOLDS


def test_a_cell_without_one_of_its_seeds_is_not_finished():
    rows = [{**cell("a", seed=n), "train_runtime_s": 10.0} for n in (1, 2)]
    found = judged(
        "value",
        {"column": "train_runtime_s", "above": 5},
        evidence(rows[0], cells=[cell(seed=1), cell(seed=2)]),
    )
    assert found["verdict"] == UNDECIDED and found["unclear_because"] == [
        "a/64/seed2 is not finished"
    ]


def test_a_cell_that_the_study_leaves_out_is_named_with_its_reason():
    cells = [cell("a"), cell("b", left_out="does not fit")]
    found = judged("difference", PAIR, evidence(scored("a", 20, 1), cells=cells))
    assert found["unclear_because"] == ["b/64/seed1 is left out of the study (does not fit)"]


def test_pairs_differ_only_in_what_to_names():
    points = [point_of(cell(model, n)) for model in "ab" for n in (64, 128, 256)]

    def pairs(**to) -> list[str]:
        found = ClaimTest("t", "difference", {**PAIR, "to": to}).comparisons(points)
        return [f"{one.seq_len}-{other.model}{other.seq_len}" for one, other in found]

    assert pairs(model="b") == ["64-b64", "128-b128", "256-b256"]
    assert pairs(model="b", seq_len="longer") == ["64-b128", "64-b256", "128-b256"]
    assert pairs(seq_len="next") == ["64-a128", "128-a256"]
    assert pairs(seq_len="shorter") == ["128-a64", "256-a64", "256-a128"]
    assert pairs(seq_len=[64, 128]) == ["64-a128", "128-a64", "256-a64", "256-a128"]
    assert pairs(column="score_ceiling") == ["64-a64", "128-a128", "256-a256"]


def test_what_training_took_is_compared_once_however_many_inferences_there_are():
    points = [
        point_of({**cell(model), "inference": point})
        for model in "ab"
        for point in ("beams", "greedy")
    ]
    assert len(ClaimTest("t", "difference", PAIR).comparisons(points)) == 2
    assert (
        len(
            ClaimTest("t", "difference", {**PAIR, "column": "train_energy_kwh"}).comparisons(points)
        )
        == 1
    )


def mixed(model: str, inference: str, seed: int = 1, **known) -> dict:
    """A row of a study whose cells have different inference points."""
    axes = cell(model, seed=seed)
    return {**axes, "inference": inference, **known}


EXITS = [mixed("exits", point, train_runtime_s=100.0, inference_runtime_s=float(n))
         for n, point in enumerate(("early", "last"), start=1)]  # fmt: skip
STANDARD = mixed("standard", "last", train_runtime_s=900.0, inference_runtime_s=4.0)


def test_a_cell_without_the_study_s_first_inference_point_counts_too():
    test = {"column": "train_runtime_s", "below": 200}
    found = judged("value", test, evidence(*EXITS, STANDARD))
    assert found["verdict"] == CONTRADICTED
    assert [(f["cells"], f["status"]) for f in found["findings"]] == [
        (["exits"], HOLDS),
        (["standard"], FAILS),
    ]


@pytest.mark.parametrize(
    ("kind", "given", "numbers"),
    [
        ("ratio",
         {"column": "train_runtime_s", "of": {"model": "standard"}, "to": {"model": "exits"}}, [9]),
        ("difference",
         {"column": "train_runtime_s", "of": {"inference": "early"}, "to": {"model": "standard"}},
         [-800]),
        ("difference",
         {"column": "train_runtime_s", "of": {"inference": ["early", "last"]}, "to": {"value": 0}},
         [100, 900]),
        ("variation", {"column": "train_runtime_s", "across": "model"}, [800 / math.sqrt(2) / 500]),
        # A training against an inference, of the same cell and of another one: every point of the
        # inference's side.
        ("ratio", {"column": "train_runtime_s", "to": {"column": "inference_runtime_s"}},
         [100, 50, 225]),
        ("ratio", {"column": "train_runtime_s", "of": {"model": "standard"},
                   "to": {"model": "exits", "column": "inference_runtime_s"}}, [900, 450]),
        ("ratio", {"column": "train_runtime_s", "of": {"model": "standard"},
                   "to": {"model": "exits", "inference": "early", "column": "inference_runtime_s"}},
                   [900]),
        ("ratio", {"column": "train_runtime_s", "of": {"model": "exits", "inference": "last"},
                   "to": {"column": "inference_runtime_s"}}, [50]),
        # And the other way: the other cell need not have the first one's inference point.
        ("ratio", {"column": "inference_runtime_s", "of": {"model": "exits"},
                   "to": {"model": "standard", "column": "train_runtime_s"}}, [1 / 900, 2 / 900]),
        ("value", {"column": "inference_runtime_s"}, [1, 2, 4]),
    ],
)  # fmt: skip
def test_cells_with_different_inference_points_are_all_compared(kind, given, numbers):
    found = judged(kind, {**given, "above": -1e9}, evidence(*EXITS, STANDARD))
    assert [one["number"] for one in found["findings"]] == pytest.approx(numbers)
    assert found["alone"] == []


def test_a_correlation_of_trainings_takes_one_point_of_every_cell():
    points = {"a": "pq", "b": "q", "c": "r", "d": "qr"}
    rows = [
        mixed(model, point, train_runtime_s=float(n), parameters=float(n * n))
        for n, model in enumerate(points, start=1)
        for point in points[model]
    ]
    given = {"between": ["parameters", "train_runtime_s"], "above": -2}
    (found,) = judged("correlation", given, evidence(*rows))["findings"]
    assert found["number"] == 1 and len(found["cells"]) == 4


def test_seeds_that_were_inferred_at_different_points_are_all_trainings():
    rows = [
        mixed("a", point, seed, train_runtime_s=10.0 * seed)
        for seed, point in ((1, "early"), (2, "last"))
    ]
    (found,) = judged("value", {"column": "train_runtime_s", "above": 0}, evidence(*rows))[
        "findings"
    ]
    assert found["number"] == 15 and found["interval"] is not None
    lacking = judged("value", {"column": "train_runtime_s", "above": 0}, evidence(rows[0], cells=[
        {**row, "left_out": None} for row in rows]))["unclear_because"]  # fmt: skip
    assert lacking == ["a/64/seed2 is not finished"]


def test_a_training_is_known_by_any_of_its_inference_points():
    cells = [{**row, "left_out": None} for row in EXITS]
    (found,) = judged(
        "value", {"column": "train_runtime_s", "below": 200}, evidence(EXITS[1], cells=cells)
    )["findings"]
    assert found["number"] == 100, (
        "the point that is not finished says nothing more of the training"
    )


def test_selected_cells_that_the_grid_gives_no_partner_are_named():
    rows = [scored("a", 20, 1, seq_len=n) for n in (64, 128)] + [scored("b", 10, 1)]
    found = judged("difference", PAIR, evidence(*rows))
    assert (len(found["findings"]), found["alone"]) == (1, ["a/128"])
    rows = [{**scored(m, 20, 1, seq_len=n), "budget": b} for m, n, b in (
        ("a", 64, "x"), ("a", 128, "x"), ("a", 64, "y"))]  # fmt: skip
    found = judged(
        "difference", {"column": "score", "to": {"seq_len": "longer"}, "above": 0}, evidence(*rows)
    )
    assert found["alone"] == ["64/y"], "128/x is the longest"


def test_a_search_that_chose_no_model_is_not_silent():
    """Without a validation score of one training no model of the search is marked as selected."""
    rows = [{**scored("a", 20, 1), "cell": f"a-lr{n}", "selected": False} for n in (1, 2)]
    found = judged("value", {"column": "score", "above": 0}, evidence(*rows, scored("b", 10, 1)))
    assert (len(found["findings"]), found["verdict"]) == (2, UNDECIDED)
    assert found["unclear_because"] == [
        "of a-lr1, a-lr2 none is chosen: a search needs the validation score of each"
    ]


def test_a_baseline_is_exact():
    rows = [{**scored("a", 90, 4), "score_ceiling": 95.0}]
    given = {"column": "score", "to": {"column": "score_ceiling"}, "at_least": -10}
    (found,) = judged("difference", given, evidence(*rows))["findings"]
    assert (found["number"], found["interval"], found["status"]) == (-5, [-9, -1], HOLDS)


@pytest.mark.parametrize(
    ("share", "verdict"), [(1, CONTRADICTED), (0.75, UNDECIDED), (0.5, SUPPORTED), (0.3, SUPPORTED)]
)
def test_unclear_pairs_matter_only_where_they_could_decide(share, verdict):
    """Of four pairs two hold, one fails and one is unclear."""
    rows = [scored("b", 10, 1, seq_len=n) for n in (1, 2, 3, 4)]
    rows += [scored("a", value, 1, seq_len=n) for n, value in ((1, 20), (2, 20), (3, 5), (4, 10))]
    found = judged("difference", {**PAIR, "share": share}, evidence(*rows))
    assert (found[HOLDS], found[FAILS], found[UNCLEAR], found["verdict"]) == (2, 1, 1, verdict)
    assert found["unclear_because"] == [
        "the interval of a/4 against b/4 reaches across the threshold"
    ]


def line(values: list[float]) -> Evidence:
    return evidence(
        *({**cell(seq_len=n), "train_runtime_s": value} for n, value in enumerate(values, start=1))
    )


CORRELATION = {"between": ["seq_len", "train_runtime_s"], "at_least": 0.5}


def test_correlations_are_those_of_ranks_or_of_values():
    values = [1.0, 3.0, 3.0, 2.0, 50.0]
    (spearman,) = judged("correlation", CORRELATION, line(values))["findings"]
    (pearson,) = judged("correlation", {**CORRELATION, "method": "pearson"}, line(values))[
        "findings"
    ]
    assert spearman["number"] == pytest.approx(0.666885929)  # ties share the rank 3.5
    assert pearson["number"] == pytest.approx(pd.Series(values).corr(pd.Series([1, 2, 3, 4, 5])))
    for found, error in ((pearson, 1), (spearman, math.sqrt(1.06))):
        centre, half = math.atanh(found["number"]), 1.96 * error / math.sqrt(2)
        assert found["interval"] == pytest.approx(
            [math.tanh(centre - half), math.tanh(centre + half)]
        )
    assert (pearson["status"], spearman["status"]) == (UNCLEAR, UNCLEAR)


def lower_end(values: list[float], **more: str) -> float:
    (found,) = judged("correlation", {**CORRELATION, **more}, line(values))["findings"]
    low, high = found["interval"]
    assert low <= found["number"] <= high
    return low


def test_a_perfect_correlation_decides_the_less_the_fewer_its_cells():
    assert lower_end([1.0, 2.0, 3.0, 4.0]) == pytest.approx(
        math.tanh(math.atanh(0.8) - 1.96 * math.sqrt(1.06))
    )
    ends = [lower_end([float(n) for n in range(cells)]) for cells in range(4, 20)]
    assert ends == sorted(ends) and ends[0] < 0 and 0.97 < ends[8] < 0.98
    (falling,) = judged("correlation", CORRELATION, line([4.0, 3.0, 2.0, 1.0]))["findings"]
    assert falling["interval"] == [-1, pytest.approx(-ends[0])] and falling["status"] == UNCLEAR


def test_ties_and_swapped_neighbours_decide_no_more_than_perfect_ranks():
    perfect = lower_end([1.0, 2.0, 3.0, 4.0, 5.0])
    assert lower_end([1.0, 2.0, 2.0, 4.0, 5.0]) == lower_end([1.0, 3.0, 2.0, 4.0, 5.0]) == perfect
    assert lower_end([2.0, 1.0, 4.0, 3.0, 5.0]) < perfect
    assert lower_end([1.0, 2.0, 3.0, 4.0], method="pearson") > 0.99


def test_a_correlation_with_what_is_constant_has_no_number():
    (found,) = judged("correlation", CORRELATION, line([2.0, 2.0, 2.0, 2.0]))["findings"]
    assert found["number"] is None and found["status"] == UNCLEAR


def test_scores_of_random_weights_decide_nothing_unless_the_claim_is_about_them():
    rows = [{**scored("a", 20, 1), "initialisation": "random"}, scored("b", 10, 1)]
    found = judged("difference", PAIR, evidence(*rows))
    (finding,) = found["findings"]
    assert (finding["number"], finding["status"], found["verdict"]) == (10, UNCLEAR, UNDECIDED)
    assert found["unclear_because"] == [
        "a against b: random weights, whose scores say nothing of the model"
    ]
    speeds = evidence(*({**row, "train_samples_per_second": 9.0} for row in rows))
    assert (
        judged("value", {"column": "train_samples_per_second", "above": 5}, speeds)["verdict"]
        == SUPPORTED
    )
    claim = {"statement": "s", "random_weights": True, "tests": [{"difference": PAIR}]}
    (about_them,) = list_tests("c", claim)
    assert judge_test(about_them, evidence(*rows))["verdict"] == SUPPORTED


def test_variation_is_by_the_mean_across_one_axis():
    rows = [
        {**cell(model, n), "train_runtime_s": value * n}
        for n in (1, 5)
        for model, value in (("a", 9), ("b", 11))
    ]
    found = judged(
        "variation",
        {"column": "train_runtime_s", "across": "model", "at_most": 0.15},
        evidence(*rows),
    )
    assert [one["number"] for one in found["findings"]] == pytest.approx([math.sqrt(2) / 10] * 2)
    assert found["verdict"] == SUPPORTED


def test_estimates_random_weights_and_mixed_attention_are_noted_where_they_show():
    rows = [
        {**scored("a", 20, 1, seq_len=n), "attention_regime": regime, "initialisation": "random",
         "train_energy_source": "estimate", "train_energy_kwh": float(n),
         "train_steps_energy_kwh": float(n)}
        for n, regime in ((64, "full attention"), (128, "block-sparse attention"))
    ]  # fmt: skip
    rows[1]["train_energy_flags"] = "short"

    def notes(column: str, to: dict) -> list[str]:
        (found,) = judged("difference", {"column": column, "to": to, "above": 0}, evidence(*rows))[
            "findings"
        ][:1]
        return found["notes"]

    assert notes("train_energy_kwh", {"seq_len": "next"}) == [
        "estimated energy",
        "energy flagged: short",
        "two attention regimes, so two models",
    ]
    assert notes("score", {"value": 0}) == ["random weights"]
    assert notes("seq_len", {"value": 0}) == []


def test_the_energy_of_steps_takes_their_time_with_it():
    test = ClaimTest(
        "t", "correlation", {"between": ["train_runtime_s", "train_energy_kwh"], "at_least": 0}
    )
    assert test.of_steps_alone().columns == ("train_steps_s", "train_steps_energy_kwh")
    assert (
        ClaimTest("t", "value", {"column": "train_runtime_s", "above": 0}).of_steps_alone() is None
    )


def test_a_claim_says_what_it_compared_in_the_order_of_its_tests(study):
    found = list_tests("09", study["claims"]["09_qasper_gains_by_length"])
    assert [test.where for test in found][-1] == "claims.09.tests[4].difference"
    assert found[-1].reason.startswith('"About 10"')


def test_the_demo_s_claims_are_judged_by_what_its_picture_shows():
    """Scores, times and the width of intervals as docs/images/demo.png draws them."""
    study = normalise(read_yaml(ROOT / "studies/demo.yaml"))
    cells = [
        {**vars(c), "cell": n, "inference": "greedy", "left_out": None}
        for n, c in expand(study).items()
    ]
    check_claims(study, cells, "studies/demo.yaml")
    drawn = {
        ("needle", "led_tiny"): ((5.5, 14.3), (41.25, 17.2), (100.0, 33.3)),
        ("needle", "bigbird_tiny"): ((21.0, 7.7), (45.0, 16.7), (96.5, 46.5)),
        ("aclsum", "led_tiny"): ((8.35, 5.6), (8.35, 7.6), (8.35, 12.1)),
        ("aclsum", "bigbird_tiny"): ((6.36, 6.0), (6.36, 9.4), (6.36, 16.8)),
    }
    baselines = {"needle": {"score_ceiling": 100.0}, "aclsum": {"score_lead": 12.7}}
    rows = []
    for one in cells:
        lengths = (64, 128, 256) if one["dataset"] == "needle" else (128, 256, 512)
        score, seconds = drawn[one["dataset"], one["model"]][lengths.index(one["seq_len"])]
        half = 7 if 40 < score < 50 else 1.1
        known = {"score": score, "score_ci_low": score - half, "score_ci_high": score + half}
        rows.append({**dict.fromkeys(COLUMNS), **one, **known, **baselines[one["dataset"]],
                     "score_name": "x",
                     "train_samples_per_second": 1 / seconds,
                     "initialisation": "random"})  # fmt: skip
    found = judge(pd.DataFrame(rows), {"claims": study["claims"], "cells": cells})
    whole = {name: claim["verdicts"][WHOLE_RUN] for name, claim in found.items()}
    assert whole.pop("length_costs_energy") == UNDECIDED
    assert set(whole.values()) == {SUPPORTED}


def test_the_two_paths_of_attention_are_judged_cell_by_cell():
    """The shipped study, with made-up results in which the fast path takes half of everything."""
    schema = ROOT / "workflow/schemas/study.schema.json"
    stages = Stages("attention", read_study(ROOT / "studies/attention.yaml", schema), {})
    chosen = stages.judge_claims().settings

    def made(one: dict, seed: int) -> dict:
        share = 0.5 if one["attention"] == "fast" else 1.0
        costs = ("train_energy_kwh", "train_runtime_s", "peak_memory_gib", "joules_per_example")
        measured = {name: share * (10 + 0.1 * seed) for name in costs}
        score = {"score": 20 + 0.1 * seed, "score_name": "rouge", "initialisation": "checkpoint"}
        ends = {"score_ci_low": 19.5, "score_ci_high": 20.5}
        return {**dict.fromkeys(COLUMNS), **one, **measured, **score, **ends}

    table = pd.DataFrame([made(one, one["seed"]) for one in chosen["cells"]])
    found = judge(table.reindex(columns=list(COLUMNS)), chosen)
    assert {name: claim["verdicts"]["whole run"] for name, claim in found.items()} == {
        "same_accuracy": SUPPORTED,
        "training_takes_less_energy": SUPPORTED,
        "inference_takes_less_energy": SUPPORTED,
    }
    (test, *_) = found["training_takes_less_energy"]["tests"]
    findings = test["judged"]["whole run"]["findings"]
    assert [one["number"] for one in findings] == pytest.approx([0.5] * 4)
    assert ["led_fast/2048", "led_stock/2048"] in [one["cells"] for one in findings]
    said = words_of_test("ratio", test["given"])
    assert said.startswith("train_energy_kwh of attention fast, divided by that of the same cell")
