"""Find the files that longwatt ships beside its code: Snakefile, schemas, scripts and studies.

They lie in the checkout that holds the package, or inside the package of an installed wheel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from longwatt.files import PACKAGE

CHANGES_NO_RESULT = "It says where files lie; what they hold is digested where it is used."

_IN_WHEEL = PACKAGE / "workflow_files"
ROOT = _IN_WHEEL if _IN_WHEEL.is_dir() else PACKAGE.parents[2]
SCHEMAS = ROOT / "workflow" / "schemas"
SCRIPTS = ROOT / "workflow" / "scripts"
STUDY_SCHEMA, CONFIG_SCHEMA = SCHEMAS / "study.schema.json", SCHEMAS / "config.schema.json"
STUDIES = "studies"  # the folder of study files, in the working folder and in longwatt's own


def study_folders() -> list[Path]:
    """List the folders of study files: the working folder's first, then longwatt's own."""
    return list(dict.fromkeys(root / STUDIES for root in (Path.cwd(), ROOT.resolve())))


def study_file(name: str, folders: Sequence[Path]) -> Path | None:
    """Find a study's file by its name, in the first folder that has it."""
    found = (path for folder in folders for path in folder.glob("*.yaml"))
    return next((path for path in found if path.stem == name), None)


def study_names(folders: Sequence[Path]) -> list[str]:
    """Name every study of some folders, in alphabetical order."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
