"""BoAmps reports: valid, equal to the summary, and silent about what is not known."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from longwatt.exports.boamps import reports
from longwatt.exports.formats import boamps_problems
from longwatt.exports.known import LeftOut, NothingToExport
from longwatt.freshness.in_force import InForce
from longwatt.study.stages import Stages
from tests.exported_study import ADAPTED, BASIS, ESTIMATED, LATER, ODD, UNKNOWN

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def written(study) -> tuple[dict, LeftOut]:
    left_out = LeftOut()
    return dict(reports(study, NOW, left_out)), left_out


def redeclared(study, place=None, carbon=None, export=None):
    """The same facts under other declarations."""
    stages = study.current.stages
    machine = {**stages.machine, "place": place or {}, "carbon": carbon or {}}
    declared = {**stages.study, "export": export or {}}
    current = InForce(Stages(stages.study_id, declared, machine), study.current.scripts)
    return replace(study, current=current)


def everything(value):
    """All names and values of nested documents."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from everything(item)
    elif isinstance(value, list):
        for item in value:
            yield from everything(item)
    else:
        yield value


def test_every_training_and_inference_with_known_energy_has_a_valid_report(written):
    found, _ = written
    assert sorted(found) == sorted(
        f"{cell}/{name}.json"
        for cell, points in {
            ESTIMATED: ["greedy", "tested"], LATER: ["both", "greedy", "tested"],
            ADAPTED: ["greedy", "zero_shot"],
        }.items()
        for name in ["training", *(f"inference-{point}" for point in points)]
    )  # fmt: skip
    assert [problem for one in found.values() for problem in boamps_problems(one)] == []


def test_reports_say_nothing_of_what_is_not_known(written):
    for one in written[0].values():
        values = list(everything(one))
        assert not [value for value in values if value in (None, "NA", "None", "nan", "")]
        assert 0 not in [value for value in values if not isinstance(value, bool | str)]
        assert "share" not in values and "quality" not in values and "os" not in values
        json.dumps(one, allow_nan=False)


def test_energies_are_those_of_the_summary(written, study):
    by_job = {
        (cell.cell, job.point): job for cell in study.cells for job in cell.jobs
    }  # fmt: skip
    for name, one in written[0].items():
        cell, _, file = name.removesuffix(".json").rpartition("/")
        job = by_job[cell, file.removeprefix("inference-") if file != "training" else None]
        measure = one["measures"][0]
        assert measure["powerConsumption"] == job.row[f"{job.part}_energy_kwh"]
        assert measure["measurementDuration"] == job.row[f"{job.part}_runtime_s"]
        assert measure["measurementDateTime"] == "2025-10-09 08:53:20"


def test_an_estimate_is_called_one_and_a_measurement_names_its_meter(written):
    estimate = written[0][f"{ESTIMATED}/training.json"]
    assert estimate["measures"][0]["measurementMethod"] == "longwatt estimate"
    assert estimate["measures"][0]["cpuTrackingMode"] == "constant"
    assert "gpuTrackingMode" not in estimate["measures"][0]
    said = f"estimated, not measured, from CPU time and {BASIS}. Flags: short."
    assert said in estimate["task"]["taskDescription"]
    measured = written[0][f"{ADAPTED}/training.json"]["measures"][0]
    assert measured["measurementMethod"] == "longwatt"
    assert measured["gpuTrackingMode"] == "nvml counter" and "cpuTrackingMode" not in measured
    assert measured["averageUtilizationGpu"] == 0.8


def test_a_job_without_known_energy_has_no_report_and_that_is_said(written):
    lines = written[1].lines()
    assert sum(UNKNOWN in line and "its energy is not known" in line for line in lines) == 3


def test_trainings_inferences_adapters_and_cascades_are_told_apart(written):
    found = {name: one["task"] for name, one in written[0].items()}
    assert found[f"{ESTIMATED}/training.json"]["taskStage"] == "training"
    assert found[f"{ADAPTED}/training.json"]["taskStage"] == "finetuning"
    lora = found[f"{ADAPTED}/training.json"]["algorithms"][0]
    assert lora["foundationModelName"] == "HuggingFaceTB/SmolLM2-135M"
    assert "algorithmName" not in lora and lora["parametersNumber"] == 0.002
    zero_shot = found[f"{ADAPTED}/inference-zero_shot.json"]
    assert "before training" in zero_shot["taskDescription"]
    assert "parametersNumber" not in zero_shot["algorithms"][0] and zero_shot["nbRequest"] == 12
    cascade = found[f"{LATER}/inference-both.json"]["algorithms"]
    assert len(cascade) == 2 and ODD in found[f"{LATER}/inference-both.json"]["taskDescription"]


def test_hardware_is_counted_by_gpus_or_by_threads(written):
    def of(name):
        return written[0][name]["infrastructure"]["components"]

    assert of(f"{ADAPTED}/training.json") == [
        {"componentName": "NVIDIA H200", "componentType": "gpu", "nbComponent": 2}
    ]
    (cpu,) = of(f"{ESTIMATED}/training.json")
    assert (cpu["componentType"], cpu["nbComponent"]) == ("cpu", 6) and "threads" in cpu[
        "componentName"
    ]


def test_the_same_results_have_the_same_identity(written, study):
    again = dict(reports(study, NOW, LeftOut()))
    ids = [one["header"]["reportId"] for one in written[0].values()]
    assert ids == [one["header"]["reportId"] for one in again.values()]
    assert len(set(ids)) == len(ids)


def test_undeclared_fields_are_left_out_and_the_way_to_declare_them_is_said(study):
    left_out = LeftOut()
    bare = redeclared(study, place={"infrastructure": "other"})
    one = next(iter(dict(reports(bare, NOW, left_out)).values()))
    assert "environment" not in one and "publisher" not in one["header"]
    said = "\n".join(left_out.lines())
    assert "place: {country: ...} in config.yaml" in said and "confidentiality" in said
    there = redeclared(study, place={"infrastructure": "other", "country": "France"})
    one = next(iter(dict(reports(there, NOW, LeftOut())).values()))
    assert one["environment"] == {"country": "France"}


def test_without_the_infrastructure_that_the_format_requires_nothing_is_written(study):
    with pytest.raises(NothingToExport, match=r"place: \{infrastructure: onPremise\}"):
        dict(reports(redeclared(study), NOW, LeftOut()))


WRONG = {
    "a number as text": ("measures", 0, "powerConsumption", "1.5"),
    "nothing as a number": ("measures", 0, "powerConsumption", None),
    "a share in percent": ("measures", 0, "averageUtilizationGpu", 80),
    "an unknown infrastructure": ("infrastructure", "infraType", "cellar"),
    "half a GPU": ("infrastructure", "components", 0, "nbComponent", 0.5),
    "an accuracy in percent": ("task", "measuredAccuracy", 62.5),
    "an unknown kind of data": ("task", "dataset", 0, "dataType", "documents"),
    "no algorithm": ("task", "algorithms", []),
    "a confidentiality of our own": ("header", "publisher", "confidentialityLevel", "open"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrongly_filled_field_is_found_by_the_published_schema(written, wrong):
    one = copy.deepcopy(written[0][f"{ADAPTED}/training.json"])
    *path, name, value = WRONG[wrong]
    place = one
    for step in path:
        place = place[step]
    place[name] = value
    assert boamps_problems(one) != []
