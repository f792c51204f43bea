"""Only the bound that rules a training shows, and only the one that ended it."""

import pytest

from longwatt.config.documents import merge
from longwatt.jobs import endings
from longwatt.study.cells import expand
from longwatt.study.settings import execution_settings, finetune_settings
from longwatt.study.settings_in_force import in_force


def shown(study: dict, **training) -> dict:
    changed = merge(study, {"training": training})
    cell = next(iter(expand(changed).values()))
    chosen = finetune_settings(changed, cell)
    block = {**chosen["training"], **execution_settings(changed, cell)}
    return in_force({**chosen, "training": block}, {}, {})


def test_of_steps_and_epochs_the_one_that_rules_is_in_force(study):
    steps = shown(study, max_steps=8, max_epochs=3)
    assert steps["training.max_steps"] == 8 and "training.max_epochs" not in steps
    epochs = shown(study, max_steps=None, max_epochs=3)
    assert epochs["training.max_epochs"] == 3 and "training.max_steps" not in epochs


def test_no_other_setting_is_in_force_that_another_overrules(study):
    constant = shown(study, lr_scheduler="constant")
    assert "training.warmup_ratio" not in constant and "generation.length_penalty" not in constant
    assert shown(study)["training.warmup_ratio"] == 0.1
    beams = shown(merge(study, {"generation": {"num_beams": 2}}))
    assert beams["generation.length_penalty"] == 1.0 and beams["generation.early_stopping"] is False


def test_how_a_training_is_carried_out_is_in_force_too(study):
    assert shown(study, log_every_steps=7)["training.log_every_steps"] == 7


STEPS, EPOCHS = {"max_steps": 8, "max_epochs": None}, {"max_steps": None, "max_epochs": 3}
ENDED = [
    (None, False, STEPS, "max_steps"),
    (None, False, EPOCHS, "max_epochs"),
    (None, True, EPOCHS, "early_stopping"),
    (5, False, STEPS, "divergence"),
]


@pytest.mark.parametrize(("diverged_step", "stopped_early", "training", "expected"), ENDED)
def test_one_word_says_what_ended_a_training(diverged_step, stopped_early, training, expected):
    assert endings.ended_by(diverged_step, stopped_early, training) == expected
    said = endings.ending_words(
        {"ended_by": expected, "diverged_step": diverged_step or float("nan")}
    )
    assert said == {"divergence": "divergence at step 5"}.get(expected, expected.replace("_", " "))


def test_a_summary_of_old_says_nothing():
    assert endings.ending_words({}) == endings.ending_words({"ended_by": float("nan")}) == ""
    assert not endings.diverged({"ended_by": float("nan")})
