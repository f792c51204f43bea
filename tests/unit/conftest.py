"""What tests of the engine share; a file may define its own study and data instead."""

import importlib
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from longwatt.hub import client, requests
from tests.hub_server import Hub
from tests.tiny_cell import tiny_data, tiny_study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> dict:
    return tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def data(tmp_path_factory, study) -> Path:
    return tiny_data(tmp_path_factory.mktemp("data"), study)


TOKEN = "hf_thisMustNeverShow"
SLEEP = time.sleep


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub with one model, its address and an empty cache given by the client's own variables."""
    with Hub() as server:
        for name, value in {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
        }.items():
            monkeypatch.setenv(name, value)
        for name in (
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            client.MIRROR,
        ):
            monkeypatch.delenv(name, raising=False)
        importlib.reload(constants)  # it reads them once
        monkeypatch.setattr(
            constants, "DOWNLOAD_CHUNK_SIZE", 10_000
        )  # it keeps whole chunks of what a cut leaves
        requests.listed_once.cache_clear()
        yield server
    monkeypatch.undo()
    importlib.reload(constants)


@pytest.fixture
def naps(monkeypatch) -> list[float]:
    """Every pause, ours and the client's, noted and cut short."""
    noted: list[float] = []

    def nap(seconds: float) -> None:
        noted.append(seconds)
        SLEEP(min(seconds, 0.001))

    monkeypatch.setattr(time, "sleep", nap)
    return noted
