"""What else differs between results, and where it is said."""

import math
from pathlib import Path

import pytest

from longwatt.compare.beside import MARK, across, differing_beside, sentences
from longwatt.compare.pairing import compare_cells, match
from longwatt.compare.report import comparison_page
from longwatt.layout.pages import markdown
from longwatt.results.differences import (
    between,
    difference_notes,
    machine_of,
    recorded_machine,
    threads_in_words,
    unlike_machines,
)
from longwatt.results.judge_claims import Evidence
from longwatt.study.summary_columns import COLUMNS, ENVIRONMENT, machine_columns
from tests.unit.compare.test_pairing import SCORING, STUDIES, row, summary

HERE = {
    "device": "H200",
    "processor": "AMD EPYC",
    "threads": 8,
    "pinned": "yes",
    "wait_policy": "passive",
    "processes": 1,
}
ON = {**HERE, **{f"inference_{name}": value for name, value in HERE.items()}, "data_digest": "d",
      "weights_digest": "w",
      "attention": "fast", "inference_attention": "fast",
      "train_code_digest": "c", "inference_code_digest": "c", "train_libraries": "torch 2.9",
      "inference_libraries": "torch 2.9"}  # fmt: skip


def test_a_row_says_what_it_was_made_with_and_measured_on():
    identity = {"data": "d" * 64, "weights": "w" * 64}
    block = {
        "provenance": {"code_digest": "c" * 64},
        "versions": {"python": "3.11", "torch": "2.9"},
    }
    found = recorded_machine(
        {**HERE, **block, "identity": identity}, {**HERE, **block, "threads": 2}
    )
    assert found["device"] == "H200" and (found["threads"], found["inference_threads"]) == (8, 2)
    assert found["data_digest"] == "d" * 12 and found["train_code_digest"] == "c" * 12
    assert found["train_libraries"] == "python 3.11, torch 2.9" and set(found) <= set(COLUMNS)
    assert set(recorded_machine({}, {}).values()) == {None}, "results made before"


def test_a_row_says_its_path_of_attention_and_the_one_that_was_asked_for():
    asked = {"provenance": {"settings": {"model": {"attention": "fast"}}}}
    found = recorded_machine({"attention": "stock", **asked}, {"attention": "fast"})
    names = ("attention", "attention_asked", "inference_attention")
    assert [found[name] for name in names] == ["stock", "fast", "fast"]


@pytest.mark.parametrize(
    ("cores", "said"),
    [("0,1", "yes"), ("0 / 3", "yes"), ("no", "no"), ("no / 2", "no / yes"), (None, None)],
)
def test_whether_a_job_was_pinned_counts_and_not_to_which_cores(cores, said):
    artefact = {**HERE, "pinned": cores}
    assert machine_of(artefact)["pinned"] == said
    row = recorded_machine(artefact, {"pinned": "7"})
    assert (row["pinned"], row["inference_pinned"]) == (said, "yes")
    others = unlike_machines(machine_of({**HERE, "pinned": "7"}), machine_of(artefact))
    assert others == ("other pinning to cores" if said and "no" in said else None)


@pytest.mark.parametrize(
    ("training", "inference", "said"),
    [(8, 8.0, "8"), (2.0, 1, "2, inference 1"), (None, math.nan, "NA"), ("8 / 1", 1, None)],
)
def test_threads_are_said_once_where_both_parts_had_as_many(training, inference, said):
    found = threads_in_words({"threads": training, "inference_threads": inference})
    assert found == (said or "8 / 1, inference 1")


@pytest.mark.parametrize(
    ("column", "of"),
    [
        ("train_samples_per_second", ENVIRONMENT),
        ("train_energy_kwh", ENVIRONMENT),
        ("peak_memory_gib", ENVIRONMENT),
        ("inference_samples_per_second", tuple(f"inference_{name}" for name in ENVIRONMENT)),
        ("joules_per_example", tuple(f"inference_{name}" for name in ENVIRONMENT)),
        ("score", ()),
        ("relative_time", ()),
        ("inference_batch_size", ()),
        ("device", ()),
        ("validations", ()),
    ],
)
def test_what_a_number_was_measured_on_depends_on_the_number(column, of):
    assert machine_columns(column) == of


@pytest.mark.parametrize(
    ("change", "column", "said"),
    [
        ({"device": "A100"}, "train_runtime_s", ["other devices"]),
        ({"device": "A100"}, "inference_runtime_s", []),
        ({"device": "A100"}, "score", []),
        ({"inference_threads": 1}, "joules_per_example", ["other thread counts"]),
        ({"inference_threads": 8.0}, "joules_per_example", []),
        ({"threads": "8 / 1"}, "train_energy_kwh", ["other thread counts"]),
        ({"pinned": "no"}, "train_energy_kwh", ["other pinning to cores"]),
        ({"wait_policy": "default"}, "train_energy_kwh", ["other wait policies of threads"]),
        ({"device": None}, "train_runtime_s", []),
        ({"device": math.nan}, "train_runtime_s", []),
        ({"attention": "stock"}, "train_runtime_s", ["other attention paths"]),
        ({"attention": "fast / stock"}, "score", ["other attention paths"]),
        ({"attention": math.nan}, "train_runtime_s", []),
        ({"attention": "stock", "model": "other"}, "train_runtime_s", []),
        (
            {"inference_attention": "stock"},
            "inference_runtime_s",
            ["other attention paths in inference"],
        ),
        ({"data_digest": "e"}, "score", ["other data"]),
        ({"weights_digest": "v"}, "score", ["other weights"]),
        ({"train_code_digest": "e", "inference_code_digest": "e"}, "score", ["other code"]),
        ({"model": "other", "train_code_digest": "e"}, "score", []),
        ({"model": "other", "train_libraries": "torch 2.8"}, "score", ["other library versions"]),
        ({"processes": 8, "budget": "gpu8"}, "train_runtime_s", []),
        ({"processes": 8}, "train_runtime_s", ["other numbers of processes"]),
        (
            {"relative_time_across": "other devices"},
            "relative_time",
            ["relative to a baseline with other devices"],
        ),
        (
            {"relative_time_across": "other devices"},
            "relative_time_ci_low",
            ["relative to a baseline with other devices"],
        ),
        (
            {"efficient_across": "other devices"},
            "accuracy_over_efficient",
            ["relative to a baseline with other devices"],
        ),
        ({"relative_time_across": "other devices"}, "accuracy", []),
    ],
)
def test_a_claim_notes_what_else_differs(change, column, said):
    known = {"dataset": "d", "model": "m", "budget": "gpu1", **ON}
    assert difference_notes([(known, column), ({**known, **change}, column)]) == said
    assert difference_notes([(known, column), (known, column)]) == []


def test_one_column_set_against_another_compares_what_both_were_measured_on():
    row = {"dataset": "d", "model": "m", "budget": "b", **ON, "inference_device": "A100"}
    values = [(row, "train_samples_per_second"), (row, "inference_samples_per_second")]
    assert difference_notes(values) == ["other devices"]
    assert difference_notes(values, apart=True) == [], (
        "a correlation sets cells against cells, column by column"
    )
    assert difference_notes(
        [*values, ({**row, "threads": 1}, "train_samples_per_second")], apart=True
    ) == ["other thread counts"]


@pytest.mark.parametrize(
    ("device", "said"), [("A100 / H200", ["other devices"]), ("A100 + H200", [])]
)
def test_a_value_of_attempts_on_several_machines_says_so_alone(device, said):
    row = {"dataset": "d", "model": "m", "budget": "b", **ON, "inference_device": device}
    assert (
        difference_notes([(row, "joules_per_example")])
        == difference_notes([(row, "joules_per_example")] * 2)
        == said
    )
    assert difference_notes([(row, "train_runtime_s")]) == []


def test_evidence_of_other_devices_says_so():
    rows = [row(**ON), row(**{**ON, "device": "A100"}, seq_len=2048)]
    cells = [{**one, "left_out": None} for one in rows]
    evidence = Evidence(summary(*rows), cells)
    speeds, scores = (
        [(point, name) for point in evidence.points]
        for name in ("train_samples_per_second", "score")
    )
    assert evidence.notes(speeds) == ["other devices"]
    assert evidence.notes(scores) == []
    assert evidence.notes(speeds[:1]) == []


def test_pairs_across_devices_are_marked_and_all_that_differs_stands_in_a_table():
    first = summary(row(**ON), row(**ON, seq_len=2048))
    other = {
        **ON,
        "device": "A100",
        "inference_device": "A100",
        "inference_threads": 2,
        "data_digest": "e",
    }
    second = summary(row(**other), row(**ON, seq_len=2048))
    found = match(first, second)
    comparison = compare_cells(Path("none"), STUDIES, found, SCORING)
    assert comparison["train_across"].fillna("").tolist() == ["other devices", ""]
    assert comparison["inference_across"].fillna("").tolist() == [
        "other devices, other thread counts",
        "",
    ]
    pairs = [(pair.first, pair.second) for pair in found.pairs]
    beside = differing_beside(pairs)
    assert {each.name: (each.values, each.pairs) for each in beside} == {
        "device": ([("H200", "A100")], 1),
        "inference_device": ([("H200", "A100")], 1),
        "inference_threads": ([("8", "2")], 1),
        "data_digest": ([("d", "e")], 1),
    }
    told = sentences(STUDIES, comparison, beside, {"a": ["x (greedy)"], "b": None})
    assert "device (H200 / A100)" in told[0] and "data_digest (d / e)" in told[0]
    assert told[1].startswith(
        "Not the models' alone: 1 trainings and 1 inferences were measured with other devices, "
        "other"
    )
    assert (
        "Not what a would make now: 1 of its results" in told[2]
        and "its file is not here" in told[3]
    )
    text = markdown("t", comparison_page(STUDIES, found, comparison, [], told=told))
    assert (
        f"1\\{MARK}" in text
        and "training: other devices; inference: other devices, other thread counts" in text
    )
    assert "1 of 2 pairs were measured on other devices" in text


def test_pairs_of_results_made_before_are_marked_with_nothing():
    found = match(summary(row()), summary(row(**ON)))
    comparison = compare_cells(Path("none"), STUDIES, found, SCORING)
    assert comparison[["train_across", "inference_across"]].isna().all(axis=None)
    assert across(found.pairs[0].first, found.pairs[0].second) == {
        "train_across": None,
        "inference_across": None,
    }
    assert differing_beside([(pair.first, pair.second) for pair in found.pairs]) == []
    assert MARK not in markdown("t", comparison_page(STUDIES, found, comparison, []))


def test_values_of_several_seeds_are_compared_as_sets():
    one = [dict(ON), {**ON, "device": "A100"}]
    assert between(one, [*one, *one]) == {}
    assert between(one, [dict(ON)]) == {"device": ("A100 / H200", "H200")}


def test_machines_differ_in_what_is_known_of_both():
    assert (
        unlike_machines(HERE, {**HERE, "threads": 1, "device": "A100"})
        == "other devices, other thread counts"
    )
    assert unlike_machines(HERE, HERE) is None and unlike_machines(machine_of({}), HERE) is None
