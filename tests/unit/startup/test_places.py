"""Paths that jobs cannot be started from are refused, with what to do."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.utils import format as as_snakemake_does

from longwatt.config.errors import StudyError
from longwatt.startup.places import ForShell, check_paths, container_environment

ODD = [
    "a b",
    "a'b",
    'a"b',
    "a$HOME",
    "a&b",
    "a#b",
    "aé模b",
    "a;b",
    "a*b",
    "a(b)",
    "a\\b",
    "a\nb",
    "a`b",
    "a|b",
    "-a",
    "a<b>",
]


@pytest.mark.parametrize("name", ODD)
def test_python_is_one_word_of_a_command_whatever_its_path(name, tmp_path):
    """Snakemake writes `{py_exec} {fname:q}`, and others put the same path into a list of words."""
    folder = tmp_path / name
    folder.mkdir()
    python, script = folder / "python", folder / "script.py"
    python.symlink_to(sys.executable)
    script.write_text("print('ran')")
    py_exec = ForShell(str(python))
    command = as_snakemake_does("{py_exec} {fname:q}", py_exec=py_exec, fname=str(script))
    assert shlex.split(command) == [str(python), str(script)]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == subprocess.run([py_exec, script], capture_output=True, text=True, check=True).stdout
        == "ran\n"
    )
    assert py_exec == str(python) and Path(py_exec) == python
    check_paths([folder], on_cluster=False)


@pytest.mark.parametrize(
    ("name", "why"),
    [("a{b}", "wildcard"), ("a{b", "wildcard"), ("a}b", "wildcard"), ("a:b", "packages")],
)
def test_a_path_that_no_job_can_be_started_from_is_refused_with_the_cure(name, why):
    with pytest.raises(StudyError, match=f"{why}.*move or rename the folder"):
        check_paths(["/home/me", f"/home/{name}/project"], on_cluster=False)


@pytest.mark.parametrize("name", ODD)
def test_on_a_cluster_a_path_that_needs_quotes_is_refused(name):
    if name in ("aé模b", "-a"):
        check_paths([f"/home/{name}"], on_cluster=True)
        return
    with pytest.raises(
        StudyError, match=r"jobs of a cluster cannot be started from a path with .*move or rename"
    ):
        check_paths([f"/home/{name}"], on_cluster=True)


def test_containers_see_the_project_beside_what_a_user_binds():
    given = {"APPTAINER_BIND": "/data,/models:/m"}
    assert container_environment([Path("/p q")], given) == {
        "APPTAINER_BIND": "/data,/models:/m,/p q",
        "SINGULARITY_BIND": "/p q",
    }
