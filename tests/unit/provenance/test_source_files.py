"""Files that data, weights and tokenizers are read from, and what changed since."""

import json
import os
import shutil
from pathlib import Path

import pytest

from longwatt.config.studies import read_study
from longwatt.datasets.records import DatasetError, download
from longwatt.freshness import source_checks
from longwatt.freshness.source_checks import KNOWN
from longwatt.hub import client
from longwatt.models.weights.download import download_model
from longwatt.provenance.source_files import (
    KnownDigests,
    SourceChanged,
    differences,
    recorded_facts,
)
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages
from longwatt.tokens.tokenizers import make_tokenizer
from tests.conftest import TINY_STUDY

FILES = "{files: {train: data/train.jsonl, validation: data/validation.jsonl}}"
OWN = TINY_STUDY.replace(
    TINY_STUDY[TINY_STUDY.index("    source: needle") : TINY_STUDY.index("    metric: f1")],
    f"    source: jsonl\n    options: {FILES}\n",
)
MIRROR = OWN.replace("source: jsonl", "source: scrolls").replace(FILES, "{task: qasper}")


def rows(count: int, word: str = "word") -> str:
    return "".join(
        json.dumps({"id": str(n), "input": f"a {word}", "output": word}) + "\n"
        for n in range(count)
    )


def stages(schema: Path, text: str = OWN) -> Stages:
    Path("tiny.yaml").write_text(text)
    return checked_stages("tiny", read_study(Path("tiny.yaml"), schema), {})


def make(found: Stages) -> Path:
    """Read the study's one dataset; its artefact."""
    (key,) = found.datasets
    stage = found.download_dataset(key)
    download(stage.settings, Path(stage.artefact).parent, {"settings": dict(stage.settings)})
    return Path(stage.artefact)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Two files of data in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(client.MIRROR, raising=False)
    Path("data").mkdir()
    for split in ("train", "validation"):
        Path(f"data/{split}.jsonl").write_text(rows(5))
    return Path("data/train.jsonl")


def changed(found: Stages) -> list[str]:
    return [
        file
        for files in source_checks.changed(found, KnownDigests(KNOWN)).values()
        for file in files
    ]


def replace_by(path: Path, text: str, *, time: float | None = None) -> None:
    """Put another file in a file's place, as `cp -p` does: with a time of its own."""
    other = path.with_name("other")
    other.write_text(text)
    if time is not None:
        os.utime(other, (time, time))
    other.replace(path)


def test_every_file_is_recorded_with_size_times_and_digest(own, study_schema):
    facts = json.loads(make(stages(study_schema)).read_text())
    first, _ = facts["sources"]
    there = own.stat()
    assert first["path"] == "data/train.jsonl"
    assert (first["size"], first["mtime_ns"]) == (there.st_size, there.st_mtime_ns)
    assert len(first["sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "time"),
    [(rows(6), 1.5e9), (rows(5, "else"), 1.5e9), (rows(5, "else"), None), (rows(5, "some"), 0.0)],
    ids=["older and longer", "older", "newer", "of the beginning of time"],
)
def test_other_contents_are_seen_whatever_their_time(own, study_schema, text, time):
    found = stages(study_schema)
    make(found)
    assert changed(found) == []
    replace_by(own, text, time=time)
    assert changed(found) == ["data/train.jsonl"]


def test_other_contents_of_equal_size_and_time_are_seen_too(own, study_schema):
    found = stages(study_schema)
    make(found)
    there = own.stat()
    replace_by(own, rows(5, "drow"))
    os.utime(own, ns=(there.st_atime_ns, there.st_mtime_ns))
    assert (own.stat().st_size, own.stat().st_mtime_ns) == (there.st_size, there.st_mtime_ns)
    assert changed(found) == ["data/train.jsonl"]


def test_equal_contents_are_read_once_and_remembered(own, study_schema, monkeypatch):
    found = stages(study_schema)
    make(found)
    own.touch()
    read = []
    digest = __import__("longwatt.provenance.source_files", fromlist=["sha256"]).sha256
    monkeypatch.setattr(
        "longwatt.provenance.source_files.sha256", lambda path: read.append(path) or digest(path)
    )
    assert changed(found) == [] and read == [own]
    assert not KNOWN.exists(), "looking writes nothing"
    assert source_checks.set_aside(found, KnownDigests(KNOWN)) == {}
    assert changed(found) == [] and read == [own, own], "remembered now"


def test_nothing_is_read_where_nothing_was_touched(own, study_schema, monkeypatch):
    found = stages(study_schema)
    make(found)
    monkeypatch.setattr(
        "longwatt.provenance.source_files.sha256", lambda path: pytest.fail(f"{path} is read")
    )
    assert changed(found) == []


def test_a_file_that_is_gone_leaves_what_was_made_of_it(own, study_schema):
    found = stages(study_schema)
    make(found)
    Path("data/validation.jsonl").write_text(rows(9))
    own.unlink()
    assert changed(found) == []


def test_a_link_to_another_file_is_another_file(own, study_schema):
    for name in ("one", "other"):
        Path(f"data/{name}").write_text(rows(5, name))
        os.utime(f"data/{name}", (1.5e9, 1.5e9))
    own.unlink()
    own.symlink_to("one")
    found = stages(study_schema)
    make(found)
    own.unlink()
    own.symlink_to("other")
    assert changed(found) == ["data/train.jsonl"]


def test_what_an_older_version_made_goes_by_time(own, study_schema):
    found = stages(study_schema)
    artefact = make(found)
    facts = json.loads(artefact.read_text())
    artefact.write_text(
        json.dumps({name: value for name, value in facts.items() if name != "sources"})
    )
    assert changed(found) == []
    os.utime(artefact, (1e9, 1e9))
    assert changed(found) == ["data/train.jsonl", "data/validation.jsonl"]


def test_artefacts_are_set_aside_and_come_back_with_their_files(own, study_schema):
    found = stages(study_schema)
    artefact = make(found)
    kept = Path(shutil.copy2(own, "kept"))
    replace_by(own, rows(7))
    assert source_checks.changed(found, KnownDigests(KNOWN)) and artefact.exists(), (
        "looking renames nothing"
    )
    aside = source_checks.set_aside(found, KnownDigests(KNOWN))
    assert aside == {str(artefact): ["data/train.jsonl"]} and not artefact.exists()
    assert str(artefact) in source_checks.describe_changes(aside)
    kept.replace(own)
    assert source_checks.set_aside(found, KnownDigests(KNOWN)) == {} and artefact.exists()


def test_what_was_set_aside_never_comes_back_beside_newer_records(own, study_schema):
    found = stages(study_schema)
    artefact = make(found)
    kept = Path(shutil.copy2(own, "kept"))
    replace_by(own, rows(7))
    source_checks.set_aside(found, KnownDigests(KNOWN))
    make(found)
    artefact.unlink()
    kept.replace(own)
    source_checks.set_aside(found, KnownDigests(KNOWN))
    assert not artefact.exists()


def test_a_mirrors_zip_counts_wherever_the_mirror_is(tmp_path, study_schema, monkeypatch):
    import zipfile

    monkeypatch.chdir(tmp_path)

    def mirror(name: str, count: int) -> None:
        Path(name).mkdir(exist_ok=True)
        with zipfile.ZipFile(f"{name}/qasper.zip", "w") as archive:
            for split in ("train", "validation"):
                archive.writestr(zipfile.ZipInfo(f"qasper/{split}.jsonl"), rows(count))
        monkeypatch.setenv(client.MIRROR, name)

    mirror("one", 5)
    found = stages(study_schema, MIRROR)
    make(found)
    mirror("other", 5)
    assert changed(found) == [], "the same zip elsewhere"
    mirror("other", 6)
    assert changed(found) == ["other/qasper.zip"]
    digest = "0" * 64
    pinned = stages(
        study_schema, MIRROR.replace("{task: qasper}", f"{{task: qasper, sha256: '{digest}'}}")
    )
    (key,) = pinned.datasets
    artefact = Path(pinned.download_dataset(key).artefact)
    artefact.parent.mkdir(parents=True)
    artefact.write_text(
        json.dumps({"sources": [{"path": "mirror:qasper.zip", "size": 1, "sha256": digest}]})
    )
    assert changed(pinned) == [], "the study says which contents it means"
    monkeypatch.delenv(client.MIRROR)
    assert changed(found) == []


def test_a_checkpoint_and_its_tokenizer_may_gain_lose_and_change_files(own, study_schema):
    folder = Path("model")
    folder.mkdir()
    for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    text = OWN.replace("initialisation: random", f"initialisation: checkpoint\n    path: {folder}")
    text = text.replace(
        "bpe: {kind: byte_level_bpe, vocab_size: 600}", f"bpe: {{kind: checkpoint, path: {folder}}}"
    )
    found = stages(study_schema, text)
    (key,), ((dataset, tokenizer),) = found.models, found.pairs()
    model = found.download_model(key)
    download_model(model.settings, Path(model.artefact).parent, {})
    made = found.make_tokenizer(dataset, tokenizer)
    facts = make_tokenizer(made.settings, Path("none"), Path(made.artefact).parent)
    Path(made.artefact).write_text(json.dumps(facts))
    assert source_checks.changed(found, KnownDigests(KNOWN)) == {}

    (folder / "tokenizer_config.json").write_text("{}")
    both = source_checks.changed(found, KnownDigests(KNOWN))
    assert both == {
        path: ["model/tokenizer_config.json"] for path in (model.artefact, made.artefact)
    }
    (folder / "tokenizer_config.json").unlink()
    (folder / "model-2.safetensors").rename("kept")
    assert changed(found) == ["model-2.safetensors"]
    Path("kept").rename(folder / "model-2.safetensors")
    replace_by(folder / "model-1.safetensors", "[]", time=1.5e9)
    assert changed(found) == ["model/model-1.safetensors"]
    shutil.rmtree(folder)
    assert changed(found) == [], "what was copied is whole"


def test_a_file_that_is_written_to_while_it_is_read_is_named(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    with (
        pytest.raises(SourceChanged, match="changed while it was read"),
        recorded_facts({"a": path}),
    ):
        path.write_text("two, longer")


def test_a_dataset_whose_file_changes_under_it_is_refused(own, monkeypatch, tmp_path):
    from longwatt.datasets import jsonl

    reader = jsonl.read

    def meanwhile(options):
        found = reader(options)
        own.write_text(rows(8))
        return found

    monkeypatch.setattr(jsonl, "read", meanwhile)
    files = {"train": str(own)}
    with pytest.raises(DatasetError, match=r"train\.jsonl changed while it was read"):
        download({"source": "jsonl", "options": {"files": files}}, tmp_path / "out", {})


def test_what_cannot_be_remembered_is_read_again(tmp_path):
    (tmp_path / "a").write_text("x")
    known = KnownDigests(tmp_path / "a" / "no folder" / "known.json")
    assert len(known.of(tmp_path / "a")) == 64
    known.save()
    assert differences(tmp_path / "a", {}, known) == []
