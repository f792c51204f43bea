"""A study whose data and models come from a hub, from its first request to its report, and what stops it."""

from __future__ import annotations

import json
import os

import pytest

from longwatt import hub
from tests.hub_server import Hub
from tests.tiny_hub import bigbird_files, led_files, scrolls_files
from tests.workflow.conftest import Project

STUDY = """
title: From the hub
datasets:
  qmsum:
    source: scrolls
    options: {{task: qmsum, revision: {data}}}
    metric: rouge
    training: {{max_target_tokens: 8}}
tokenizers:
  led: {{kind: checkpoint, repository: some/led, revision: {led}}}
  bigbird: {{kind: checkpoint, repository: some/bigbird, revision: {bigbird}}}
models:
  led: {{family: led, initialisation: checkpoint, repository: some/led, revision: {led}, tokenizer: led}}
  bigbird: {{family: bigbird_pegasus, initialisation: checkpoint, repository: some/bigbird, revision: {bigbird},
             tokenizer: bigbird}}
budgets:
  cpu: {{gpus: 0, per_device_batch_size: 8}}
training:
  max_steps: 2
  validation: {{every_steps: 2, max_examples: 2, batch_size: 2}}
inference:
  greedy: {{split: validation, batch_size: 6, max_examples: 2}}
grid:
  - {{datasets: [qmsum], models: [led, bigbird], seq_lens: [64], budgets: [cpu]}}
"""
OUTSIDE = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", hub.MIRROR)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("files")
    return {
        ("dataset", "tau/scrolls"): scrolls_files(),
        ("model", "some/led"): led_files(folder / "led"),
        ("model", "some/bigbird"): bigbird_files(folder / "bigbird"),
    }


@pytest.fixture
def served(files):
    with Hub() as server:
        for (kind, name), content in files.items():
            server.add(kind, name, content)
        yield server


def study(served: Hub) -> str:
    commits = {name.rpartition("/")[2]: entry.branches["main"] for (_, name), entry in served.repositories.items()}
    return STUDY.format(data=commits["scrolls"], led=commits["led"], bigbird=commits["bigbird"])


@pytest.fixture
def project(tmp_path, served, monkeypatch) -> Project:
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return Project.create(tmp_path / "project", study(served))


WANTED = [
    "config.json", "config.json", "generation_config.json", "merges.txt", "model.safetensors", "pytorch_model.bin",
    "qmsum.zip", "spiece.model", "tokenizer_config.json", "tokenizer_config.json", "vocab.json",
]  # fmt: skip


def test_a_study_comes_from_the_hub_once_and_then_needs_none(project, served):
    project.run()
    rows = (project.results / "summary.csv").read_text().splitlines()
    assert len(rows) == 3 and "nan" not in "".join(rows).lower()
    assert (
        sorted(n for n, r in zip(served.fetched(), contents(served), strict=True) if "/cdn/" in r or small(n)) == WANTED
    )

    models = {path.parent.name.split("-")[0]: json.loads(path.read_text()) for path in
              project.path.glob("resources/models/*/model.json")}  # fmt: skip
    assert (
        models["led"]["origin"]["converted"] == ["pytorch_model.bin"] and not models["bigbird"]["origin"]["converted"]
    )
    assert models["led"]["origin"]["repository"] == "some/led" and set(models["led"]["sha256"]) == {
        "config.json",
        "model.safetensors",
    }
    for path in project.path.glob("resources/tokenizers/*/*/provenance.json"):
        facts = json.loads(path.read_text())
        assert facts["texts_equal"] == facts["texts_compared"] == 30
        assert facts["origin"]["repository"] == f"some/{path.parent.name.split('-')[0]}"

    served.stop()
    assert project.would_run() == {}
    # Another study of the same entries shares them; one that names them otherwise takes them from the cache.
    text = project.study.read_text()
    (project.path / "studies/other.yaml").write_text(text.replace("max_steps: 2", "max_steps: 1"))
    assert not set(project.would_run(study="other")) & {"download_dataset", "download_model", "make_tokenizer"}
    renamed = text.replace("  led: {", "  led2: {").replace("tokenizer: led}", "tokenizer: led2}")
    (project.path / "studies/other.yaml").write_text(renamed.replace("models: [led,", "models: [led2,"))
    project.run("--until", "download_model", "make_tokenizer", study="other")
    led = sorted(path.parent.name.split("-")[0] for path in project.path.glob("resources/models/*/model.json"))
    assert led == ["bigbird", "led", "led2"]


def contents(served: Hub) -> list[str]:
    """Paths of the requests for files' content, as `fetched` names them."""
    return [r.path for r in served.requests if r.method == "GET" and "/resolve/" in r.path]


def small(name: str) -> bool:
    """Whether a file comes without a redirect."""
    return name.endswith((".json", ".txt"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("some/led, revision: {led}", "some/led, revision: " + "a" * 40), "models.led: model repository some/led, "
         "revision a{40}: it has no such revision; its commits are at http"),
        (("repository: some/bigbird", "repository: some/bigbrid"), r"the hub has no such model repository"),
        (("some/led, revision: {led}", "some/led, revision: main"), "tokenizers.led.revision: the revision 'main' of "
         "some/led is no commit, .*: its commit is {led} now"),
        (("task: qmsum", "task: qasper"), r"datasets.qmsum: dataset repository tau/scrolls, .*: it has no qasper\.zip; it "
         r"has README\.md, qmsum\.zip, scrolls\.py"),
        (("seq_lens: [64]", "seq_lens: [256]"), "seq_len 256 is above the model's max_\\w+ of 128"),
        (("family: led", "family: ledd"), r"unknown family 'ledd' \(did you mean 'led'\?\); known: .*; a new one is one "
         r"module in workflow/lib/longwatt/models/ with the interface longwatt\.models\.family\.Family"),
        (("repository: some/led", "path: x, repository: some/led"), "a checkpoint comes from a `path`, or from a"),
    ],
)  # fmt: skip
def test_what_the_hub_has_not_is_named_before_anything_is_downloaded(project, served, change, said):
    led = served.repositories["model", "some/led"].branches["main"]
    old, new = (text.replace("{led}", led) for text in change)
    project.study.write_text(project.study.read_text().replace(old, new))
    output = " ".join(project.run(ok=False).split())
    import re

    assert re.search(said.replace("{led}", led), output), output[-1500:]
    assert "Traceback" not in output and not (project.path / "resources").exists()
    assert set(served.fetched()) <= {"config.json"}


def test_no_network_is_said_at_once_and_a_dry_run_does_without(project, served, tmp_path):
    served.stop()
    said = project.run(ok=False)
    assert "datasets.qmsum: dataset repository tau/scrolls" in said and "no connection to the hub" in said
    assert "set `mirror` in config.yaml to a folder or URL with its zip files" in said and "Traceback" not in said
    assert project.would_run()["download_model"] == 2
    assert "Congratulations" in project.run("--lint")

    mirror = tmp_path / "mirror"
    for (_, name), entry in served.repositories.items():
        for file, content in entry.commits[entry.branches["main"]].items():
            path = mirror / ("" if name == "tau/scrolls" else name) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    project.edit("config.yaml", "mirror: null", f"mirror: {mirror}")
    project.run("--until", "download_dataset", "download_model", "make_tokenizer")
    made = [os.path.basename(path.parent).split("-")[0] for path in project.path.glob("resources/models/*/model.json")]
    assert sorted(made) == ["bigbird", "led"]
