"""Longwatt from an empty folder: as a module, through snakedeploy, and from a wheel."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from bench.project import copy_project

from tests.conftest import ROOT, TINY_STUDY

TAG = "v9.8.7"
ONE_CELL = TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [32]")
EXTENDING = "extends: tiny\ntitle: Mine\n"
MORE = (
    ".snakemake-workflow-catalog.yml", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE",
    "CHANGELOG.md", "CITATION.cff",
)  # fmt: skip
RUN = {"OMP_NUM_THREADS": "1"}
PROFILE = ("--workflow-profile", str(ROOT / "profiles/default"))


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "gc.auto=0")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A repository of the project as it is here, with a study of its own, tagged."""
    folder = tmp_path_factory.mktemp("source") / "owner" / "longwatt"
    copy_project(ROOT, folder)
    shutil.copytree(ROOT / "config", folder / "config", symlinks=True)
    for name in MORE:
        shutil.copy2(ROOT / name, folder / name)
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)
    (folder / "studies/tiny.yaml").write_text(ONE_CELL)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "all")
    git(folder, "tag", TAG)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def user(tmp_path) -> Path:
    """A folder with nothing but a study, which extends one of longwatt's own."""
    folder = tmp_path / "user"
    (folder / "studies").mkdir(parents=True)
    (folder / "studies/mine.yaml").write_text(EXTENDING)
    return folder


@pytest.fixture(scope="module")
def github(source, tmp_path_factory) -> dict[str, str]:
    """Settings with which git finds a local folder where it is told https://github.com."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{source.parent.parent}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }


def call(folder: Path, cache: Path, *words: str | Path, ok: bool = True, **env: str) -> str:
    """Run a module of Python in a folder and return all that it prints."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")}
    variables = {**kept, **RUN, "XDG_CACHE_HOME": str(cache), **env}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert (done.returncode == 0) == ok, done.stdout[-5000:]
    return done.stdout


def module_of(snakefile: str, config: str = '{"study": "mine"}', names: str = "") -> str:
    return (
        f"module longwatt:\n    snakefile: {snakefile}\n    config: {config}\n\n"
        f"use rule * from longwatt{names}\n"
    )


def state(folder: Path) -> dict[str, str]:
    """Every file of a folder by its contents."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def deploy(source: Path | str, folder: Path, github: dict[str, str]) -> None:
    """Call snakedeploy as its command line does, which needs more packages."""
    if find_spec("snakedeploy") is None:
        pytest.skip("snakedeploy is not installed (envs/requirements-snakedeploy.txt)")
    code = "import sys; from pathlib import Path; from snakedeploy.deploy import deploy; "
    code += "deploy(sys.argv[1], None, sys.argv[3], None, Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(source), str(folder), TAG]
    subprocess.run(command, env={**os.environ, **github}, check=True, capture_output=True)


def jobs(said: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", said, flags=re.MULTILINE)}


ALL = {"finetune": 1, "predict": 1, "score": 1, "summarize": 1, "answer": 1, "plot": 1}


def test_a_module_from_a_path_may_have_other_names(source, cache, user):
    before = state(source)
    text = module_of(f'"{source}/workflow/Snakefile"', names=" as lw_*")
    own = 'rule all:\n    default_target: True\n    input: "results/mine/summary.csv"\n'
    (user / "Snakefile").write_text(text + own)
    said = call(user, cache, "snakemake", "-n")
    assert jobs(said)["lw_finetune"] == jobs(said)["all"] == 1 and "lw_all" not in jobs(said)
    assert "localrules" not in said, "names of no rule"
    assert "rerun-triggers: with `code` among them" in said, "no profile came with it"
    assert state(source) == before


@pytest.mark.long
def test_snakedeploy_deploys_a_tag_with_its_package_studies_and_profiles(
    source, cache, user, github
):
    deploy("https://github.com/owner/longwatt", user, github)
    assert (user / "config/README.md").is_file() and (user / "profiles/default").is_dir()
    said = call(user, cache, "snakemake", "-n", "--config", "study=mine", **github)
    assert jobs(said).items() >= {**ALL, "all": 1}.items(), said
    assert "rerun-triggers" not in said
    (tree,) = next(cache.rglob("longwatt/*/workflow")).parents[1].iterdir()
    # A script newer than results would make Snakemake's trigger `code` fire with every tag.
    assert {path.stat().st_mtime for path in tree.rglob("*.py")} == {1e9}
    assert state(tree) == {k: v for k, v in state(source).items() if not k.startswith(".git/")}


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *pip, "-w", folder, source], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_all_that_a_run_needs_and_nothing_else(source, wheel):
    held = zipfile.ZipFile(wheel).namelist()
    tree = {name for name in state(source) if not name.startswith((".git/", "workflow/lib/"))}
    beside = {*MORE, "config/README.md", "config/config.yaml", ".gitignore"}
    shipped = {n.partition("workflow_files/")[2] for n in held if "/workflow_files/" in n}
    assert shipped == tree - beside
    library = {str(p.relative_to(source / "workflow/lib")) for p in source.rglob("lib/**/*.*")}
    others = {n for n in held if "/workflow_files/" not in n and ".dist-info/" not in n}
    assert others == library
    assert {"longwatt/py.typed", "longwatt/answer/page.css"} < others


def test_a_wheel_plans_a_study(wheel, cache, user, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    before = state(tmp_path / "site")
    where = {"PYTHONPATH": str(tmp_path / "site")}
    said = call(user, cache, "longwatt", "run", "--study", "mine", "-n", **where)
    assert jobs(said).items() >= {**ALL, "all": 1}.items(), said
    assert f"{tmp_path}/site/longwatt/workflow_files/Snakefile" in said
    assert state(tmp_path / "site") == before


def test_another_longwatt_that_was_loaded_first_is_refused(source, wheel, cache, user, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    where = {"PYTHONPATH": str(tmp_path / "site")}
    text = "import longwatt\n" + module_of(f'"{source}/workflow/Snakefile"')
    (user / "Snakefile").write_text(text)
    changed = tmp_path / "site/longwatt/progress.py"
    changed.write_text(changed.read_text() + "\n")
    said = call(user, cache, "snakemake", "-n", ok=False, **where)
    assert "two longwatts that differ" in said
    assert f"rules are those of {source}" in said and f"{tmp_path}/site" in said


def test_a_prefix_is_refused_since_jobs_know_their_paths(source, cache, user):
    text = module_of(f'"{source}/workflow/Snakefile"', '{"study": "mine"}\n    prefix: "x"')
    (user / "Snakefile").write_text(text)
    assert "module: longwatt takes no `prefix`" in call(user, cache, "snakemake", "-n", ok=False)


def finished(user: Path) -> None:
    """Check that a study ran to its table, in the user's folder alone."""
    assert (user / "results/mine/summary.csv").read_text().count("\n") == 2
    for folder in ("resources/datasets", "logs/mine", ".snakemake/metadata"):
        assert (user / folder).is_dir()


SUMMARY = "results/mine/summary.csv"


@pytest.mark.long
def test_a_module_from_a_tag_runs_a_study(source, cache, user):
    file = f'gitfile("{source}", path="workflow/Snakefile", tag="{TAG}")'
    text = module_of(file, config='config["longwatt"]', names=" as lw_*")
    (user / "Snakefile").write_text(text)
    given = (SUMMARY, *PROFILE, "--config", 'longwatt={"study": "mine"}')
    before = state(source)
    call(user, cache, "snakemake", "--cores", "2", *given)
    finished(user)
    assert state(source) == before
    said = call(user, cache, "snakemake", "-n", *given)
    assert "Nothing to be done" in said


@pytest.mark.long
def test_what_snakedeploy_wrote_runs_a_study(source, cache, user, github):
    deploy(source, user, github)  # a local folder
    snakefile = user / "workflow/Snakefile"
    text = snakefile.read_text()
    assert '"workflow/Snakefile"' in text, "the line that docs/how-to/install.md has mended"
    snakefile.write_text(text.replace('"workflow/', f'"{source}/workflow/'))
    config = user / "config/config.yaml"
    config.write_text(config.read_text().replace("study: demo", "study: mine"))
    call(user, cache, "snakemake", "--cores", "2", SUMMARY)
    finished(user)


@pytest.mark.long
def test_a_wheel_runs_a_study(wheel, cache, user, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    (site,) = tmp_path.glob("v/lib/python*/site-packages")
    (others,) = {Path(find_spec(name).origin).parents[1] for name in ("snakemake", "torch")}
    (site / "others.pth").write_text(f"{others}\n")
    python = tmp_path / "v/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", wheel], check=True, capture_output=True)
    before = state(site)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [tmp_path / "v/bin/longwatt", "run", "--study", "mine", "--cores", "2", SUMMARY]
    done = subprocess.run(
        command, cwd=user, env={**environment, **RUN, "XDG_CACHE_HOME": str(cache)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    finished(user)
    assert state(site) == before
