"""A study with data and models of a hub, from its first request to a trained cell or an error."""

from __future__ import annotations

import json

import pytest

from longwatt.config.studies import read_study
from longwatt.hub import client
from longwatt.study.checks import checked_stages
from tests.conftest import ROOT
from tests.hub_server import Hub
from tests.tiny_hub import repositories, study_of
from tests.workflow.conftest import Project

OUTSIDE = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", (
        "HF_HUB_OFFLINE"
    ), "TRANSFORMERS_OFFLINE", client.MIRROR,
)  # fmt: skip
WANTED = [
    "config.json", "config.json", "generation_config.json", "merges.txt", "model.safetensors",
    "pytorch_model.bin", "qmsum.zip", "spiece.model", "tokenizer_config.json",
    "tokenizer_config.json", "vocab.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], dict[str, bytes]]:
    return repositories(tmp_path_factory.mktemp("files"))


@pytest.fixture
def served(files):
    with Hub() as server:
        for (kind, name), content in files.items():
            server.add(kind, name, content)
        yield server


@pytest.fixture
def project(tmp_path, served, monkeypatch) -> Project:
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return Project.create(tmp_path / "project", study_of(served))


def targets(project: Project) -> list[str]:
    """LED's trained cell, and BigBird's weights and tokenizer; nothing further knows the hub."""
    made = checked_stages(
        "tiny", read_study(project.study, ROOT / "workflow/schemas/study.schema.json"), {}
    )
    led, bigbird = sorted(made.cells, key=lambda name: "bigbird" in name)
    inputs = made.inputs(bigbird)
    return [made.finetune(led).artefact, *(inputs[name] for name in ("tokenizer", "checkpoint"))]


@pytest.mark.long
def test_a_study_comes_from_the_hub_once_and_then_needs_none(project, served):
    wanted = targets(project)
    project.run(*wanted)
    assert json.loads((project.path / wanted[0]).read_text())["steps"] == 2
    assert sorted(served.fetched()) == WANTED, "each of what is wanted, once"
    for path in project.path.glob("resources/tokenizers/*/*/provenance.json"):
        facts = json.loads(path.read_text())
        assert facts["texts_compared"] == 30 and facts["tokens_differing"] == 0
        assert facts["origin"]["repository"] == f"some/{path.parent.name.rpartition('-')[0]}"

    served.stop()
    text = project.study.read_text()
    (project.path / "studies/other.yaml").write_text(text.replace("max_steps: 2", "max_steps: 1"))
    said = project.run("-n", study="other")
    assert "finetune" in said and not any(
        rule in said for rule in ("download_", "make_tokenizer")
    ), said


def test_a_revision_that_does_not_exist_stops_the_run_before_anything_is_downloaded(
    project, served
):
    led = served.repositories["model", "some/led"].branches["main"]
    old, new = (f"some/led, revision: {n}, tokenizer" for n in (led, "a" * 40))
    project.edit("studies/tiny.yaml", old, new)
    said = " ".join(project.run(ok=False).split())
    where = f"models.led: model repository some/led, revision {'a' * 40}"
    assert f"tiny.yaml: {where}: it has no such revision" in said
    assert "Traceback" not in said and served.fetched() == []
    assert not (project.path / "resources").exists()


def test_no_network_is_said_at_once(project, served):
    served.stop()
    said = project.run(ok=False)
    assert "datasets.qmsum: dataset repository tau/scrolls" in said
    assert "no connection to the hub" in said
    assert "set `mirror` in config.yaml to a folder or URL with its zip files" in said
    assert "Traceback" not in said
