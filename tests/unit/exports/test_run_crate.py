"""Run crates: the published profiles hold, and every action is of a job that ran."""

import base64
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from longwatt.energy.reduction.reduce import J_PER_KWH
from longwatt.exports.known import LeftOut, NothingToExport
from longwatt.exports.run_crate import write_crate
from longwatt.exports.run_times import RunTime, recorded_times, whole
from tests.crate_validator import problems
from tests.exported_study import ADAPTED, ESTIMATED, UNKNOWN
from tests.unit.exports.test_boamps import everything, redeclared

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
METADATA = "ro-crate-metadata.json"


def graph_of(crate: Path) -> dict[str, dict]:
    return {one["@id"]: one for one in json.loads((crate / METADATA).read_text())["@graph"]}


def record_runs(study, metadata: Path) -> None:
    """Write Snakemake's records of all jobs, each a second after the other."""
    metadata.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(study.current.stages.all()):
        name = base64.urlsafe_b64encode(stage.artefact.encode()).decode()
        folders = [f"@{name[i : i + 200]}" for i in range(0, max(len(name) - 200, 0), 200)]
        place = metadata.joinpath(*folders)
        place.mkdir(parents=True, exist_ok=True)
        times = {"starttime": 1.76e9 + number, "endtime": 1.76e9 + number + 0.5}
        (place / name[200 * len(folders) :]).write_text(json.dumps({"rule": stage.rule, **times}))


@pytest.fixture(scope="module")
def made(told, tmp_path_factory):
    """A crate of the study, and what was left out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(told[0])
        record_runs(told[2], Path(".snakemake/metadata"))
        left_out, target = LeftOut(), tmp_path_factory.mktemp("crate") / "crate"
        write_crate(told[2], target, NOW, left_out)
    return target, left_out


def test_the_crate_holds_what_it_names(made):
    crate, graph = made[0], graph_of(made[0])
    parts = [one["@id"] for one in graph["./"]["hasPart"]]
    assert all((crate / part).exists() for part in parts)
    assert {
        "Snakefile",
        "workflow/Snakefile",
        "config.yaml",
        "studies/told.yaml",
        "results/told/summary.csv",
    } <= set(parts)
    assert not list(crate.rglob("__pycache__")) and not list(crate.rglob("predictions.jsonl"))
    known = {value["@id"] for one in graph.values() for value in references(one)}
    assert {name for name in known if "://" not in name} <= set(graph)


def references(entity):
    for value in entity.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield one


def test_every_job_is_an_action_with_its_time_inputs_and_energy(made, study):
    graph = graph_of(made[0])
    stages = list(study.current.stages.all())
    actions = {name: one for name, one in graph.items() if name.startswith("#job-")}
    assert set(actions) == {f"#job-{stage.artefact}" for stage in stages}
    artefact = f"results/told/{ESTIMATED}/finetune/training.json"
    one = actions[f"#job-{artefact}"]
    assert one["instrument"] == {"@id": "workflow/scripts/finetune.py"}
    assert one["result"] == {"@id": artefact} and one["startTime"] <= one["endTime"]
    used = [reference["@id"] for reference in references({"object": one["object"]})]
    assert any(name.endswith("tokenized.json") for name in used)
    energy = graph[one["resourceUsage"]["@id"]]
    assert energy["value"] == 300.0 / J_PER_KWH and energy["unitText"] == "kWh"
    assert "estimated, not measured" in energy["description"]
    measured = actions[f"#job-results/told/{ADAPTED}/finetune/training.json"]
    assert "is measured by" in graph[measured["resourceUsage"]["@id"]]["description"]


def test_what_is_not_known_is_left_out_and_said(made):
    graph, left_out = graph_of(made[0]), made[1]
    assert "resourceUsage" not in graph[f"#job-results/told/{UNKNOWN}/finetune/training.json"]
    assert any(UNKNOWN in what for what in left_out.found)
    assert "version" not in graph["https://snakemake.github.io"]
    assert not [value for value in everything(list(graph.values())) if value in (None, "NA", "")]


def test_the_agent_and_the_licence_are_those_declared(made):
    graph = graph_of(made[0])
    person = "https://orcid.org/0000-0002-1825-0097"
    assert graph[person]["name"] == "Ada <Lovelace>" and graph["#run"]["agent"] == {"@id": person}
    licence = graph["./"]["license"]["@id"]
    assert licence == "https://creativecommons.org/licenses/by/4.0/"


def test_without_a_licence_that_the_profile_requires_nothing_is_written(study, tmp_path):
    with pytest.raises(NothingToExport, match=r"add export: \{license"):
        write_crate(redeclared(study), tmp_path / "crate", NOW, LeftOut())
    assert list(tmp_path.iterdir()) == []


def test_nobody_no_address_and_no_time_are_named_where_none_is_known(
    study, tmp_path, monkeypatch, small_package
):
    monkeypatch.setattr("longwatt.exports.run_crate.recorded_times", lambda metadata: {})
    left_out = LeftOut()
    bare = redeclared(study, export={"license": "mit"})
    write_crate(bare, tmp_path / "crate.zip", NOW, left_out)
    with zipfile.ZipFile(tmp_path / "crate.zip") as archive:
        graph = {one["@id"]: one for one in json.loads(archive.read(METADATA))["@graph"]}
        assert "workflow/rules/" in archive.namelist(), "folders count among the parts"
    assert graph["./"]["license"] == "mit" and "agent" not in graph["#run"]
    assert not [one for one in graph.values() if one["@type"] in ("Person", "Organization")]
    assert not [one for one in graph.values() if "startTime" in one or "endTime" in one]
    assert {
        "author and agent", "the address of the licence", "begin and end of the whole run"
    } <= set(left_out.found)  # fmt: skip


def test_times_are_whole_only_if_every_job_has_one(tmp_path):
    first, last = RunTime(1.0, 2.0), RunTime(3.0, 9.0)
    assert whole([last, first]) == RunTime(1.0, 9.0)
    assert whole([first, None]) is None and whole([]) is None
    assert recorded_times(tmp_path / "absent") == {}
    name = base64.urlsafe_b64encode(b"a.json").decode()
    (tmp_path / name).write_text('{"starttime": 5, "endtime": null}')
    assert recorded_times(tmp_path) == {}


@pytest.mark.long
def test_the_crate_conforms_to_the_published_profiles(made, tmp_path, monkeypatch):
    crate = made[0]
    assert problems(crate, "provenance-run-crate", tmp_path / "cache", monkeypatch) == []
    assert problems(crate, "workflow-run-crate", tmp_path / "cache", monkeypatch) == []


WRONG = {
    "no licence": ("./", "license"),
    "an energy without its quantity": (
        f"#energy-results/told/{ESTIMATED}/finetune/training.json", "propertyID"
    ),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("wrong", WRONG)
def test_a_field_that_is_missing_is_found_by_the_published_profiles(
    made, wrong, tmp_path, monkeypatch
):
    document = json.loads((made[0] / METADATA).read_text())
    identifier, name = WRONG[wrong]
    (entity,) = [one for one in document["@graph"] if one["@id"] == identifier]
    del entity[name]
    kept = (made[0] / METADATA).read_text()
    try:
        (made[0] / METADATA).write_text(json.dumps(document))
        found = problems(made[0], "provenance-run-crate", tmp_path / "cache", monkeypatch)
    finally:
        (made[0] / METADATA).write_text(kept)
    assert found != []
