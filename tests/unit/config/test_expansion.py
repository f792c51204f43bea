"""Lists of a study are written out."""

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.expansion import write_out
from longwatt.study.cells import expand, points_of_cells

STUDY = {
    "inference": {
        "last": {"split": "test", "batch_sizes": [1, 32]},
        "early": {"split": "test", "batch_sizes": [1, 32], "exit": {"thresholds": [0.75, 1]}},
        "patient": {"batch_size": 2, "exit": {"patiences": [1, 3]}},
        "oracle": {"exit": {"oracle": True}},
    },
    "datasets": {"d": {"task": "classification"}},
    "models": {"m": {"title": "M", "training": {"weight_decay": 0}}, "n": {}},
    "budgets": {"b": {}},
    "grid": [
        {
            "datasets": ["d"],
            "models": ["m", "n"],
            "seq_lens": [8],
            "budgets": ["b"],
            "inference": ["last", "early"],
        }
    ],
}


def test_thresholds_patiences_and_batch_sizes_become_points():
    found = write_out(STUDY, "s")["inference"]
    assert found["last-b32"] == {"split": "test", "batch_size": 32}
    assert found["early-t0.75-b1"] == {
        "split": "test",
        "exit": {"threshold": 0.75},
        "batch_size": 1,
    }
    assert found["patient-p3"] == {"batch_size": 2, "exit": {"patience": 3}}
    assert found["oracle"] == {"exit": {"oracle": True}}
    assert len(found) == 2 + 4 + 2 + 1


def test_a_block_may_name_the_list_or_one_of_its_points():
    assert write_out(STUDY, "s")["grid"][0]["inference"] == [
        "last-b1", "last-b32", "early-t0.75-b1", "early-t0.75-b32", "early-t1-b1", "early-t1-b32",
    ]  # fmt: skip
    one = {**STUDY, "grid": [{**STUDY["grid"][0], "inference": ["early-t1-b1", "oracle"]}]}
    written = write_out(one, "s")
    assert written["grid"][0]["inference"] == ["early-t1-b1", "oracle"]
    assert points_of_cells(written) == {name: ["early-t1-b1", "oracle"] for name in expand(written)}


def test_a_search_becomes_models_that_know_where_they_come_from():
    study = {
        **STUDY,
        "models": {
            "m": {**STUDY["models"]["m"], "search": {"learning_rate": [2e-5, 5e-5]}},
            "n": {},
        },
    }
    written = write_out(study, "s")
    assert written["grid"][0]["models"] == ["m-lr2e-05", "m-lr5e-05", "n"]
    assert written["models"]["m-lr5e-05"] == {
        "title": "M, lr 5e-05",
        "training": {"weight_decay": 0, "learning_rate": 5e-5},
        "variant_of": "m",
        "search_title": "M",
    }


def test_an_unknown_name_in_a_block_names_the_nearest():
    wrong = {**STUDY, "grid": [{**STUDY["grid"][0], "inference": ["earli"]}]}
    with pytest.raises(
        StudyError,
        match=r"grid\[0\]\.inference: unknown inference point 'earli' \(did you mean 'early'",
    ):
        write_out(wrong, "s")


def test_two_entries_that_become_one_point_are_refused():
    twice = {**STUDY["inference"], "last-b1": {"split": "test"}}
    with pytest.raises(StudyError, match="inference: last-b1 comes out twice"):
        write_out({**STUDY, "inference": twice}, "s")


def test_a_study_without_lists_stays_as_it_is():
    plain = {
        **STUDY,
        "inference": {"greedy": {"split": "test"}},
        "grid": [{**STUDY["grid"][0], "inference": ["greedy"]}],
    }
    assert write_out(plain, "s") == plain


def test_values_that_differ_in_the_last_digit_are_two_points():
    near = {**STUDY["inference"], "early": {"exit": {"thresholds": [0.9, 0.90000001]}}}
    assert {"early-t0.9", "early-t0.90000001"} <= set(
        write_out({**STUDY, "inference": near}, "s")["inference"]
    )
