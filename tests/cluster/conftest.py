"""The throw-away Slurm that the tests of this folder share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.cluster.throwaway import Slurm, unavailable


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A running Slurm; where none can run the tests skip with the reason."""
    if reason := unavailable():
        pytest.skip(reason)
    if not importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        pytest.skip(
            "snakemake-executor-plugin-slurm is not installed (envs/requirements-slurm.txt)"
        )
    try:
        started = Slurm.start()
    except OSError as error:  # a container whose root may not make devices
        pytest.skip(f"no stand-in GPU devices can be made here: {error}")
    yield started
    started.stop()
