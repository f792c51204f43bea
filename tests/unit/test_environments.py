"""Every way to an environment says the same: pins, lock, conda, image, pyproject and CI."""

import re
import tomllib

import pytest
import yaml

from tests.conftest import ROOT

ENVS = ROOT / "envs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {path.stem: path for path in (ROOT / ".github/workflows").glob("*.yml")}
RECIPES = {"Dockerfile": ROOT / "Dockerfile", "longwatt.def": ENVS / "longwatt.def"}
# What torch's build for CUDA brings, and what a virtual environment had before.
UNPINNED = re.compile(r"(nvidia|cuda)-|(triton|setuptools)$")


def named(requirement: str) -> tuple[str, str]:
    """A package's name, as indexes compare names, and its pin."""
    name, version = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", requirement).groups()
    return re.sub(r"[-_.]+", "-", name).lower(), version


def pins(name: str) -> dict[str, str]:
    lines = (ENVS / f"{name}.txt").read_text().splitlines()
    plain = (re.split(r"[ ;\\]", line)[0] for line in lines if line[:1] not in ("", " ", "#", "-"))
    return dict(map(named, plain))


def test_the_lock_holds_what_the_pins_say():
    locked, asked = pins("lock"), {**pins("requirements"), **pins("requirements-processors")}
    known = {**pins("constraints"), **asked}
    assert asked.items() <= locked.items()
    others = {name: one for name, one in locked.items() if not UNPINNED.match(name)}
    assert {name: known.get(name) for name in others} == others, "run `make lock`"


def test_every_package_of_the_lock_has_its_digests_and_no_index_is_named():
    text = (ENVS / "lock.txt").read_text()
    packages = re.split(r"\n(?=\S)", text.split("\n# Made by", 1)[1].split("\n", 1)[1])
    assert len(packages) > 100
    assert all(re.search(r" \\\n    --hash=sha256:[0-9a-f]{64}", package) for package in packages)
    assert "://" not in text and "index-url" not in text


def test_the_constraints_hold_what_the_pins_say():
    constraints = pins("constraints")
    files = ("requirements", "requirements-dev", "requirements-causal")
    for name, version in ((n, v) for file in files for n, v in pins(file).items()):
        assert constraints.get(name, version) == version, name


@pytest.mark.parametrize("name", RECIPES)
def test_an_image_installs_the_pins_as_make_does(name):
    text, make = RECIPES[name].read_text(), (ROOT / "Makefile").read_text()
    installed = [
        re.sub(r"\S*/envs/|envs/", "", line).split()
        for line in re.findall(r"pip install ([^&\n]*)", re.sub(r"\\\n\s*", "", text))
    ]
    expected = [["-r", "requirements.txt", "-c", "constraints.txt"]]
    expected += [["--no-deps", "-r", "requirements-processors.txt"]]
    assert [line for line in installed if "--editable" not in line] == expected
    for line in expected:
        written = " ".join(one if one[0] == "-" else f"envs/{one}" for one in line)
        assert written.replace("-c envs/constraints.txt", "$(CONSTRAINED)") in make


@pytest.mark.parametrize("name", RECIPES)
def test_images_and_conda_have_one_python(name):
    conda = yaml.safe_load((ENVS / "longwatt.yaml").read_text())["dependencies"][0]
    (version,) = re.findall(r"^(?:FROM|From:) python:(3\.\d+)-slim-\w+$", RECIPES[name].read_text(),
                            flags=re.MULTILINE)  # fmt: skip
    assert conda == f"python={version}"


def test_what_goes_into_the_image_is_there_and_is_all_that_a_study_needs():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines and all((ROOT / name).exists() for name in kept)
    needed = {"Snakefile", "config.yaml", "workflow", "profiles", "envs", "studies"}
    assert needed | {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE"} <= kept


def test_the_pythons_that_are_claimed_are_those_that_are_tried():
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    matrix = yaml.safe_load(WORKFLOWS["ci"].read_text())["jobs"]["tests"]["strategy"]["matrix"]
    assert claimed == matrix["python"]
    oldest = claimed[0]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    (rest,) = re.findall(r"for python in ([\d. ]+);", (ROOT / "Makefile").read_text())
    assert rest.split() == claimed[1:]


@pytest.mark.parametrize("path", WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_job_on_github_ends_and_asks_for_little(path):
    read = yaml.safe_load(path.read_text())
    assert read["permissions"] in ({}, {"contents": "read"}) and "concurrency" in read
    for name, job in read["jobs"].items():
        assert job["timeout-minutes"] <= 350, name
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), f"{name}: pass it by `env`"


def test_what_jobs_on_github_call_is_there():
    text = "\n".join(path.read_text() for path in WORKFLOWS.values())
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    called = set(re.findall(r"run: make (?:\w+=\S+ )*([a-z-]+)", text))
    assert {"check", "test", "demo", "docs", "check-envs", "report", "setup"} <= called
    assert called <= set(targets)
