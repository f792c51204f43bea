"""A tiny study of two cells in a folder of its own, with nothing made yet."""

from pathlib import Path

import pytest

from longwatt import shipped
from longwatt.config.studies import read_study
from longwatt.freshness.in_force import InForce
from longwatt.study.checks import checked_stages
from tests.conftest import TINY_STUDY


@pytest.fixture
def current(tmp_path, monkeypatch, study_schema) -> InForce:
    monkeypatch.chdir(tmp_path)
    path = Path("studies/tiny.yaml")
    path.parent.mkdir()
    path.write_text(TINY_STUDY.replace("max_steps: 8", "max_steps: 80"))
    study = read_study(path, study_schema, [path.parent])
    machine = {"watts_per_core": "none"}
    return InForce(checked_stages("tiny", study, machine), shipped.SCRIPTS)
