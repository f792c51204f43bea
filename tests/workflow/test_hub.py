"""A study whose data and models come from a hub, from its first request to its scores, and what stops it."""

from __future__ import annotations

import json

import pytest

from longwatt import hub
from tests.hub_server import Hub
from tests.tiny_hub import repositories, study_of
from tests.workflow.conftest import Project

OUTSIDE = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", hub.MIRROR)
WANTED = [
    "config.json", "config.json", "generation_config.json", "merges.txt", "model.safetensors", "pytorch_model.bin",
    "qmsum.zip", "spiece.model", "tokenizer_config.json", "tokenizer_config.json", "vocab.json",
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


def names(project: Project, pattern: str) -> list[str]:
    """The entries below resources/ that a file was made for."""
    return sorted(path.parent.name.rpartition("-")[0] for path in (project.path / "resources").glob(pattern))


def test_a_study_comes_from_the_hub_once_and_then_needs_none(project, served):
    project.run("--until", "score")
    for model in ("led", "bigbird"):
        cell = project.results / f"qmsum/{model}/64/cpu/generated/seed1"
        assert json.loads((cell / "predict/greedy/scores.json").read_text())["examples"] == 2
    assert sorted(served.fetched()) == WANTED, "each of what is wanted, once"
    for path in project.path.glob("resources/tokenizers/*/*/provenance.json"):
        facts = json.loads(path.read_text())
        assert facts["texts_compared"] == 30 and facts["tokens_differing"] == 0
        assert facts["origin"]["repository"] == f"some/{path.parent.name.rpartition('-')[0]}"

    served.stop()
    assert project.would_run("--until", "score") == {}
    # Another study of the same entries shares what was made; one that names them otherwise takes them from the cache.
    text = project.study.read_text()
    (project.path / "studies/other.yaml").write_text(text.replace("max_steps: 2", "max_steps: 1"))
    said = project.run("-n", study="other")
    assert "finetune" in said and not any(rule in said for rule in ("download_dataset", "download_model", "make_tok"))
    renamed = text.replace("  led: {", "  led2: {").replace("tokenizer: led}", "tokenizer: led2}")
    (project.path / "studies/other.yaml").write_text(renamed.replace("models: [led,", "models: [led2,"))
    project.run("--until", "make_tokenizer", "download_model", study="other")
    assert names(project, "models/*/model.json") == ["bigbird", "led", "led2"]
    assert names(project, "tokenizers/*/*/tokenizer.json") == ["bigbird", "led", "led2"]


def test_a_revision_that_does_not_exist_stops_the_run_before_anything_is_downloaded(project, served):
    led = served.repositories["model", "some/led"].branches["main"]
    project.edit("studies/tiny.yaml", f"repository: some/led, revision: {led}, tokenizer", f"repository: some/led, "
                 f"revision: {'a' * 40}, tokenizer")  # fmt: skip
    said = " ".join(project.run(ok=False).split())
    assert f"tiny.yaml: models.led: model repository some/led, revision {'a' * 40}: it has no such revision" in said
    assert "Traceback" not in said and served.fetched() == [] and not (project.path / "resources").exists()


def test_no_network_is_said_at_once_and_a_dry_run_does_without(project, served):
    served.stop()
    said = project.run(ok=False)
    assert "datasets.qmsum: dataset repository tau/scrolls" in said and "no connection to the hub" in said
    assert "set `mirror` in config.yaml to a folder or URL with its zip files" in said and "Traceback" not in said
    assert project.would_run()["download_model"] == 2
