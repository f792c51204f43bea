"""What is refused before anything runs, and how jobs are allotted."""

import os
import re

import pytest
from bench.stand_in_gpus import STAND_IN

from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project


@pytest.fixture
def project(tmp_path) -> Project:
    """A tiny study that has not run."""
    return Project.create(tmp_path / "project")


def want_gpus(project: Project, count: int) -> None:
    project.edit("studies/tiny.yaml", "cpu: {gpus: 0,", f"cpu: {{gpus: {count},")


def with_stand_ins(project: Project, count: int) -> dict[str, str]:
    (project.path / "pynvml.py").write_text(STAND_IN)
    found = {"PYTHONPATH": str(project.path)}
    return {**found, "STAND_IN_GPUS": ",".join(f"GPU-{n}=x" for n in range(count))}


def test_a_budget_above_the_devices_found_is_refused(project):
    want_gpus(project, 1)
    said = project.run("-n", ok=False, **with_stand_ins(project, 0))
    assert "cell needle/led/32/cpu/generated/seed1 needs 1 GPU(s) but the limit is 0" in said
    assert "--resources gpu=1" in said and "Traceback" not in said


def test_a_budget_above_a_given_limit_is_refused_and_never_clamped(project):
    want_gpus(project, 8)
    assert "needs 8 GPU(s) but the limit is 4" in project.run(
        "-n", "--resources", "gpu=4", ok=False
    )
    said = project.run("-n", "--quiet", "host", "--resources", "gpu=8")
    assert re.findall(r"resources: .*gpu=(\d+)", said) == ["8"] * 4


def test_the_limit_defaults_to_the_devices_found(project):
    want_gpus(project, 2)
    project.run("-n", **with_stand_ins(project, 2))
    want = project.run("-n", ok=False, **with_stand_ins(project, 1))
    assert "needs 2 GPU(s) but the limit is 1" in want


def test_an_outer_restriction_lowers_the_limit(project):
    want_gpus(project, 2)
    environment = {**with_stand_ins(project, 2), "CUDA_VISIBLE_DEVICES": "GPU-1"}
    assert "the limit is 1" in project.run("-n", ok=False, **environment)


@pytest.mark.parametrize("jobs", [("-j", "8"), ("--jobs", "8")])
def test_a_number_of_jobs_makes_no_cluster(project, jobs):
    want_gpus(project, 8)
    assert "needs 8 GPU(s) but the limit is 0" in project.run(
        "-n", *jobs, ok=False, **with_stand_ins(project, 0)
    )


@pytest.mark.parametrize(("each", "threads"), [("auto", "1"), ("all", "2"), ("9", "2")])
def test_jobs_on_the_cpu_take_the_cores_of_a_cell(project, each, threads):
    project.edit("config.yaml", "cores_per_cell: auto", f"cores_per_cell: {each}")
    said = project.run("-n", "--quiet", "host")
    blocks = re.findall(r"^rule (?:finetune|predict):\n((?: .*\n)+)", said, flags=re.MULTILINE)
    assert len(blocks) == 4 and all("gpu=0, on_cpu=1" in block for block in blocks)
    found = [re.findall(r"threads: (\d+)", block) or ["1"] for block in blocks]  # one is not said
    assert found == [[threads]] * 4


def test_cores_that_are_no_number_are_refused(project):
    project.edit("config.yaml", "cores_per_cell: auto", "cores_per_cell: half")
    said = project.run("-n", ok=False)
    assert (
        "cores_per_cell: expected auto, all or a number of cores from 1, but found 'half'" in said
    )
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("family: led", "family: ledd", "unknown family 'ledd' (did you mean 'led'?)"),
        ("source: needle", "source: needel", "unknown source 'needel' (did you mean 'needle'?)"),
        ("tokenizer: bpe", "tokenizer: bep", "unknown tokenizer 'bep' (did you mean 'bpe'?)"),
        ("words_per_document: 40", "words_per_documents: 40", "datasets.needle.options"),
        ("budgets: [cpu]", "budgets: [gpu]", "unknown budget 'gpu' (did you mean 'cpu'?)"),
        (
            "per_device_batch_size: 4}",
            "per_device_batch_size: {led: {32: 4}}}",
            "has no entry '64'",
        ),
        ("learning_rate:", "learningrate:", "did you mean 'learning_rate'?"),
        (
            "grid:",
            "claims: {c: {statement: s, tests: [{value: {column: scor, above: 0}}]}}\ngrid:",
            "claims.c.tests[0].value: unknown column 'scor' (did you mean 'score'?)",
        ),
        ("gpus: 0,", "gpus: 1, processes: 2,", "budgets.cpu.processes is for budgets without GPUs"),
        ("_size: 4}", "_size: largest}", "the largest batch on a CPU needs memory_gib_per_gpu"),
        (
            "seq_lens: [32, 64]",
            "seq_lens: [32, 256]",
            "cell needle/led/256/cpu/generated/seed1: seq_len 256 is above",
        ),
        (
            "max_target_tokens: 8",
            "max_target_tokens: 40",
            "40 is above the model's max_decoder_position_embeddings of 32",
        ),
    ],
)
def test_a_wrong_setting_stops_the_run_with_its_name(project, old, new, said):
    project.edit("studies/tiny.yaml", old, new)
    output = project.run(ok=False)
    assert (said in output and "tiny.yaml" in output) or "budgets.cpu" in output
    assert "Traceback" not in output and not (project.path / "results").exists()


def test_an_unknown_study_and_a_misspelt_config_key_are_named(project):
    project.edit("config.yaml", "watts_per_core:", "wats_per_core:")
    assert "unknown key 'wats_per_core' (did you mean 'watts_per_core'?)" in project.run(
        "-n", ok=False
    )
    project.edit("config.yaml", "wats_per_core:", "watts_per_core:")
    project.study.rename(project.study.with_name("tinny.yaml"))
    assert "does not exist (did you mean 'tinny'?)" in project.run("-n", ok=False)


def test_studies_share_what_is_equal_and_keep_apart_what_is_not(project):
    def datasets(study: str) -> set[str]:
        said = project.run("-n", "--quiet", "host", study=study)
        return set(re.findall(r"resources/datasets/(needle-\w+)/records", said))

    same, other = (project.study.with_name(f"{name}.yaml") for name in ("same", "other"))
    same.write_text(TINY_STUDY.replace("title: Tiny", "title: Same data, another study"))
    other.write_text(TINY_STUDY.replace("train: 64", "train: 65"))
    assert datasets("tiny") == datasets("same")
    assert len(datasets("tiny") | datasets("other")) == 2


def test_every_profile_repeats_what_must_always_hold(root):
    import yaml

    profiles = sorted((root / "profiles").glob("*/config.yaml"))
    assert profiles
    for path in profiles:
        profile = yaml.safe_load(path.read_text())
        assert profile["rerun-triggers"] == ["params", "input", "mtime", "software-env"], path
        assert profile["rerun-incomplete"] is True and profile["keep-going"] is True, path
        assert "gpu" not in str(profile.get("resources", "")), (
            "the limit is the number of devices found"
        )
    assert os.environ.get("SNAKEMAKE_PROFILE") is None
