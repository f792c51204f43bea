"""Cells of classification: what they are made of, and what is refused before any training."""

import copy

import pytest

from longwatt.config.errors import StudyError
from longwatt.files import PACKAGE
from longwatt.provenance.code import Code
from longwatt.study.checks import checked_stages
from longwatt.study.outputs import compare_exits_inputs, kept
from longwatt.study.stages import Stages
from tests.tiny_exits import read_tiny_exits

EXITS, STANDARD = (f"words/{model}/24/cpu/classified/seed42" for model in ("exits", "standard"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return read_tiny_exits(tmp_path_factory.mktemp("exits"))


def stages_of(study: dict, **changes) -> Stages:
    return checked_stages("tiny", {**copy.deepcopy(study), **changes}, {})


def test_points_differ_by_cell(study):
    stages = stages_of(study)
    assert stages.points(STANDARD) == ["last-b1", "last-b8"]
    assert stages.points(EXITS) == [
        "early-t0.7-b1", "early-t0.7-b8", "last-b1", "last-b8", "oracle", "patient-p2",
    ]  # fmt: skip
    assert stages.parts(STANDARD) == ["finetune", "predict/last-b1", "predict/last-b8"]


def test_only_models_with_several_exits_are_recorded_and_calibrated(study):
    stages = stages_of(study)
    rules = {
        name: [s.rule for s in stages.cell_stages() if f"/{name}/" in s.artefact]
        for name in (EXITS, STANDARD)
    }
    of_exits = {"record_exits", "calibrate", "judge_calibration"}
    assert of_exits <= set(rules[EXITS]) and of_exits.isdisjoint(rules[STANDARD])
    assert stages.predict_inputs(EXITS, "oracle")["model"].endswith("calibrate/model")
    assert stages.predict_inputs(STANDARD, "last-b1")["model"].endswith("finetune/model")
    assert stages.record_exits(EXITS).settings["splits"] == ["test", "validation"]


def test_a_label_needs_no_generation_and_no_target_length(study):
    stages = stages_of(study)
    trained, predicted = (
        stages.finetune(EXITS).settings,
        stages.predict(EXITS, "early-t0.7-b8").settings,
    )
    assert {"generation", "comparison"}.isdisjoint(trained) and "max_target_tokens" not in trained[
        "training"
    ]
    assert trained["model"]["exits"] == {"layer_weights": "learned", "layers": [0, 1, 3]}
    assert {"generation", "references", "max_target_tokens"}.isdisjoint(predicted)
    assert predicted["inference"]["exit"] == {"threshold": 0.7}
    assert predicted["inference"]["regroup_batches"] == 3
    assert stages.score(EXITS, "oracle").settings["task"] == "classification"


def test_a_temperature_changes_neither_training_nor_recording(study):
    given = copy.deepcopy(study)
    given["models"]["exits"]["exits"]["temperatures"] = [1, 2, 3]
    one, other = stages_of(study), stages_of(given)
    assert one.finetune(EXITS) == other.finetune(EXITS) and one.record_exits(
        EXITS
    ) == other.record_exits(EXITS)
    assert other.calibrate(EXITS).settings["temperatures"] == [1, 2, 3]
    assert one.calibrate(EXITS).settings["temperatures"] != [1, 2, 3]


def test_how_results_are_reported_changes_nothing_that_a_prediction_rests_on(study):
    one, other = (
        stages_of(study),
        stages_of(study, scoring={"bootstrap_resamples": 7, "confidence": 0.5, "seed": 3}),
    )
    given = one.predict_inputs(EXITS, "oracle")
    assert given == other.predict_inputs(EXITS, "oracle")
    assert given["temperatures"] == one.calibrate(EXITS).artefact
    assert one.record_exits(EXITS) == other.record_exits(EXITS) and one.calibrate(
        EXITS
    ) == other.calibrate(EXITS)
    assert one.calibrate(EXITS).settings == {"split": "validation", "temperatures": None}
    judged = other.judge_calibration(EXITS)
    assert judged.settings == {"bootstrap_resamples": 7, "confidence": 0.5, "seed": 3}
    assert judged.artefact not in given.values() and judged.artefact in compare_exits_inputs(other)
    assert {judged.artefact, given["temperatures"]} <= set(kept(other))


def test_rows_say_by_which_rule_examples_leave(study):
    rows = {
        (row["model"], row["inference"]): row
        for row in stages_of(study).summarize().settings["rows"]
    }
    early = rows["exits", "early-t0.7-b8"]
    wanted = ("threshold", 0.7, 8)
    assert (early["exit_rule"], early["exit_value"], early["inference_batch_size"]) == wanted
    assert rows["exits", "oracle"]["exit_rule"] == "oracle"
    assert rows["exits", "oracle"]["exit_value"] is None
    assert rows["standard", "last-b1"]["exit_rule"] == "last"


def change(study: dict, path: str, value) -> dict:
    changed = copy.deepcopy(study)
    *parents, last = path.split(".")
    place = changed
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("models.exits.exits.layers", [0, 1, 4], r"layers has 4, but the encoder has 4 layers"),
        ("models.exits.exits.layers", [1, 0, 3], r"cell words/exits.*layers"),
        ("models.exits.exits.layers", [0, 0, 3], r"cell words/exits.*layers"),
        ("models.exits.exits.temperatures", [1, 1], r"temperatures"),
        ("models.exits.exits.temperatures", [1, 0, 1], r"temperatures"),
        ("calibration", {"split": "train"}, r"calibration\.split is train, on which .* is trained"),
        ("calibration", {"split": "test"},
         r"inference\.early-t0\.7-b1\.split is test, on which calibration\.split"),
        ("grid.1.inference", ["early-t0.7-b1"],
         r"exit is .*models\.standard .* has no exit before"),
        ("grid.0.protocols", ["generated"],
         r"grid\[0\]\.protocols: the protocol generated does not fit"),
        ("models.exits.family", "seq2seq", r"models\.exits\.family: seq2seq is for the task text"),
        ("datasets.words.metric", "rouge",
         r"datasets\.words\.metric: rouge is no metric of labels"),
        ("datasets.words.task", "text",
         r"models\.exits\.family: early_exit is for the task classification"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_training(study, path, value, said):
    with pytest.raises(StudyError, match=said):
        stages_of(change(study, path, value))


def test_a_model_and_its_baselines_share_a_download_whatever_their_order(study):
    changed = copy.deepcopy(study)
    for name in ("exits", "standard", "shallow"):
        checkpoint = {"initialisation": "checkpoint", "path": "/x/some-bert"}
        changed["models"][name] = {**changed["models"][name], **checkpoint}
        changed["models"][name].pop("config")
    changed["tokenizers"]["bpe"] = study["tokenizers"]["bpe"]
    (key,) = stages_of(changed).models
    changed["models"] = dict(reversed(changed["models"].items()))
    assert list(stages_of(changed).models) == [key] and key.startswith("some-bert-")
    assert code_modules("early_exit") - code_modules("led") > {"longwatt.metrics.classification"}


def code_modules(family: str) -> set[str]:
    """The modules behind a training of a family's."""
    script = PACKAGE.parents[1] / "scripts/finetune.py"
    return set(Code(PACKAGE).closure(script, [f"longwatt.models.{family}"]))
