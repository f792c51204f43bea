"""The hub is asked for all that a study needs before any download, and gaps are named."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.datasets import scrolls
from longwatt.datasets.records import DatasetError, download
from longwatt.freshness.source_checks import dataset_files
from longwatt.hub import client
from longwatt.models import load_family
from longwatt.models.weights.download import download_model
from longwatt.startup.checks import check_hub, check_sources
from longwatt.startup.invocation import leases_gpus
from longwatt.study import settings
from longwatt.study.checks import checked_stages, known_configs
from longwatt.study.stages import Stages
from longwatt.tokens.special_tokens import load_tokenizer
from longwatt.tokens.tokenizers import make_tokenizer
from tests.hub_server import Fault
from tests.tiny_hub import repositories, study_of
from tests.unit.study.test_stages import asked


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return repositories(tmp_path_factory.mktemp("files"))


@pytest.fixture
def hub_of(served, files):
    """The hub with all three repositories."""
    for (kind, name), content in files.items():
        served.add(kind, name, content)
    return served


@pytest.fixture
def read(hub_of, tmp_path, study_schema, monkeypatch):
    """Reads the study, changed."""
    monkeypatch.chdir(tmp_path)

    def reader(old: str = "", new: str = "") -> Stages:
        text = study_of(hub_of)
        assert old in text
        path = tmp_path / "hub.yaml"
        path.write_text(text.replace(old, new))
        return checked_stages("hub", read_study(path, study_schema), {})

    return reader


def commit(served, name: str, kind: str = "model") -> str:
    return served.repositories[kind, name].branches["main"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("some/led, revision: {led}", "some/led, revision: " + "a" * 40,
         "models.led: model repository some/led, revision a{40}: it has no such revision; its "
         "commits are at http"),
        ("repository: some/bigbird", "repository: some/bigbrid",
         "bigbrid, .*: the hub has no such model repository"),
        ("task: qmsum", "task: qasper",
         r"datasets.qmsum: dataset repository tau/scrolls, .*: it has no qasper\.zip; "
         r"it has README\.md, qmsum\.zip, scrolls\.py"),
        ("seq_lens: [64]", "seq_lens: [256]", r"seq_len 256 is above the model's max_\w+ of 128"),
    ],
)  # fmt: skip
def test_what_the_hub_has_not_is_named_before_anything_is_downloaded(read, hub_of, old, new, said):
    led = commit(hub_of, "some/led")
    made = read(old.replace("{led}", led), new)
    check_sources(made)
    with pytest.raises(StudyError, match=said):
        check_hub(made, {})
    assert set(hub_of.fetched()) <= {"config.json"}, "lengths are checked against it"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("some/led, revision: {led}", "some/led, revision: main",
         "tokenizers.led.revision: the revision 'main' of some/led is no commit, .*: its commit "
         "is {led} now"),
        ("qmsum, revision: {data}", "qmsum, revision: main",
         "datasets.qmsum.revision: the revision 'main' of tau/scrolls is no commit, .*: its "
         "commit is {data} now"),
        ("some/led, revision: {led}", "some/led, revision: b d",
         r"led.revision: expected a commit of the repository, its 40 hexadecimal digits, but "
         r"found 'b d'"),
        ("repository: some/led, revision: {led}, tok", "repository: some/led, tok",
         "is a dependency of 'repository'"),
        ("repository: some/led, revision: {led}, tok", "tok",
         "models.led: a checkpoint comes from a `path`, or from"),
        ("repository: some/led", "path: x, repository: some/led",
         "tokenizers.led: a checkpoint comes from a `path`"),
        ("family: led", "family: ledd",
         r"unknown family 'ledd' \(did you mean 'led'\?\); known: .*led.*; a new one is "
         r"one module in workflow/lib/longwatt/models/ with the interface "
         r"longwatt\.models\.family\.Family"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_meant_is_refused_as_it_is_read(read, hub_of, old, new, said):
    known = {
        "{led}": commit(hub_of, "some/led"),
        "{data}": commit(hub_of, "tau/scrolls", "dataset"),
    }
    for name, value in known.items():
        old, said = old.replace(name, value), said.replace(name, value)
    with pytest.raises(StudyError, match=said):
        read(old, new)
    assert hub_of.fetched() == []


def test_a_gated_repository_is_named_at_once(read, hub_of):
    hub_of.repositories["model", "some/bigbird"].gated = True
    with pytest.raises(
        StudyError, match=r"models\.bigbird: .*it is gated\. Accept its terms at http"
    ):
        check_hub(read(), {})
    assert "pytorch_model.bin" not in hub_of.fetched()


def test_no_network_is_named_but_in_a_dry_run(read, hub_of):
    made = read()
    hub_of.stop()
    with pytest.raises(
        StudyError, match=r"datasets\.qmsum: .*no connection to the hub.*set `mirror`"
    ) as refused:
        check_hub(made, {})
    assert str(refused.value).count("without a connection, set") == 1
    check_hub(made, {"dryrun": True})


def test_a_busy_hub_is_left_to_the_job_which_is_patient(read, hub_of, naps):
    hub_of.faults.append(Fault("/api/", status=429, headers={"Retry-After": "60"}, times=99))
    check_hub(read(), {})
    assert naps == []


def test_a_dry_run_fetches_nothing_and_a_run_the_configurations(read, hub_of):
    made = read()
    check_hub(made, {"dryrun": True})
    assert hub_of.fetched() == []
    check_hub(made, {})
    assert hub_of.fetched() == ["config.json", "config.json"]
    assert known_configs(made)["led"]["max_encoder_position_embeddings"] == 128, (
        "known to lengths and run times"
    )


def test_what_was_made_needs_no_hub(read, hub_of):
    made = read()
    for stage in made.all():
        if stage.rule in ("download_dataset", "download_model", "make_tokenizer"):
            path = Path(stage.artefact)
            path.parent.mkdir(parents=True)
            path.write_text("{}")
    check_hub(made, {})
    assert hub_of.requests == []


@pytest.mark.parametrize(
    ("line", "asks"),
    [("--cores 2", True), ("-n", True), ("all partial", True), ("partial", False), ("plan", False),
     ("--lint", False),
     ("compare", False), ("--report r.html", False), ("--unlock", False)],
)  # fmt: skip
def test_only_what_may_fetch_asks(line, asks, root):
    assert leases_gpus(asked(line, root)) == asks


def test_a_mirror_serves_all_three_without_a_request(read, hub_of, files, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    for (_, name), content in files.items():
        for file, held in content.items():
            path = mirror / ("" if name == "tau/scrolls" else name) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(held)
    monkeypatch.setenv(client.MIRROR, str(mirror))
    made = read()
    check_sources(made)
    check_hub(made, {})
    for key in made.datasets:
        download(made.download_dataset(key).settings, tmp_path / "data", {})
    for key in made.models:
        download_model(made.download_model(key).settings, tmp_path / key, {})
    dataset = next(iter(made.datasets))
    for key in made.tokenizers:
        chosen = made.make_tokenizer(dataset, key).settings
        assert (
            make_tokenizer(chosen, tmp_path / "data/records.jsonl", tmp_path / f"t-{key}")[
                "tokens_differing"
            ]
            == 0
        )
        name = made.tokenizers[key]
        model, folder = made.study["models"][name], tmp_path / settings.model_key(made.study, name)
        tokenizer = load_tokenizer(tmp_path / f"t-{key}")
        load_family(model["family"]).build(model, tokenizer, folder, 64, 8)
    assert hub_of.requests == []
    facts = json.loads((tmp_path / "data/dataset.json").read_text())
    assert re.match(
        r"SCROLLS qmsum, .*/mirror/qmsum\.zip, unverified, sha256 [0-9a-f]{64}", facts["origin"]
    )
    assert re.match(
        r"unverified: nothing says that .*/mirror/qmsum\.zip is of dataset repository",
        facts["notes"][0],
    )
    for key in made.models:
        assert (
            json.loads((tmp_path / key / "model.json").read_text())["origin"]["verified"] is False
        )


def test_a_mirrors_zip_is_compared_with_what_was_noted_as_it_was_downloaded(
    hub_of, tmp_path, monkeypatch
):
    revision = commit(hub_of, "tau/scrolls", "dataset")
    hf_hub_download(
        "tau/scrolls",
        "qmsum.zip",
        repo_type="dataset",
        revision=revision,
        local_dir=tmp_path / "mirror",
    )
    monkeypatch.setenv(client.MIRROR, str(tmp_path / "mirror"))
    options = {"task": "qmsum", "revision": revision}
    found = scrolls.read(options)
    assert found.notes == [] and "unverified" not in found.origin
    with pytest.raises(
        client.HubError,
        match=rf"qmsum\.zip is of revision {revision}, but the study pins .*a{{40}}",
    ):
        scrolls.read({**options, "revision": "a" * 40})
    path = tmp_path / "mirror/qmsum.zip"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(client.HubError, match=r"qmsum\.zip is damaged: it has not the checksum"):
        scrolls.read(options)


def test_a_zip_that_the_study_gives_the_digest_of_is_no_matter_of_doubt(
    hub_of, files, tmp_path, monkeypatch
):
    content = files["dataset", "tau/scrolls"]["qmsum.zip"]
    (tmp_path / "qmsum.zip").write_bytes(content)
    monkeypatch.setenv(client.MIRROR, str(tmp_path))
    options = {"task": "qmsum", "revision": "a" * 40}
    assert "unverified" in scrolls.read(options).origin
    assert scrolls.read({**options, "sha256": hashlib.sha256(content).hexdigest()}).notes == []


def test_credentials_of_a_mirror_are_never_shown(hub_of, monkeypatch):
    monkeypatch.setenv(client.MIRROR, hub_of.url.replace("//", "//user:s3cret@"))
    with pytest.raises(DatasetError, match=f"{hub_of.url}/qmsum.zip cannot be fetched") as refused:
        scrolls.read({"task": "qmsum", "revision": "a" * 40})
    assert "s3cret" not in str(refused.value)


def test_a_task_comes_from_the_hub_where_the_mirror_has_it_not(read, hub_of, tmp_path, monkeypatch):
    monkeypatch.setenv(client.MIRROR, str(tmp_path))
    made = read()
    (key,) = made.datasets
    before = made.download_dataset(key).settings
    download(before, tmp_path / "data", {})
    revision = commit(hub_of, "tau/scrolls", "dataset")
    origin = json.loads((tmp_path / "data/dataset.json").read_text())["origin"]
    assert f"dataset repository tau/scrolls, revision {revision}: qmsum.zip, sha256 " in origin
    assert dataset_files(made, key) == [] and hub_of.fetched() == ["qmsum.zip"]
