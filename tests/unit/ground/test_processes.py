"""Processes that jobs start find the package, in whatever environment the job runs."""

import os
import subprocess
import sys

import pytest

from longwatt.processes import PACKAGE_FOLDER, finding_package


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, [str(PACKAGE_FOLDER)]),
        ({"PYTHONPATH": ""}, [str(PACKAGE_FOLDER)]),
        ({"PYTHONPATH": "/mine"}, [str(PACKAGE_FOLDER), "/mine"]),
        ({"PYTHONPATH": f"/mine:{PACKAGE_FOLDER}"}, [str(PACKAGE_FOLDER), "/mine"]),
    ],
)
def test_the_package_comes_before_what_a_user_named(before, after):
    found = finding_package({"HOME": "/home", **before})
    assert found == {"HOME": "/home", "PYTHONPATH": os.pathsep.join(after)}


def test_a_python_without_its_packages_finds_it(tmp_path):
    command = [sys.executable, "-S", "-c", "import longwatt; print(longwatt.__file__)"]
    environment = finding_package({"PATH": os.environ["PATH"]})
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == str(PACKAGE_FOLDER / "longwatt/__init__.py")
