"""One finished study for all tests of exports, which only read it."""

import os
from pathlib import Path

import pytest

from longwatt.exports import run_crate
from longwatt.exports.facts import StudyFacts, facts_of_study
from longwatt.freshness.in_force import InForce
from tests.exported_study import write_study

RESULTS = Path("results/told")


@pytest.fixture(scope="session")
def told(tmp_path_factory) -> tuple[Path, InForce, StudyFacts]:
    """A finished study: its folder, what is in force, and its facts."""
    folder, before = tmp_path_factory.mktemp("told"), Path.cwd()
    os.chdir(folder)
    try:
        current = write_study()
        return folder, current, facts_of_study(RESULTS, current)
    finally:
        os.chdir(before)


@pytest.fixture
def study(told, monkeypatch) -> StudyFacts:
    """Its facts, in its folder."""
    monkeypatch.chdir(told[0])
    return told[2]


@pytest.fixture
def small_package(monkeypatch) -> None:
    """A room in place of the whole package, whose copies take most of a crate's time."""
    monkeypatch.setattr(run_crate, "PACKAGE", run_crate.PACKAGE / "exports")
