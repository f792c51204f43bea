"""Layers merge; each stage gets only what it uses."""

import pytest

from longwatt.config.documents import merge
from longwatt.config.studies import read_study
from longwatt.study import settings
from longwatt.study.cells import Cell

CELL = Cell("needle", "led", 64, "cpu", "generated", 1)


@pytest.fixture
def study(tmp_path, tiny_study_text, study_schema):
    (tmp_path / "s.yaml").write_text(tiny_study_text)
    return read_study(tmp_path / "s.yaml", study_schema)


def test_defaults_are_those_of_the_published_study(study):
    training = settings.finetune_settings(merge(study, {"training": {"max_steps": None}}), CELL)[
        "training"
    ]
    assert (training["adam_beta1"], training["adam_beta2"], training["adam_epsilon"]) == (
        0.9,
        0.98,
        1e-6,
    )
    assert (training["weight_decay"], training["warmup_ratio"], training["max_epochs"]) == (
        0.001,
        0.1,
        50,
    )
    assert training["validation"]["patience"] == 3


def test_later_layers_win(study):
    def rate():
        return settings.finetune_settings(study, CELL)["training"]["learning_rate"]

    for rank, layer in enumerate(
        (study, study["datasets"]["needle"], study["budgets"]["cpu"], study["models"]["led"])
    ):
        layer.setdefault("training", {})["learning_rate"] = (rank + 1) / 10
        assert rate() == (rank + 1) / 10


def test_inference_points_merge_too(study):
    study["models"]["led"]["inference"] = {"batch_size": 2}
    study["inference"]["greedy"]["generation"] = {"num_beams": 4}
    study["datasets"]["needle"]["generation"] = {"max_new_tokens": 5}
    chosen = settings.predict_settings(study, CELL, "greedy")
    assert chosen["inference"] == {
        "batch_size": 2,
        "max_examples": None,
        "split": "validation",
        "warmup_batches": 1,
    }
    assert (chosen["generation"]["num_beams"], chosen["generation"]["max_new_tokens"]) == (4, 5)


def test_generation_is_as_long_as_the_targets_unless_told(study):
    assert settings.finetune_settings(study, CELL)["generation"]["max_new_tokens"] == 8


def test_a_stage_sees_only_its_own_settings(study):
    before = settings.finetune_settings(study, CELL)
    scored = settings.score_settings(study, CELL, "greedy")
    study["scoring"] = {"bootstrap_resamples": 500}
    study["title"] = "Another"
    study["inference"]["greedy"]["batch_size"] = 1
    study["models"]["led"]["title"] = "LED"
    assert settings.finetune_settings(study, CELL) == before
    assert settings.score_settings(study, CELL, "greedy") != scored


def test_shared_folders_are_named_by_what_made_them(study):
    before = settings.tokens_key(study, CELL)
    study["datasets"]["needle"]["options"]["train"] = 65
    assert settings.tokens_key(study, CELL) != before
    assert settings.tokens_key(study, CELL).startswith("needle-")
    assert settings.model_key(study, "led") is None
