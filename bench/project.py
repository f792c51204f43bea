"""A copy of the project to try things on: all that Snakemake reads, without studies, data and results."""

from __future__ import annotations

import shutil
from pathlib import Path

PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")


def copy_project(root: Path, target: Path) -> None:
    """Copy a project, its folder `studies` empty.

    Args:
        root: the repository.
        target: a folder that may exist, and then is empty.
    """
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        copy = shutil.copytree if (root / part).is_dir() else shutil.copy2
        copy(root / part, target / part)
    (target / "studies").mkdir()
