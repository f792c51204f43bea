"""Bad input is found before any training, named, and costs nothing that was there."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import zipfile

import pytest

from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

CAPBSET_DROP, DAC_OVERRIDE = 24, 1  # <linux/prctl.h>, <linux/capability.h>
NEEDLE = TINY_STUDY[TINY_STUDY.index("  needle:") : TINY_STUDY.index("tokenizers:")]
OWN = """  own:
    source: jsonl
    options: {files: {train: data/train.jsonl, validation: data/validation.jsonl}}
    metric: f1
    training: {max_target_tokens: 8}
"""
TASK = OWN.replace("source: jsonl", "source: scrolls").replace(
    "{files: {train: data/train.jsonl, validation: data/validation.jsonl}}", "{task: qasper}"
)
ONE_LENGTH = TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [32]")


def rows(count: int) -> str:
    return "".join(
        json.dumps({"id": str(n), "input": f"the word {n} of it", "output": f"{n}"}) + "\n"
        for n in range(count)
    )


def project_with(path, dataset: str, both: bool = False) -> Project:
    """A study of its own data, beside needle or alone."""
    study = ONE_LENGTH.replace(NEEDLE, (NEEDLE if both else "") + dataset)
    study = study.replace(
        "datasets: [needle]", "datasets: [needle, own]" if both else "datasets: [own]"
    )
    project = Project.create(path / "project", study)
    (project.path / "data").mkdir()
    (project.path / "data/train.jsonl").write_text(rows(40))
    (project.path / "data/validation.jsonl").write_text(rows(10))
    return project


def trained(project: Project) -> list:
    return list(project.path.glob("logs/**/finetune.log"))


DATA_ONLY = ("--until", "download_dataset")


@pytest.mark.long
def test_a_change_of_own_data_makes_them_again(tmp_path):
    project = project_with(tmp_path, OWN)
    project.run(*DATA_ONLY)
    assert project.would_run(*DATA_ONLY) == {}
    (project.path / "data/validation.jsonl").write_text(rows(11))
    assert project.would_run()["download_dataset"] == 1
    project.run(*DATA_ONLY)
    own = project.path / "data/train.jsonl"
    own.touch()
    assert project.would_run(*DATA_ONLY) == {}, "it holds what it held"
    assert not (project.path / "resources/sources.json").exists(), "a dry run writes nothing"
    older = project.path / "data/older.jsonl"
    older.write_text(rows(41))
    os.utime(older, (1.5e9, 1.5e9))
    shutil.copy2(older, own)
    assert project.would_run()["download_dataset"] == 1, "nor is it newer for that"
    said = project.run(*DATA_ONLY)
    assert "files that have changed since" in said and "dataset.json: data/train.jsonl" in said
    own.unlink()
    assert project.would_run(*DATA_ONLY) == {}, "what was made stays when its source is gone"


@pytest.mark.long
def test_a_bad_row_stops_its_dataset_before_any_training_and_nothing_else(tmp_path):
    project = project_with(tmp_path, OWN, both=True)
    with (project.path / "data/train.jsonl").open("a") as stream:
        stream.write('{"id": "x", "input": "y"}\n')
    said = project.run(ok=False)
    message = "data/train.jsonl, line 41: the field 'output' is missing; the row has 'id', 'input'"
    assert f"DatasetError: {message}" in said
    assert said.index(message) < said.index("attempt 1 starts"), (
        "bad data shows before any training"
    )
    assert (
        project.results / "needle/led/32/cpu/generated/seed1/predict/greedy/scores.json"
    ).exists()
    assert [log for log in trained(project) if "own" in str(log)] == []

    (project.path / "data/train.jsonl").write_text(rows(40))
    would = project.would_run()
    assert would["finetune"] == 1 and would["download_dataset"] == 1, "only what failed is made"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "train.jsonl",
            b'{"id": "1", "input": "x", "output": "y"\n',
            "data/train.jsonl, line 1 is not JSON",
        ),
        (
            "train.jsonl",
            b'{"id": "1", "input": "\xe9", "output": "y"}\n',
            "data/train.jsonl, line 1 is not UTF-8",
        ),
        (
            "validation.jsonl",
            b'{"id": "1", "input": "x", "output": []}\n',
            "line 1: the field 'output' has no reference",
        ),
        ("validation.jsonl", b"", "data/validation.jsonl is empty: it has no bytes"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, said):
    project = project_with(tmp_path, OWN)
    (project.path / "data" / name).write_bytes(content)
    output = project.run(ok=False)
    assert said in output and "FAILED" in output
    assert not list(project.path.glob("results/**/scores.json"))


def test_a_file_that_is_not_there_is_named_before_anything_runs(tmp_path):
    project = project_with(tmp_path, OWN)
    (project.path / "data/train.jsonl").unlink()
    said = project.run(ok=False)
    assert "datasets.own: data/train.jsonl does not exist" in said and "Traceback" not in said
    assert not trained(project) and not list((project.path / "resources").glob("*"))


def make_mirror(project: Project) -> None:
    with zipfile.ZipFile(project.path / "data/qasper.zip", "w") as archive:
        for split in ("train", "validation"):
            archive.writestr(f"qasper/{split}.jsonl", rows(40))


@pytest.mark.long
def test_a_mirror_is_named_in_the_configuration_and_may_move(tmp_path):
    project = project_with(tmp_path, TASK)
    said = project.run("-n", ok=False)
    assert (
        "datasets.own: no mirror is set to take qasper.zip from" in said and "Traceback" not in said
    )
    project.edit("config.yaml", "mirror: null", "mirror: data")
    said = project.run("-n", ok=False)
    assert "the mirror data has no qasper.zip; it has no zip files" in said
    make_mirror(project)
    project.run(*DATA_ONLY)
    (project.path / "data").rename(project.path / "elsewhere")
    assert project.would_run(*DATA_ONLY) == {}, "what was made needs no mirror"
    project.edit("config.yaml", "mirror: data", "mirror: elsewhere")
    assert project.would_run(*DATA_ONLY) == {}, "nor does its place matter"


@pytest.mark.parametrize(
    ("options", "damage", "said"),
    [
        (
            f"{{task: qasper, sha256: '{'0' * 64}'}}",
            lambda content: content,
            f"but the study expects {'0' * 64}",
        ),
        ("{task: qasper}", lambda content: content[:-200], "data/qasper.zip is damaged or no zip"),
        (
            "{task: qasper, splits: [train, validation, test]}",
            lambda content: content,
            "has no qasper/test.jsonl",
        ),
    ],
)
def test_a_bad_zip_is_named(tmp_path, options, damage, said):
    project = project_with(tmp_path, TASK.replace("{task: qasper}", options))
    project.edit("config.yaml", "mirror: null", "mirror: data")
    make_mirror(project)
    path = project.path / "data/qasper.zip"
    path.write_bytes(damage(path.read_bytes()))
    assert said in project.run(ok=False)
    assert not trained(project)


CHECKPOINT = {"initialisation: random": "initialisation: checkpoint\n    path: data"}
WINDOW = "attention_window: 16, max_encoder_position_embeddings: 128"
TOO_SHORT = {
    "family: led": "family: bigbird_pegasus",
    WINDOW: "block_size: 8, num_random_blocks: 1",
    "max_decoder_position_embeddings: 32": "attention_type: block_sparse",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"greedy: {split: validation": "greedy: {split: test"},
            "inference.greedy.split needs the split 'test', but",
        ),
        (
            {"every_steps: 4": "split: test, every_steps: 4"},
            "training.validation.split needs the split 'test'",
        ),
        (
            {"{files: {train: data/train.jsonl, ": "{files: {"},
            "training needs the split 'train', but datasets.own",
        ),
        (
            {"seeds: [1]}": "seeds: [1]}\nexclude:\n  - {model: led, reason: too large}"},
            "all 1 cells fall to `exclude`",
        ),
        ({"seq_lens: [32]": "seq_lens: [4]"}, "grid.0.seq_lens.0: 4 is less than the minimum of 8"),
        ({"datasets: [own]": "datasets: [owm]"}, "unknown dataset 'owm' (did you mean 'own'?)"),
        ({"models: [led]": "models: [ledd]"}, "unknown model 'ledd' (did you mean 'led'?)"),
        (CHECKPOINT, "models.led: data is no checkpoint folder: it has no config.json"),
        (
            {"{kind: byte_level_bpe, vocab_size: 600}": "{kind: checkpoint, path: data}"},
            "data has no tokenizer.json",
        ),
        (
            TOO_SHORT,
            "seq_len 32 is too short for block-sparse attention, which needs more than 56 tokens",
        ),
    ],
)
def test_a_study_that_cannot_run_is_refused_at_once(tmp_path, changes, said):
    project = project_with(tmp_path, OWN)
    for old, new in changes.items():
        project.edit("studies/tiny.yaml", old, new)
    output = project.run(ok=False)
    assert said in output and "tiny.yaml" in output and "Traceback" not in output
    assert not trained(project) and not (project.path / "results").exists()


def without_override() -> None:
    """Give up root's right to write anywhere, so that a folder's permissions hold in this test."""
    ctypes.CDLL(None, use_errno=True).prctl(CAPBSET_DROP, DAC_OVERRIDE, 0, 0, 0)


def test_a_read_only_results_folder_is_refused_before_anything_runs(tmp_path):
    project = Project.create(tmp_path / "project")
    (project.path / "results").mkdir(mode=0o555)
    probe = subprocess.run(
        ["touch", str(project.path / "results/x")],
        preexec_fn=without_override,
        stderr=subprocess.DEVNULL,
    )
    if probe.returncode == 0:
        pytest.skip("this user may write anywhere and cannot give that up")
    said = project.run(ok=False, before=without_override)
    assert "results cannot be written to" in said and "--directory" in said
    assert "Traceback" not in said and not (project.path / "resources").exists()
    os.chmod(project.path / "results", 0o755)  # noqa: PTH101 - so that pytest can clean up


@pytest.mark.long
def test_a_full_disk_leaves_nothing_that_looks_finished(finished, tmp_path):
    """Room enough for data and tokens, but not for weights."""
    project = Project.create(tmp_path / "project", ONE_LENGTH)

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    said = project.run(ok=False, before=small_disk)
    assert "FAILED" in said and "too large" in said.lower(), said[-3000:]
    for path in project.path.glob("re*/**/*.json"):
        json.loads(path.read_text())
    assert list(project.path.glob("resources/tokenized/**/tokenized.json")), "the data fit"
    assert not list(project.results.glob("**/training.json"))
    project.run()
    found, expected = (
        json.loads((p.cell(32) / "predict/greedy/scores.json").read_text())
        for p in (project, finished)
    )
    assert {k: found[k] for k in ("score", "rougeL")} == {
        k: expected[k] for k in ("score", "rougeL")
    }
