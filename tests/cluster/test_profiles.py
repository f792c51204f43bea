"""What the profiles say, and what needs no Slurm to be seen."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT, TINY_STUDY
from tests.workflow.conftest import Project

DEFAULT = ROOT / "profiles/default/config.yaml"
OTHERS = [ROOT / "profiles" / name / "config.yaml" for name in ("node", "slurm")]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.parent.name)
def test_a_profile_repeats_what_the_default_one_says(path):
    expected, profile = (yaml.safe_load(one.read_text()) for one in (DEFAULT, path))
    if "executor" in profile:  # jobs elsewhere cannot name themselves on this terminal
        assert "rules" not in profile["quiet"]
        expected.pop("quiet")
        # A log of a login node shows no bars, and jobs elsewhere none at all.
        expected = {key: one for key, one in expected.items() if not template(key)}
    assert {key: profile.get(key) for key in expected} == expected


def template(key: str) -> bool:
    """Whether a key is of Snakemake's template language."""
    return key.startswith(("__", "?"))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.parent.name)
def test_every_key_of_a_profile_is_commented(path):
    lines = path.read_text().splitlines()
    keys = [(number, line) for number, line in enumerate(lines) if re.match(r"\s*[\w-]+:", line)]
    assert keys
    above = [(line, lines[number - 1].lstrip()) for number, line in keys if "#" not in line]
    bare = [line for line, comment in above if not comment.startswith("#")]
    assert [line for line in bare if not line.endswith(":")] == []


def test_local_rules_exist():
    snakefile = (ROOT / "workflow/Snakefile").read_text()
    listed = snakefile.partition("workflow.localrules(")[2].partition("]")[0]
    names = set(re.findall(r'"(\w+)"', listed))
    assert {"all", "plan", "download_dataset"} < names
    rules = (ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk"))
    text = "\n".join(path.read_text() for path in rules)
    assert names <= set(re.findall(r"^rule (\w+):", text, flags=re.MULTILINE))


def test_the_plugin_is_pinned():
    plugin = (ROOT / "envs/requirements-slurm.txt").read_text().splitlines()[-1]
    assert re.fullmatch(r"snakemake-executor-plugin-slurm==[\d.]+", plugin)
    assert (
        "snakemake-executor-plugin-slurm-jobstep==" in (ROOT / "envs/constraints.txt").read_text()
    )
    assert "snakemake-executor" not in (ROOT / "envs/requirements.txt").read_text(), (
        "a plain installation needs none"
    )


@pytest.fixture
def login_node(tmp_path) -> Project:
    """A study of a cell on eight GPUs, on a machine that has none."""
    if not importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        pytest.skip(
            "snakemake-executor-plugin-slurm is not installed (envs/requirements-slurm.txt)"
        )
    study = TINY_STUDY.replace("cpu: {gpus: 0,", "cpu: {gpus: 8,").replace("[32, 64]", "[64]")
    return Project.create(tmp_path / "project", study)


def dry_run(project: Project, *arguments: str) -> str:
    command = [
        sys.executable, "-m", "snakemake", "-n", "--workflow-profile", "profiles/slurm", *arguments,
    ]  # fmt: skip
    command += ["--config", "study=tiny"]
    done = subprocess.run(
        command, cwd=project.path, env=project.environment(), capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_a_login_node_needs_no_gpus(login_node):
    said = dry_run(login_node)
    finetune = re.search(
        r"^rule finetune:.*?resources: ([^\n]*)", said, flags=re.DOTALL | re.MULTILINE
    ).group(1)
    assert {"gpu=8", "nodes=1", "runtime=1440", "slurm_extra=--signal=TERM@300"} <= set(
        finetune.split(", ")
    )


def test_what_runs_beside_snakemake_waits_for_no_job_with_a_gpu(login_node):
    said = dry_run(login_node)

    def urgency(rule: str) -> int:
        pattern = rf"^(?:local)?rule {rule}:.*?priority: (\d+)"
        return int(re.search(pattern, said, re.DOTALL | re.MULTILINE).group(1))

    assert urgency("tokenize_dataset") > urgency("score") == urgency("summarize_energy")
    assert urgency("score") > urgency("finetune")


def test_threads_follow_from_a_number_of_cores_per_gpu_and_an_expression_is_refused(login_node):
    profile = login_node.path / "profiles/slurm/config.yaml"
    said = dry_run(login_node, "--cores", "64")
    assert re.search(r"^rule finetune:.*?threads: 64", said, re.DOTALL | re.MULTILINE)
    profile.write_text(profile.read_text().replace("cpus_per_gpu: 8", "cpus_per_gpu: attempt * 4"))
    said = dry_run(login_node)
    assert "cpus_per_gpu must be a number" in said and "Traceback" not in said


def test_a_limit_that_the_user_gives_is_kept_on_a_cluster(login_node):
    assert "needs 8 GPU(s) but the limit is 4" in dry_run(login_node, "--resources", "gpu=4")


def test_what_leases_no_gpu_needs_none(login_node):
    assert "1 cells: 1 not started" in login_node.run("partial")
    login_node.run("--unlock")
    assert "GPU" not in login_node.run("--report", "report.html", ok=False), (
        "it is refused for its missing summary"
    )
