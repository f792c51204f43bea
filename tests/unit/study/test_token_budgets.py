"""Budgets of tokens in place of examples."""

import copy

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.plan.cell_cores import work_of
from longwatt.plan.runtimes import RuntimeModel
from longwatt.study.cells import batch_settings, expand, step_batch
from longwatt.study.checks import checked_stages
from longwatt.study.settings import finetune_settings, probe_key
from tests.conftest import TINY_STUDY

EXAMPLES, TOKENS = "per_device_batch_size: 4}", "max_tokens_per_batch: 64}"


def read(folder, schema, text: str):
    path = folder / "tiny.yaml"
    path.write_text(text)
    return read_study(path, schema)


@pytest.fixture
def study(tmp_path, study_schema) -> dict:
    return read(tmp_path, study_schema, TINY_STUDY.replace(EXAMPLES, TOKENS))


def test_settings_have_the_tokens_only_where_they_are_asked_for(study, tmp_path, study_schema):
    cell = next(iter(expand(study).values()))
    chosen = finetune_settings(study, cell)
    wanted = {"per_device_batch_size": None, "effective_batch_size": None}
    assert batch_settings(study, cell) == {**wanted, "max_tokens_per_batch": 64}
    assert chosen["budget"]["max_tokens_per_batch"] == 64 and probe_key(cell, chosen) is None
    other = finetune_settings(read(tmp_path, study_schema, TINY_STUDY), cell)
    assert "max_tokens_per_batch" not in other["budget"]


def test_they_may_be_a_table(study):
    study = copy.deepcopy(study)
    short, long = expand(study).values()
    study["budgets"]["cpu"]["max_tokens_per_batch"] = {"led": {"32": 40, "64": 80}}
    found = [batch_settings(study, cell)["max_tokens_per_batch"] for cell in (short, long)]
    assert found == [40, 80]
    del study["budgets"]["cpu"]["max_tokens_per_batch"]["led"]["64"]
    with pytest.raises(StudyError, match=r"budgets.cpu.max_tokens_per_batch has no entry '64'"):
        batch_settings(study, long)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("precision: fp32}", r"budgets.cpu has no batch size; give per_device_batch_size .* or "),
        (
            "per_device_batch_size: 4, max_tokens_per_batch: 64}",
            "budgets.cpu has per_device_batch_size and max_tokens_per_batch; .* one of the two",
        ),
        (
            "max_tokens_per_batch: 64, effective_batch_size: 8}",
            "budgets.cpu: with max_tokens_per_batch a step has no fixed number of examples",
        ),
        (
            "max_tokens_per_batch: 63}",
            r"budgets.cpu.max_tokens_per_batch is 63, but one example of the cell "
            r"needle/led/64/cpu/generated/seed1 may have 64 tokens \(seq_len\); raise it",
        ),
        ("max_tokens_per_batch: largest}", "max_tokens_per_batch"),
        ("max_tokens_per_batch: 0}", "max_tokens_per_batch"),
    ],
)
def test_what_contradicts_itself_or_is_too_small_is_refused(tmp_path, study_schema, budget, said):
    with pytest.raises(StudyError, match=said):
        checked_stages(
            "tiny", read(tmp_path, study_schema, TINY_STUDY.replace(EXAMPLES, budget)), {}
        )


def test_a_budget_that_holds_one_example_is_enough(study):
    assert len(checked_stages("tiny", study, {}).cells) == 2


def test_a_step_of_a_mean_number_of_examples_can_be_told():
    budget = {"gpus": 2, "max_tokens_per_batch": 1000, "gradient_accumulation_steps": 3}
    assert step_batch(2, {**budget, "effective_batch_size": None}).effective == 12


def test_cores_are_shared_by_the_tokens_of_a_batch(study, tmp_path):
    stages = checked_stages("tiny", study, {})
    shapes = RuntimeModel(stages.study, stages.cells, {}, {}, tmp_path).shapes
    short, long = (stages.finetune(name).settings for name in stages.cells)
    sizes = [work_of(chosen, shapes["led"]).size for chosen in (short, long)]
    assert sizes[0] == sizes[1] == 64 * 16**2
