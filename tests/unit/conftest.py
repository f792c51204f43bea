"""What tests of the engine share; a file may define its own study and data instead."""

from pathlib import Path

import pytest

from tests.tiny_cell import tiny_data, tiny_study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> dict:
    return tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def data(tmp_path_factory, study) -> Path:
    return tiny_data(tmp_path_factory.mktemp("data"), study)
