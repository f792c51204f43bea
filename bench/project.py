"""Copies of the project to try things on, without studies and results."""

from __future__ import annotations

import shutil
from pathlib import Path

PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")


def copy_project(root: Path, target: Path) -> None:
    """Copy the repository at `root` without its studies into a new or empty folder."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        copy = shutil.copytree if (root / part).is_dir() else shutil.copy2
        copy(root / part, target / part)
    (target / "studies").mkdir()
