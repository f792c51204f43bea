"""Jobs in an environment of their own: `--sdm conda` and `--sdm apptainer`, by stand-ins.

What the real programs would install is not seen here. Snakemake's command lines, the files that
jobs see, and the package that they import are.
"""

import json
import os
import shutil

import pytest
import yaml

from tests import stand_ins
from tests.conftest import ROOT, TINY_STUDY
from tests.workflow.conftest import Project

ONE_CELL = TINY_STUDY.replace("[32, 64]", "[32]")
# Through data, a training in a process of its own, its recorder and inference.
JOBS = ("--until", "predict")


def path_with(programs: stand_ins.Programs) -> str:
    return f"{programs.path}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def project(tmp_path) -> Project:
    return Project.create(tmp_path / "project", ONE_CELL)


@pytest.mark.long
def test_jobs_of_a_conda_environment_find_the_package(project, tmp_path):
    conda = stand_ins.conda(tmp_path / "conda")
    said = project.run("--sdm", "conda", *JOBS, PATH=path_with(conda), PYTHONPATH="")
    assert (project.cell(32) / "finetune/training.json").is_file(), said[-3000:]
    created = [json.loads(line) for line in conda.asked() if '"create"' in line]
    assert len(created) == 1, "all rules share one environment"
    environment = conda.path / "environment.yaml"
    assert environment.read_text() == (ROOT / "envs/longwatt.yaml").read_text()
    activated = (tmp_path / "conda/activated").read_text().splitlines()
    assert len(activated) >= 5 and set(activated) == {created[0][-1]}


def test_what_conda_reads_is_one_channel_and_exact_versions():
    read = yaml.safe_load((ROOT / "envs/longwatt.yaml").read_text())
    assert set(read) == {"channels", "dependencies"} and read["channels"] == ["conda-forge"]
    conda, (pip,) = read["dependencies"][:-1], read["dependencies"][-1].values()
    assert [name.split("=")[0] for name in conda] == ["python", "pip"]
    assert all(name.count("=") == 1 for name in conda), "conda's own exact pins have one ="
    assert all(name.count("==") == 1 for name in pip)


needs_mounts = pytest.mark.skipif(
    not stand_ins.can_show_a_part(), reason="this user may not mount, as the stand-in does"
)


@pytest.mark.long
@needs_mounts
def test_jobs_in_a_container_see_the_project_and_what_they_make(project, tmp_path):
    """The project lies elsewhere than the folder that Snakemake works in."""
    apptainer, here = stand_ins.apptainer(tmp_path / "apptainer"), tmp_path / "here"
    here.mkdir()
    shutil.copy(project.path / "cpuinfo", here)
    (here / "own.sif").touch()
    (here / "config.yaml").write_text("study: tiny\nwatts_per_core: none\ncontainer: own.sif\n")
    arguments = ("--sdm", "apptainer", "--apptainer-args=--nv", "--directory", str(here))
    project.run(*arguments, *JOBS, PATH=path_with(apptainer))
    cell = here / project.cell(32).relative_to(project.path)
    assert (cell / "finetune/training.json").is_file()
    runs = [json.loads(line) for line in apptainer.asked() if '"exec"' in line]
    assert len(runs) >= 5 and all("--nv" in run and "own.sif" in run for run in runs)


@pytest.mark.long
@needs_mounts
def test_an_image_elsewhere_is_fetched_once(project, tmp_path):
    apptainer = stand_ins.apptainer(tmp_path / "apptainer")
    project.edit("config.yaml", "container: null", "container: docker://name/of:1.0")
    arguments = ("--sdm", "apptainer", "--until", "make_tokenizer")
    project.run(*arguments, PATH=path_with(apptainer))
    asked = [json.loads(line)[0] for line in apptainer.asked()]
    assert asked.count("pull") == 1 and asked.count("exec") == 2


def test_a_container_that_is_not_there_stops_the_run(project):
    said = project.run("--sdm", "apptainer", "-n", ok=False)
    assert "config.yaml: container: names no image, and --sdm apptainer needs one" in said
    assert "Traceback" not in said
