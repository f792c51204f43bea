"""Cascades of a study: which cells, which files, and what is refused."""

import pytest

from longwatt.config.documents import merge
from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.study.cascade_cells import check_cascade
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages
from tests.conftest import TINY_STUDY

CASCADE = {"first": {"seq_len": 32}, "calibrate_on": "greedy"}


def stages(tmp_path, schema, cascade=CASCADE, points=None, **more) -> Stages:
    path = tmp_path / "s.yaml"
    path.write_text(TINY_STUDY)
    study = read_study(path, schema)
    study["inference"] |= {
        "tested": {"split": "test"}, "both": {"split": "test", "cascade": cascade}, **(points or {})
    }  # fmt: skip
    alone = {**study["grid"][0], "inference": ["greedy", "tested"]}
    study["grid"] = [alone, {**alone, "seq_lens": [64], "inference": ["both", *(points or {})]}]
    return checked_stages("tiny", merge(study, more), {})


@pytest.fixture
def made(tmp_path, study_schema) -> Stages:
    return stages(tmp_path, study_schema)


LAST, FIRST = (f"needle/led/{length}/cpu/generated/seed1" for length in (64, 32))


def test_the_point_of_the_last_cell_has_the_inputs_and_settings_of_both(made):
    assert made.points(LAST) == ["both", "greedy", "tested"] and made.first(LAST, "both") == FIRST
    predict = made.predict(LAST, "both").settings
    assert (predict["seq_len"], predict["first"]["seq_len"]) == (64, 32)
    assert predict["inference"]["cascade"] == {
        "first": FIRST,
        "confidence": "mean_log_probability",
    }
    assert predict["inference"]["regroup_batches"] == 8
    assert "cascade" not in predict["first"]["inference"]
    paths = made.predict_inputs(LAST, "both")
    assert paths["first_model"] == f"results/tiny/{FIRST}/finetune/model"
    assert paths["threshold"] == f"results/tiny/{LAST}/cascade/both/threshold.json"
    fitted = made.fit_cascade_inputs(LAST, "both")
    assert fitted["first_examples"] == f"results/tiny/{FIRST}/predict/greedy/examples.csv"
    assert fitted["predictions"] == f"results/tiny/{LAST}/predict/greedy/predictions.jsonl"


def test_other_points_are_as_they_were_and_the_fit_is_a_job(made):
    assert "first" not in made.predict(LAST, "tested").settings
    assert "threshold" not in made.predict_inputs(LAST, "tested")
    fits = [stage.artefact for stage in made.all() if stage.rule == "fit_cascade"]
    assert fits == [f"results/tiny/{LAST}/cascade/both/threshold.json"]


def test_points_of_one_kind_can_join_a_cascade(made):
    rows = made.cascade_settings()["points"]
    assert {row["kind"] for row in rows if row["inference"] in ("tested", "both")} == {
        rows[0]["kind"] if rows[0]["inference"] == "both" else rows[-1]["kind"]
    }
    assert [row["inference"] for row in rows if "cascade" in row] == ["both"]


BEAMS = {"generation": {"num_beams": 2}}


@pytest.mark.parametrize(
    ("cascade", "points", "said"),
    [
        ({"first": {"seq_len": 64}}, {}, "first names .* itself"),
        ({"first": {"seq_len": 48}}, {}, "which the grid does not have; it has needle/led/32"),
        ({"calibrate_on": "tested"}, {}, "is of the split test, as both itself"),
        ({"calibrate_on": "nowhere"}, {}, "no inference point of the cell that answers last"),
        ({"calibrate_on": "other"}, {"other": {"split": "validation"}}, "of the first cell"),
    ],
)
def test_a_cascade_that_cannot_be_is_refused(tmp_path, study_schema, cascade, points, said):
    with pytest.raises(StudyError, match=said):
        stages(tmp_path, study_schema, {**CASCADE, **cascade}, points)


def test_a_threshold_of_other_generation_is_refused(tmp_path, study_schema):
    changed = {"inference": {"greedy": BEAMS}}
    with pytest.raises(StudyError, match="generates by other settings"):
        stages(tmp_path, study_schema, CASCADE, None, **changed)


def test_a_cascade_of_untrained_weights_is_refused(made):
    points = {one: made.predict(LAST, one).settings for one in made.points(LAST)}
    both = points["both"]
    points["both"] = {**both, "inference": {**both["inference"], "weights": "initial"}}
    with pytest.raises(StudyError, match="of trained cells, but both has `weights: initial`"):
        check_cascade("both", CASCADE, points, points, "inference.both.cascade")
