"""Adapters and predictions before training, as a study asks for them."""

import pytest

from longwatt.config.documents import merge
from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.energy.rated import Rating
from longwatt.plan import makespan
from longwatt.plan.forecast import Powers, foretell, jobs
from longwatt.plan.urgency import runtimes
from longwatt.provenance.stamps import digest
from longwatt.study import settings
from longwatt.study.checks import checked_stages
from longwatt.study.reported.report_settings import claim_cells, rows
from tests.conftest import ROOT
from tests.tiny_exits import read_tiny_exits

SCHEMA = ROOT / "workflow/schemas/study.schema.json"
BASE = {"initialisation": "checkpoint", "repository": "a/small", "revision": "0" * 40}


@pytest.fixture
def study(tmp_path, tiny_study_text) -> dict:
    """The tiny study with one checkpoint, trained whole and by adapters, and a zero-shot point."""
    (tmp_path / "s.yaml").write_text(tiny_study_text)
    found = read_study(tmp_path / "s.yaml", SCHEMA)
    led = {**found["models"]["led"], **BASE}
    found["models"] = {"whole": led, "adapted": {**led, "lora": {"rank": 8, "kind": "dora"}}}
    found["grid"][0] |= {"models": ["whole", "adapted"], "seq_lens": [64]}
    found["inference"] = {
        "greedy": {"split": "validation"}, "before": {"split": "validation", "weights": "initial"},
    }  # fmt: skip
    return found


def name(model: str) -> str:
    return f"needle/{model}/64/cpu/generated/seed1"


def stages_of(study: dict, **changes):
    return checked_stages("s", merge(study, changes), {})


def test_models_of_one_checkpoint_share_its_download_and_nothing_else(study):
    stages = stages_of(study)
    assert list(stages.models) == [settings.model_key(study, "whole")]
    whole, adapted = (stages.finetune(name(m)).settings for m in ("whole", "adapted"))
    assert whole["checkpoint"] == adapted["checkpoint"] and "lora" not in whole["model"]
    assert adapted["model"]["lora"] == {
        "kind": "dora", "rank": 8, "alpha": 32, "dropout": 0, "target_modules": None,
        "merge": False,
    }  # fmt: skip
    assert digest(dict(whole)) != digest(dict(adapted))


def test_a_prediction_needs_the_base_of_adapters_and_says_so(study):
    stages = stages_of(study)
    whole, adapted = (stages.predict(name(m), "greedy").settings for m in ("whole", "adapted"))
    assert adapted["lora"] is True and "lora" not in whole
    given = stages.predict_inputs(name("adapted"), "greedy")
    assert given["checkpoint"] == stages.inputs(name("adapted"))["checkpoint"]
    assert given["model"].endswith("finetune/model") and "training" in given
    merged = stages_of(study, models={"adapted": {"lora": {"merge": True}}})
    assert "lora" not in merged.predict(name("adapted"), "greedy").settings


def test_before_training_a_prediction_waits_for_no_training(study):
    stages = stages_of(study)
    for model in ("whole", "adapted"):
        given = stages.predict_inputs(name(model), "before")
        assert given == stages.inputs(name(model)) and "checkpoint" in given
        assert not any(stages.results in path for path in given.values())
        chosen = stages.predict(name(model), "before").settings
        assert chosen["inference"]["weights"] == "initial" and "lora" not in chosen
        assert chosen["config"] == study["models"][model]["config"]
        after = stages.predict(name(model), "greedy").settings
        assert "weights" not in after["inference"] and "config" not in after


@pytest.mark.parametrize("changes", [
    {"models": {"whole": {"revision": "1" * 40}}},
    {"tokenizers": {"bpe": {"vocab_size": 301}}},
    {"datasets": {"needle": {"options": {"seed": 9}}}},
])  # fmt: skip
def test_a_prediction_before_training_is_of_its_own_weights_and_data(study, changes):
    """No training's stamp stands between it and what it is made from."""
    before, after = (
        stages_of(study, **changed).predict(name("whole"), "before").settings
        for changed in ({}, changes)
    )
    assert digest(dict(before)) != digest(dict(after))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"models": {"adapted": {"initialisation": "random", "repository": None}}},
            r"models\.adapted\.lora keeps the weights it begins with.*initialisation: checkpoint",
        ),
        (
            {"models": {"whole": {"initialisation": "random"}}, "grid": [{"models": ["whole"]}]},
            r"inference\.before\.weights is initial, but models\.whole begins from random weights",
        ),
        (
            {"inference": {"greedy": {"weights": "initial"}}},
            r"inference\.before\.weights is initial, and .* has no other point",
        ),
    ],
)
def test_what_adapters_and_zero_shot_points_cannot_do_is_refused(study, changes, said):
    grid = changes.pop("grid", [{}])
    changed = merge(study, changes)
    changed["grid"] = [{**study["grid"][0], **grid[0]}]
    for model in changed["models"].values():
        if model["initialisation"] == "random":
            model.pop("repository", None)
            model.pop("revision", None)
    with pytest.raises(StudyError, match=said):
        checked_stages("s", changed, {})


def test_models_of_labels_are_adapted_whole_and_never_predict_before_training(tmp_path):
    study = read_tiny_exits(tmp_path)
    lora = merge(study, {"models": {"standard": {**BASE, "lora": {"rank": 4}}}})
    with pytest.raises(StudyError, match=r"standard\.lora\.merge must be true: .* dense and exits"):
        checked_stages("s", lora, {})
    merged = merge(lora, {"models": {"standard": {"lora": {"merge": True}}}})
    assert checked_stages("s", merged, {})
    point = {"inference": {"last-b1": {"weights": "initial"}}}
    early = merge(merged, point)
    early["grid"] = [{**merged["grid"][1], "models": ["standard"]}]
    early["claims"] = {}
    with pytest.raises(StudyError, match=r"the classifiers of models\.standard know nothing"):
        checked_stages("s", early, {})


def test_a_misspelt_kind_of_adapter_is_refused(tmp_path, tiny_study_text):
    text = tiny_study_text.replace("family: led", "family: led\n    lora: {kind: qlora}")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(StudyError, match="qlora"):
        read_study(tmp_path / "s.yaml", SCHEMA)


def test_rows_say_whose_weights_predict(study):
    stages = stages_of(study)
    there = {cell: (stages.cell(cell), stages.points(cell)) for cell in stages.cells}
    found = {(r["model"], r["inference"]): r["weights"] for r in rows(study, there, None)}
    assert found == {
        ("whole", "greedy"): "trained", ("whole", "before"): "initial",
        ("adapted", "greedy"): "trained", ("adapted", "before"): "initial",
    }  # fmt: skip
    known = claim_cells(study, stages.cells, stages.grid_points)
    assert [row["inference"] for row in known if row.get("initial")] == ["before"] * 2


GAIN = {"difference": {"column": "score", "of": {"inference": "greedy"},
                       "to": {"inference": "before"}, "above": 0}}  # fmt: skip


def claim(test: dict) -> dict:
    return {"c": {"statement": "It is so.", "tests": [test]}}


def test_claims_compare_a_trained_model_with_itself_before(study):
    assert stages_of(study, claims=claim(GAIN)).claims


@pytest.mark.parametrize("key", ["train_energy_kwh", "trainable_parameters", "peak_memory_gib"])
def test_claims_about_the_training_of_a_point_before_it_are_refused(study, key):
    test = {"value": {"column": key, "of": {"inference": "before"}, "above": 0}}
    with pytest.raises(StudyError, match=rf"{key} is of a training, but inference\.before"):
        stages_of(study, claims=claim(test))


def test_predictions_before_training_are_planned_before_it(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = stages_of(study)
    model = runtimes(stages)
    parts = foretell(stages, model, [], Powers(study, [], Rating(None, ""), lambda processes: 1))
    found = {(job.cell, job.part): job.after for job in jobs(parts)}
    for cell in stages.cells:
        assert found[cell, "predict/before"] is None
        assert found[cell, "predict/greedy"] == "finetune"
    spans = makespan.schedule(jobs(parts), 0)
    first = {span.job.part for span in spans if span.start == 0}
    assert first == {"predict/before"}, "as all predictions, they go before trainings"
