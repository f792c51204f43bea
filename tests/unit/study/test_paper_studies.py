"""The studies of arXiv 2204.07288 against the numbers printed there, cell by cell."""

from __future__ import annotations

import pytest

from longwatt.config.documents import read_yaml
from longwatt.config.studies import read_study
from longwatt.freshness.source_checks import tokenizer_files
from longwatt.study import settings
from longwatt.study.cells import LARGEST, Cell, expand, step_batch
from longwatt.study.checks import checked_stages
from longwatt.study.claims import list_tests
from tests.conftest import ROOT

LENGTHS = (1024, 2048, 3072, 4096)
SUMMARISATION = ("gov_report", "summ_screen_fd", "qmsum")
MODELS = ("led_base", "led_large", "bigbird_large")
# Table 5: total batch sizes; summarisation on one GPU, Qasper on eight with four accumulation
# steps.
TABLE_5 = {
    "summarisation": {
        "led_base": (24, 12, 8, 6),
        "led_large": (8, 4, 3, 2),
        "bigbird_large": (7, 4, 2, 2),
    },
    "qa": {
        "led_base": (704, 352, 224, 160),
        "led_large": (256, 128, 64, 64),
        "bigbird_large": (224, 96, 64, 32),
    },
}
# Table 2, LED-base: budget -> batch sizes, and by dataset the accuracies.
TABLE_2_BATCHES = {"gpu1": (24, 12, 8, 6), "gpu1x4": (96, 48, 32, 24)}
TABLE_2_BATCHES["gpu8x4"] = (704, 352, 224, 160)
TABLE_2 = {
    ("qasper", "gpu1"): (17.68, 22.74, 29.57, 32.88),
    ("qasper", "gpu1x4"): (21.39, 27.87, 33.75, 34.20),
    ("qasper", "gpu8x4"): (25.30, 29.97, 33.94, 36.36),
    ("gov_report", "gpu1"): (49.53, 51.15, 51.67, 51.71),
    ("gov_report", "gpu1x4"): (49.53, 51.28, 52.09, 52.27),
    ("gov_report", "gpu8x4"): (48.78, 50.18, 50.60, 50.95),
}
BUDGETS = {"gpu1": (1, 1), "gpu1x4": (1, 4), "gpu8x4": (8, 4)}  # GPUs, accumulation steps
# Table 4 and the public code.
TABLE_4 = {
    "learning_rate": 2e-5, "adam_beta1": 0.9, "adam_beta2": 0.98, "adam_epsilon": 1e-6,
    "weight_decay": 0.001, "lr_scheduler": "linear", "warmup_ratio": 0.1, "max_grad_norm": 1,
    "max_epochs": 50, "max_steps": None, "group_by_length": True, "activation_checkpointing": False,
}  # fmt: skip
STUDIES = ("paper", "paper_as_published", "paper_cost")


def published_batches() -> dict[tuple[str, str, int, str], int]:
    """Every published cell's total batch size, by dataset, model, length and budget."""
    cells = {}
    for column, length in enumerate(LENGTHS):
        for model in MODELS:
            cells |= {
                (d, model, length, "gpu1"): TABLE_5["summarisation"][model][column]
                for d in SUMMARISATION
            }
            cells["qasper", model, length, "gpu8x4"] = TABLE_5["qa"][model][column]
        for dataset in ("qasper", "gov_report"):
            for budget, batches in TABLE_2_BATCHES.items():
                cells[dataset, "led_base", length, budget] = batches[column]
    return cells


def read(name: str) -> dict:
    return read_study(
        ROOT / "studies" / f"{name}.yaml", ROOT / "workflow/schemas/study.schema.json"
    )


@pytest.fixture(scope="module", params=STUDIES)
def study(request) -> dict:
    return {"name": request.param, **read(request.param)}


def place(cell: Cell) -> tuple[str, str, int, str]:
    return cell.dataset, cell.model, cell.seq_len, cell.budget


def test_the_cells_are_the_64_published_ones_in_one_protocol(study):
    cells = expand(study)
    protocol = "teacher_forced" if study["name"] == "paper_as_published" else "generated"
    assert len(cells) == 64 and {place(cell) for cell in cells.values()} == set(published_batches())
    assert {(cell.protocol, cell.seed) for cell in cells.values()} == {(protocol, 42)}


def test_every_step_holds_as_many_examples_as_published(study):
    wanted = published_batches()
    for cell in expand(study).values():
        budget = settings.finetune_settings(study, cell)["budget"]
        gpus, accumulation = BUDGETS[cell.budget]
        assert budget["gpus"] == gpus and budget["precision"] == "fp32"
        assert budget["memory_gib_per_gpu"] == 48
        if study["name"] == "paper_as_published":
            step = step_batch(budget["per_device_batch_size"], budget)
            assert step.accumulation == accumulation
        else:
            assert budget["per_device_batch_size"] == LARGEST
            step = step_batch(5, budget)  # whatever fits
        assert step.effective == wanted[place(cell)], cell.name


def test_hyper_parameters_are_those_of_table_4_and_the_public_code(study):
    for cell in expand(study).values():
        training = settings.finetune_settings(study, cell)["training"]
        steps = {"max_steps": 200, "max_epochs": None} if study["name"] == "paper_cost" else {}
        assert {key: training[key] for key in TABLE_4} == {**TABLE_4, **steps}
        every = 100 if steps else 10 if cell.dataset == "qasper" else 500
        validation = training["validation"]
        wanted = (every, 3, "validation")
        assert (validation["every_steps"], validation["patience"], validation["split"]) == wanted
        point = settings.predict_settings(study, cell, "greedy")["inference"]
        assert (point["batch_size"], point["split"]) == (16, "validation")
        metric = "f1" if cell.dataset == "qasper" else "rouge"
        assert settings.score_settings(study, cell, "greedy")["metric"] == metric


def test_only_the_study_as_published_scores_and_pads_as_published(study):
    as_published = study["name"] == "paper_as_published"
    sound = {"text": "raw", "references": "best", "max_reference_tokens": None}
    quirks = {"text": "normalized", "references": "each", "max_reference_tokens": 128}
    targets = {"gov_report": 1024, "summ_screen_fd": 512, "qmsum": 512, "qasper": 256}
    for cell in expand(study).values():
        chosen = settings.finetune_settings(study, cell)
        predicting, scoring = (
            f(study, cell, "greedy") for f in (settings.predict_settings, settings.score_settings)
        )
        comparison = quirks if as_published else sound
        assert chosen["comparison"] == comparison == {key: scoring[key] for key in comparison}
        assert predicting["references"] == comparison["references"]
        assert (
            predicting["padding"]
            == chosen["training"]["padding"]
            == ("max_length" if as_published else "longest")
        )
        stated = 128 if as_published else targets[cell.dataset]
        assert predicting["max_target_tokens"] == chosen["training"]["max_target_tokens"] == stated


def test_published_values_are_those_printed(study):
    published = study["published"]
    scores = {
        (e["dataset"], e["budget"]): tuple(e["scores"][str(n)] for n in LENGTHS)
        for e in published["scores"]
    }
    if study["name"] == "paper_cost":  # random weights have no scores to set beside them
        assert published["scores"] == []
    else:
        assert scores == TABLE_2 and {entry["model"] for entry in published["scores"]} == {
            "led_base"
        }
    batches = {}
    for entry in published["batch_sizes"]:
        for dataset in entry["datasets"]:
            for length, batch in entry["effective"].items():
                batches[dataset, entry["model"], int(length), entry["budget"]] = batch
    assert batches == published_batches()
    facts = {
        name: (sum(e["rows"].values()), e["words_in"], e["words_out"])
        for name, e in published["datasets"].items()
    }
    assert facts == {
        "gov_report": (19402, 7897, 492.7),
        "summ_screen_fd": (4348, 5639, 100.0),
        "qmsum": (1810, 10396, 69.7),
        "qasper": (5692, 3671, 11.5),
    }
    assert {name: tuple(e["rows"][split] for split in ("train", "validation", "test"))
            for name, e in published["datasets"].items()} == {
        "gov_report": (17457, 972, 973),
        "summ_screen_fd": (3673, 338, 337),
        "qmsum": (1257, 272, 281),
        "qasper": (2567, 1726, 1399),
    }  # fmt: skip


def test_revisions_are_pinned_in_one_place_and_downloads_and_tokens_are_shared():
    sound, as_published, cost = (read(name) for name in STUDIES)
    for name in STUDIES[1:]:
        assert "revision" not in (ROOT / "studies" / f"{name}.yaml").read_text(), name
        assert read_yaml(ROOT / "studies" / f"{name}.yaml")["extends"] == "paper"
    for one, other in zip(expand(sound).values(), expand(as_published).values(), strict=True):
        assert settings.tokens_key(sound, one) == settings.tokens_key(as_published, other)
        assert settings.model_key(sound, one.model) == settings.model_key(as_published, other.model)
        assert settings.dataset_key(sound, one.dataset) == settings.dataset_key(cost, one.dataset)


def test_random_weights_need_no_model_hub_and_say_so():
    stages = checked_stages("paper_cost", read("paper_cost"), {})
    assert stages.models == {} and {
        row["initialisation"] for row in stages.summarize().settings["rows"]
    } == {"random"}
    assert not any(tokenizer_files(stages, key) for key in stages.tokenizers)


def test_what_200_steps_from_random_weights_are_judged_by_is_speed_and_power_efficiency():
    stages = checked_stages("paper_cost", read("paper_cost"), {})
    columns = {
        column
        for name, claim in stages.claims.items()
        for t in list_tests(name, claim)
        for column in t.columns
    }
    assert [name[:2] for name in stages.claims] == ["01", "02", "06"]
    assert columns == {
        "seq_len",
        "train_power_efficiency",
        "train_samples_per_second",
        "inference_samples_per_second",
    }
    ours, theirs = (
        read(name)["claims"]["02_bigbird_as_efficient_but_less_accurate"]
        for name in ("paper_cost", "paper")
    )
    assert ours["tests"] == theirs["tests"][:1]


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_can_be_run_as_far_as_can_be_seen_without_a_hub(name):
    stages = checked_stages(name, read(name), {})
    assert len(stages.cells) == 64 and len(list(stages.cell_stages())) > 64 * 4
    assert len(stages.probes) == (0 if name == "paper_as_published" else 64)


@pytest.mark.parametrize(
    "left_out", [{"model": "bigbird_large", "seq_len": 4096}, {"model": "bigbird_large"}]
)
def test_cells_that_do_not_fit_can_be_left_out(left_out):
    """Their published values, their place in figures and the claims about them stay, and are NA."""
    study = {**read("paper"), "exclude": [{**left_out, "reason": "does not fit this card"}]}
    stages = checked_stages("paper", study, {})
    assert len(stages.cells) == 64 - (4 if "seq_len" in left_out else 16)
    assert len(stages.claims) == 11
