"""What judges results outside a run reads the machine's configuration as a run does."""

import shutil
from pathlib import Path

import pytest

from longwatt.config.documents import parse_changes
from longwatt.config.errors import StudyError
from longwatt.freshness import in_force
from tests.conftest import TINY_STUDY


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project, and beside it a folder that `--directory` named; the current folder is neither."""
    project = tmp_path / "project"
    for folder in (project / "studies", tmp_path / "other/results/tiny", tmp_path / "nowhere"):
        folder.mkdir(parents=True)
    for folder in (project, tmp_path / "third"):
        (folder / in_force.PROJECT_MARK).parent.mkdir(parents=True)
        (folder / in_force.PROJECT_MARK).write_text("")
    (project / "studies/tiny.yaml").write_text(TINY_STUDY)
    (project / "config.yaml").write_text(
        "study: demo\nwatts_per_core: 7\nprices: {currency: EUR, per_kwh: 0.3}\n"
    )
    monkeypatch.setattr(in_force, "ROOT", project)
    monkeypatch.chdir(tmp_path / "nowhere")
    return project


def machine(results: Path, *words: str) -> dict:
    found = in_force.find(results, parse_changes(words))
    assert found is not None
    return dict(found.stages.machine)


def test_the_configuration_of_another_folder_stands_over_the_project_s(project, tmp_path):
    other = tmp_path / "other"
    assert machine(other / "results/tiny")["watts_per_core"] == 7
    (other / "config.yaml").write_text("prices: {per_kwh: 0.5}\n")
    found = machine(other / "results/tiny")
    assert found["watts_per_core"] == 7 and found["prices"] == {"currency": "EUR", "per_kwh": 0.5}
    shutil.copytree(tmp_path / "third", other, dirs_exist_ok=True)  # a project of its own
    assert machine(other / "results/tiny").get("watts_per_core") is None


@pytest.mark.parametrize("given", ["pue: 1.5\nsamples: 3\n", "longwatt: {pue: 1.5}\nsamples: 3\n"])
def test_the_configuration_of_a_workflow_that_imports_longwatt_is_read(project, tmp_path, given):
    config = tmp_path / "other/config"
    config.mkdir()
    (config / "config.yaml").write_text(given)
    found = machine(tmp_path / "other/results/tiny")
    assert found["pue"] == 1.5 and found["watts_per_core"] == 7


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (["prices={per_kwh: 0.5}"], "prices", {"currency": "EUR", "per_kwh": 0.5}),
        (["prices={currency: 2024}"], "prices", {"currency": "2024", "per_kwh": 0.3}),
        (["prices={currency: NO, per_kwh: null}"], "prices", {"currency": "NO", "per_kwh": None}),
        (["watts_per_core=null"], "watts_per_core", None),
        (["watts_per_core="], "watts_per_core", None),
        (["watts_per_core=1e1", "pue=1.5"], "watts_per_core", 10),
        (["mirror=a b"], "mirror", "a b"),
        (["study=other"], "study", "tiny"),
    ],
)
def test_what_the_command_line_says_is_read_as_by_a_run(project, words, key, expected):
    (project / "results/tiny").mkdir(parents=True)
    assert machine(project / "results/tiny", *words)[key] == expected


def test_a_wrong_value_is_named_with_its_key(project):
    (project / "results/tiny").mkdir(parents=True)
    with pytest.raises(
        StudyError,
        match=r"config\.yaml \(or --config\): watts_per_core: expected auto, none or a number",
    ):
        machine(project / "results/tiny", "watts_per_core=many")
