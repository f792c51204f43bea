"""Claims that cannot be judged are refused by name before anything runs."""

import time

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.study.checks import checked_stages
from longwatt.study.claims import check_claims, point_of
from longwatt.study.outputs import claim_files, kept
from longwatt.study.stages import Stages
from longwatt.study.summary_columns import (
    COLUMNS,
    EXACT,
    NO_NUMBERS,
    NUMBER_COLUMNS,
    energy_source,
    varies_with_inference,
)

CLAIM = """
claims:
  rises:
    statement: It rises.
    tests:
      - difference: {column: score, of: {seq_len: 64}, to: {seq_len: shorter}, above: 0}
"""
TEST = "difference: {column: score, of: {seq_len: 64}, to: {seq_len: shorter}, above: 0}"


def stages(tmp_path, text: str, schema) -> Stages:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return checked_stages("tiny", read_study(path, schema), {})


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("ratio: {column: scor, to: {seq_len: next}, above: 0}",
         "unknown column 'scor' (did you mean 'score'?)"),
        ("value: {column: device, above: 0}",
         "value: the column 'device' holds no numbers; columns that do: seq_len"),
        ("difference: {column: score, to: {column: scoreceiling}, above: 0}",
         "did you mean 'score_ceiling'?"),
        ("correlation: {between: [seq_len, sped], above: 0}", "correlation: unknown column 'sped'"),
        ("value: {column: score, of: {model: ledd}, above: 0}",
         "of.model: unknown model 'ledd' (did you mean 'led'?)"),
        ("value: {column: score, of: {dataset: needel}, above: 0}",
         "of.dataset: unknown dataset 'needel'"),
        ("value: {column: score, of: {budget: [cpu, gpu]}, above: 0}",
         "of.budget: unknown budget 'gpu'"),
        ("value: {column: score, of: {seq_len: 65}, above: 0}",
         "unknown seq_len '65' (did you mean '64'?)"),
        ("value: {column: score, of: {inference: beam}, above: 0}",
         "of.inference: unknown inference 'beam'"),
        ("value: {column: score, of: {protocol: teacher_forced}, above: 0}",
         "unknown protocol 'teacher_forced'"),
        ("ratio: {column: score, to: {model: lde}, above: 0}",
         "to.model: unknown model 'lde' (did you mean 'led'?)"),
        ("variation: {column: score, cells: {model: le}, across: model, at_most: 1}",
         "cells.model: unknown"),
        ("ratio: {column: score, of: {seq_len: 64}, to: {seq_len: next}, above: 0}",
         "no two cells that can be"),
        ("ratio: {column: score, to: {model: led}, above: 0}",
         "no two cells that can be compared with model led"),
        ("variation: {column: score, across: model, at_most: 1}",
         "the grid has no cells that this test could compare"),
        ("value: {column: score, of: {model: other}, above: 0}",
         "the grid has no cell with model other as this test"),
        ("correlation: {between: [seq_len, score], above: 0}",
         "a correlation needs 4 cells or more"),
        ("value: {column: score, at_least: 5, at_most: 1}",
         "no number is at least 5 and at most 1"),
        ("value: {column: score, above: 1, at_most: 1}", "no number is above 1 and at most 1"),
        ("value: {column: score}", "no threshold is given; add at_least, above, at_most, below"),
        ("reason: none",
         "a test is one of difference, equivalent, ratio, value, correlation and variation; this "
         "one has none"),
        ("equivalent: {column: score, of: {seq_len: 64}, to: {seq_len: shorter}}", "within"),
        ("equivalent: {column: score, to: {seq_len: shorter}, within: 0}", "within"),
        ("equivalent: {column: score, to: {seq_len: shorter}, within: 1, above: 0}", "above"),
        ("equivalent: {column: device, to: {seq_len: shorter}, within: 1}", "holds no numbers"),
        ("equivalent: {column: score, to: {model: lde}, within: 1}", "did you mean 'led'?"),
        ("equivalent: {column: score, of: {seq_len: 64}, to: {seq_len: next}, within: 1}",
         "no two cells that can be compared"),
        ("{value: {column: score, above: 0}, ratio: {column: score, to: {value: 1}, above: 0}}",
         "has ratio, value"),
        ("value: {column: score, above: 0, of: {seed: 1}}", "unknown key 'seed'"),
        ("value: {colum: score, above: 0}", "unknown key 'colum' (did you mean 'column'?)"),
        ("vaule: {column: score, above: 0}",
         "claims.rises.tests.0: unknown key 'vaule' (did you mean 'value'?)"),
        ("value: {column: score, above: much}", "above: expected a number, but found 'much'"),
        ("value: {column: score, above: 0, share: 1.5}",
         "share: 1.5 is greater than the maximum of 1"),
        ("ratio: {column: score, to: {seq_len: longest}, above: 0}", "longest"),
        ("ratio: {column: score, to: {value: 1, model: led}, above: 0}",
         "claims.rises.tests.0.ratio.to"),
    ],
)  # fmt: skip
def test_a_test_that_cannot_be_judged_is_refused_by_name(
    tmp_path, tiny_study_text, study_schema, test, said
):
    model = tiny_study_text[tiny_study_text.index("  led:") : tiny_study_text.index("budgets:")]
    text = tiny_study_text.replace("budgets:", model.replace("led:", "other:", 1) + "budgets:", 1)
    with pytest.raises(StudyError) as refused:
        stages(tmp_path, text + CLAIM.replace(TEST, test), study_schema)
    assert said in str(refused.value) and "tiny.yaml: claims.rises.tests" in str(refused.value)


def of_two_metrics(test: dict) -> None:
    """Check a test over four lengths of two datasets, of which one is scored in F1."""
    axes = {"model": "m", "budget": "b", "protocol": "generated", "inference": "greedy"}
    cells = [
        {**axes, "dataset": d, "seq_len": n} for d in ("asked", "summed") for n in (8, 16, 24, 32)
    ]
    datasets = {"asked": {"metric": "f1"}, "summed": {"metric": "rouge"}}
    study = {
        "datasets": datasets,
        "models": {"m": {}},
        "budgets": {"b": {}},
        "inference": {"greedy": {}},
    }
    check_claims({**study, "claims": {"c": {"statement": "x", "tests": [test]}}}, cells, "study")


@pytest.mark.parametrize(
    "test",
    [
        {"correlation": {"between": ["seq_len", "score"], "above": 0}},
        {"variation": {"column": "score", "across": "dataset", "at_most": 1}},
        {
            "difference": {
                "column": "score",
                "of": {"dataset": "asked"},
                "to": {"dataset": "summed"},
                "above": 0,
            }
        },
        {"ratio": {"column": "score_lead", "to": {"dataset": "summed"}, "above": 0}},
    ],
)
def test_scores_of_several_metrics_are_not_put_into_one_number(test):
    with pytest.raises(StudyError, match=r"several metrics .*\(asked in f1, summed in rouge\)"):
        of_two_metrics(test)


@pytest.mark.parametrize(
    "test",
    [
        {"correlation": {"between": ["seq_len", "score"], "within": ["dataset"], "above": 0}},
        {
            "correlation": {
                "between": ["seq_len", "score"],
                "cells": {"dataset": "asked"},
                "above": 0,
            }
        },
        {"correlation": {"between": ["seq_len", "f1"], "above": 0}},
        {"correlation": {"between": ["seq_len", "train_energy_kwh"], "above": 0}},
        {"difference": {"column": "score", "to": {"seq_len": "next"}, "above": 0}},
        {"value": {"column": "score", "at_least": 1, "at_most": 1}},
    ],
)
def test_scores_of_one_metric_are(test):
    of_two_metrics(test)


def test_the_test_is_named_by_its_place(tmp_path, tiny_study_text, study_schema):
    wrong = CLAIM + "      - value: {column: x, above: 0}\n"
    with pytest.raises(
        StudyError, match=r"tiny\.yaml: claims\.rises\.tests\[1\]\.value: unknown column 'x'"
    ):
        stages(tmp_path, tiny_study_text + wrong, study_schema)


def test_what_is_judged_are_the_claims_over_all_that_the_grid_means(
    tmp_path, tiny_study_text, study_schema
):
    made = stages(tmp_path, tiny_study_text + CLAIM, study_schema)
    chosen = made.judge_claims().settings
    assert list(chosen["claims"]) == ["rises"] and [
        cell["seq_len"] for cell in chosen["cells"]
    ] == [32, 64]
    assert set(claim_files(made)) < set(kept(made)) and made.judge_claims() in list(made.all())


def test_cells_that_a_study_excludes_may_still_be_claimed_of(
    tmp_path, tiny_study_text, study_schema
):
    without = "exclude:\n  - {seq_len: 64, reason: no time}\n"
    made = stages(tmp_path, tiny_study_text + without + CLAIM, study_schema)
    assert [cell["left_out"] for cell in made.judge_claims().settings["cells"]] == [None, "no time"]


@pytest.mark.parametrize(
    "text", ["", "claims: {}\n", CLAIM.split("    statement")[0].rstrip() + " null\n"]
)
def test_a_study_without_claims_has_no_such_job(tmp_path, tiny_study_text, study_schema, text):
    made = stages(tmp_path, tiny_study_text + text, study_schema)
    assert claim_files(made) == [] and "judge_claims" not in {stage.rule for stage in made.all()}
    assert not any("claims" in path for path in kept(made))


def test_every_column_is_a_number_or_known_not_to_be_one():
    assert set(NO_NUMBERS) < set(COLUMNS) and set(EXACT) < set(NUMBER_COLUMNS)
    assert set(NUMBER_COLUMNS) | set(NO_NUMBERS) == set(COLUMNS)


@pytest.mark.parametrize(
    ("column", "source", "varies"),
    [
        ("train_steps_power_efficiency", "train_energy_source", False),
        ("validation_energy_kwh", "train_energy_source", False),
        ("joules_per_example", "inference_energy_source", True),
        ("score_ceiling", None, True),
        ("train_runtime_s", None, False),
    ],
)
def test_a_column_knows_where_its_energy_is_from_and_what_it_varies_with(column, source, varies):
    assert (energy_source(column), varies_with_inference(column)) == (source, varies)


def test_claims_about_thousands_of_cells_are_checked_in_a_moment():
    axes = {"dataset": "d", "budget": "b", "protocol": "generated", "inference": "greedy"}
    cells = [{**axes, "model": f"m{m}", "seq_len": 8 * n} for m in range(50) for n in range(1, 41)]
    test = {"difference": {"column": "score", "to": {"seq_len": "next"}, "above": 0}}
    study = {
        "datasets": {"d": {"metric": "f1"}},
        "claims": {"c": {"statement": "x", "tests": [test] * 5}},
    }
    began = time.process_time()
    check_claims(study, cells, "study")
    assert time.process_time() - began < 3
    assert len({point_of(cell) for cell in cells}) == 2000


def test_a_selector_may_name_inference_points_that_count_as_one_training():
    axes = {"dataset": "d", "budget": "b", "protocol": "generated", "seq_len": 8}
    cells = [{**axes, "model": "m", "inference": point} for point in ("early", "last")]
    cells += [{**axes, "model": "n", "inference": "last"}]
    study = {
        "datasets": {"d": {"metric": "f1"}},
        "models": {"m": {}, "n": {}},
        "inference": {"early": {}, "last": {}},
    }

    def check(test: dict) -> None:
        check_claims(
            {**study, "claims": {"c": {"statement": "x", "tests": [test]}}}, cells, "study"
        )

    both = {"inference": ["early", "last"]}
    check({"value": {"column": "train_runtime_s", "of": both, "below": 1}})
    check(
        {
            "difference": {
                "column": "train_runtime_s",
                "of": {**both, "model": "m"},
                "to": {"model": "n"},
                "below": 1,
            }
        }
    )
    check(
        {
            "difference": {
                "column": "train_runtime_s",
                "of": {"model": "n"},
                "to": {"model": "m", **both},
                "below": 1,
            }
        }
    )
    with pytest.raises(StudyError, match="no two cells that can be compared"):
        check(
            {"difference": {"column": "train_runtime_s", "to": {"inference": "last"}, "below": 1}}
        )
