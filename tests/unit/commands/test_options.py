"""Commands in a folder that names no study, where the demo would run unasked."""

import pytest
import typer

from longwatt.__main__ import run
from longwatt.commands.options import refuse_no_study


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["check", "plan", "run", "status", "partial", "report", "cascade"])
def test_a_folder_that_names_no_study_is_refused_and_stays_empty(folder, name, capfd):
    assert run([name]) == 2
    said = capfd.readouterr().err
    assert said.startswith("longwatt: this folder has no config.yaml") and "--study demo" in said
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("demo", []),
        (None, ["--config", "study=demo"]),
        (None, ["--directory", "elsewhere"]),
        (None, ["--configfile=own.yaml"]),
    ],
)
def test_a_study_named_in_any_way_is_taken(folder, study, words):
    refuse_no_study(study, words)


@pytest.mark.parametrize("own", ["config.yaml", "Snakefile"])
def test_a_folder_with_settings_or_a_workflow_is_taken(folder, own):
    with pytest.raises(typer.Exit):
        refuse_no_study(None)
    (folder / own).touch()
    refuse_no_study(None)
