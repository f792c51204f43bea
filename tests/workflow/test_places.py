"""The project below a path with blanks, and in a checkout that cannot be written."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import Project
from tests.workflow.test_bad_input import without_override

FIRST = ("--until", "download_dataset")


def own_python(folder: Path) -> Path:
    """A virtual environment inside a folder, which sees the packages of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    (site,) = (folder / ".venv").glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(f"{folder / 'workflow/lib'}\n")
    others = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "theirs.pth").write_text(f"import site; site.addsitedir({others!r})\n")
    return folder / ".venv/bin/python"


def run(project: Project, python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(python), "-m", "snakemake", "--cores", "1", *FIRST, *arguments, "--config",
        "study=tiny",
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=project.path, env=project.environment(), capture_output=True, text=True
    )


def times_below(folder: Path) -> dict[Path, int]:
    paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in paths}


def test_a_folder_with_blanks_and_quotes_in_its_path_runs_with_its_own_python(tmp_path):
    project = Project.create(tmp_path / 'my project\'s "place" & $HOME')
    done = run(project, own_python(project.path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(project.path.glob("resources/datasets/*/dataset.json"))


def test_a_path_with_braces_is_refused_at_once(tmp_path):
    done = run(Project.create(tmp_path / "a{b}"), sys.executable)
    assert done.returncode == 1
    assert "a{b}: jobs cannot be started from a path with '{'" in done.stderr
    assert "move or rename the folder" in done.stderr and "Traceback" not in done.stderr


def test_the_advice_for_a_checkout_that_cannot_be_written_is_followed(tmp_path):
    """With `--directory` everything is made in the other folder, and nothing in the checkout."""
    project, elsewhere = Project.create(tmp_path / "checkout"), tmp_path / "else where"
    there = times_below(project.path)
    elsewhere.mkdir()
    subprocess.run(["chmod", "-R", "a-w", project.path], check=True)
    probe = subprocess.run(
        ["touch", project.path / "x"], preexec_fn=without_override, stderr=subprocess.DEVNULL
    )
    try:
        if probe.returncode == 0:
            pytest.skip("this user may write anywhere and cannot give that up")
        said = project.run(*FIRST, ok=False, before=without_override)
        advice = re.search(r"name another folder with (--directory) FOLDER", said)
        assert f"{project.path} cannot be written to" in said and advice
        project.run(*FIRST, advice[1], str(elsewhere), before=without_override)
    finally:
        subprocess.run(["chmod", "-R", "u+w", project.path], check=True)
    assert (
        list(elsewhere.glob("resources/datasets/*/dataset.json")) and (elsewhere / "logs").is_dir()
    )
    now = times_below(project.path)
    assert now == there


def test_a_config_of_the_other_folder_stands_over_the_project_s(tmp_path):
    project, elsewhere = Project.create(tmp_path / "checkout"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.yaml").write_text("study: tiny\nwatts_per_core: many\n")
    command = [
        sys.executable, "-m", "snakemake", "-n", "--cores", "1", "-s", project.path / "Snakefile",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=elsewhere, env=project.environment(), capture_output=True, text=True
    )
    assert (
        done.returncode == 1
        and "watts_per_core: expected auto, none or a number" in done.stdout + done.stderr
    )
    (elsewhere / "config.yaml").write_text("study: tiny\n")
    done = subprocess.run(
        command, cwd=elsewhere, env=project.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "download_dataset" in done.stdout + done.stderr, done.stderr[
        -2000:
    ]


def test_what_is_advised_to_be_typed_is_there(root):
    """Commands inside messages: their programs, files, targets and options exist."""
    package = root / "workflow/lib/longwatt"
    text = "\n".join(
        path.read_text()
        for path in [*package.rglob("*.py"), *(root / "workflow/rules").glob("*.smk")]
    )
    rules = "\n".join(p.read_text() for p in root.glob("workflow/rules/*.smk"))
    targets = set(re.findall(r"^rule (\w+):", rules, re.M))
    said = re.findall(
        r"snakemake (partial|plan|compare)\b( --cores 1)?", re.sub(r'"\n\s*f?"', "", text)
    )
    assert said and {target for target, _ in said} <= targets
    modules = set(re.findall(r"python -m longwatt\.(\w+(?:\.\w+)*)", text))
    places = [package.joinpath(*name.split(".")) for name in modules]
    assert places and all(
        place.with_suffix(".py").exists() or (place / "__main__.py").exists() for place in places
    )
    hub = Path(sys.executable).with_name("hf")
    options = subprocess.run(
        [hub, "download", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(option in options for option in ("--revision", "--repo-type", "--local-dir"))


def test_a_package_s_command_names_a_python_and_a_file_that_are_there(monkeypatch):
    from longwatt.hub.checkpoints import REQUIREMENTS, missing_checkpoint

    monkeypatch.setattr("longwatt.hub.checkpoints.find_spec", lambda name: None)
    problem = missing_checkpoint({"package": next(iter(REQUIREMENTS))}, lambda folder: None)
    python, *words = shlex.split((problem or "").rpartition("; ")[2])
    assert (
        shutil.which(python) and words[:3] == ["-m", "pip", "install"] and Path(words[-1]).is_file()
    )
    monkeypatch.undo()
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
