"""Processes that jobs start find the package, in whatever environment the job runs."""

import os
import subprocess
import sys

import pytest

from longwatt.files import PACKAGE
from longwatt.processes import finding_package

HERE = str(PACKAGE.parent)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, [HERE]),
        ({"PYTHONPATH": ""}, [HERE]),
        ({"PYTHONPATH": "/mine"}, [HERE, "/mine"]),
        ({"PYTHONPATH": f"/mine:{HERE}"}, [HERE, "/mine"]),
    ],
)
def test_the_package_comes_before_what_a_user_named(before, after):
    found = finding_package({"HOME": "/home", **before})
    assert found == {"HOME": "/home", "PYTHONPATH": os.pathsep.join(after)}


def test_a_python_without_its_packages_finds_it(tmp_path):
    command = [sys.executable, "-S", "-c", "import longwatt; print(longwatt.__file__)"]
    environment = finding_package({"PATH": os.environ["PATH"]})
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == str(PACKAGE / "__init__.py")
