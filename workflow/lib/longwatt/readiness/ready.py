"""Check a study as it lies here: settings, files, rows, models, machine."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from longwatt import datasets, shipped
from longwatt.config import documents, machine_settings, studies
from longwatt.config.errors import StudyError
from longwatt.freshness.in_force import MACHINE_FILE
from longwatt.readiness.data_rows import OWN_FILES, DataFacts, look_at_data
from longwatt.readiness.findings import Findings
from longwatt.readiness.machine_room import check_machine, small_splits
from longwatt.readiness.model_keys import MisspeltKeys
from longwatt.startup import checks
from longwatt.startup.scored import scorings
from longwatt.study import checks as study_checks
from longwatt.study import settings
from longwatt.study.stages import Stages


def check_study(name: str | None, gpus: int | None = None) -> Findings:
    """Find everything that would be refused if a study were run from this folder.

    Args:
        name: of the study; None for the one that config.yaml names.
        gpus: devices that may be used; None for those found here.
    """
    found = Findings()
    try:
        machine = _machine(name)
        path = studies.find_study(machine["study"], shipped.study_folders())
    except StudyError as error:
        found.refuse(str(error))
        return found
    found.refuse(*studies.study_problems(path))
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    found.checked.append(f"{MACHINE_FILE} and {shown}: keys, names and numbers")
    if not found.problems:
        _check_read(machine, studies.read_study(path), found, gpus)
    return found


def _machine(name: str | None) -> dict[str, Any]:
    """Read the settings of this machine, this folder's over those that are shipped."""
    own = Path(MACHINE_FILE)
    read = [documents.read_yaml(shipped.ROOT / MACHINE_FILE)]
    read += [documents.read_yaml(own) or {}] if own.is_file() else []
    if not all(isinstance(one, Mapping) for one in read):
        raise StudyError(f"{own.resolve()}: expected a mapping (key: value)")
    said = documents.merge(*map(documents.normalise, read), {"study": name} if name else {})
    schema = documents.read_yaml(shipped.CONFIG_SCHEMA)
    machine = machine_settings.machine_settings(said, schema, shipped.study_folders())
    os.environ.update(machine_settings.environment(machine))
    return machine


def _check_read(
    machine: Mapping[str, Any], study: Mapping[str, Any], found: Findings, gpus: int | None
) -> None:
    """Check a study whose file can be read."""
    stages = Stages(machine["study"], study, machine)
    if not found.each(study_checks.reference_checks(study, stages.source)):
        return
    found.checked.append(f"cells ({len(stages.cells)}): splits, lengths, batches, claims, figures")
    found.each([*study_checks.assertion_checks(stages), *study_checks.cell_checks(stages)])
    keys = MisspeltKeys(_given_keys(stages))
    _check_sources(stages, found)
    _check_rows(stages, found)
    found.each([partial(_check_devices, stages, gpus)])
    if not found.problems:  # a forecast of what cannot be built would only repeat that
        found.each([partial(check_machine, stages, found, gpus)])
    for model, problem in keys.problems().items():
        found.refuse(f"{stages.source}: models.{model}.config: {problem}")


def _given_keys(stages: Stages) -> dict[str, dict[str, Any]]:
    """Collect what a study sets of its models' configurations."""
    models, configs = stages.study["models"], study_checks.known_configs(stages)
    return {
        name: {
            "family": models[name]["family"],
            "given": models[name].get("config") or {},
            "model_type": config.get("model_type", ""),
        }
        for name, config in configs.items()
    }


def _check_devices(stages: Stages, gpus: int | None) -> None:
    from longwatt.gpus import listing

    try:
        checks.check_budgets(stages, len(listing.list_devices()) if gpus is None else gpus)
    except StudyError as error:
        another = "; `longwatt check --gpus N` checks it for another machine"
        raise StudyError(f"{error}{another if gpus is None else ''}") from None


def _check_sources(stages: Stages, found: Findings) -> None:
    """Look for files, folders, packages and repositories that the study names."""
    found.refuse(*checks.missing_sources(stages))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        asked = [
            partial(checks.check_metrics, stages),
            partial(checks.check_writable, stages),
            partial(checks.check_hub, stages, {"dryrun": True}),
        ]
        found.each(asked)
    found.note(*filter(None, said.getvalue().splitlines()))
    names = ", ".join(sorted({cell.model for cell in stages.cells.values()}))
    found.checked.append(f"models and tokenizers of {names}: folders, packages, repositories")


def _check_rows(stages: Stages, found: Findings) -> None:
    """Read the rows of all datasets that come from files of the user's own."""
    rows: dict[str, Mapping[str, int]] = {}
    scored = scorings(stages)
    for key, name in stages.datasets.items():
        chosen = settings.dataset_settings(stages.study, name)
        source, options = chosen["source"], chosen["options"]
        if source not in OWN_FILES or "repository" in options:
            found.checked.append(f"data of {name}: its source {source}; rows by its first job")
            continue
        if datasets.missing(source, options):
            continue  # named above
        facts = look_at_data(source, options, chosen.get("task"), scored.get(key, ()))
        where = f"{stages.source}: datasets.{name}"
        found.refuse(*(f"{where}: {one}" for one in facts.problems))
        found.note(*(f"{where}: {one}" for one in facts.notes))
        found.checked.append(f"data of {name}: {_read_rows(facts)}")
        rows[name] = facts.usable
    found.refuse(*small_splits(stages, rows))


def _read_rows(facts: DataFacts) -> str:
    counts = ", ".join(f"{count} rows of {split}" for split, count in facts.rows.items())
    return f"{counts or 'no rows'} read{'' if facts.whole else ' (the first of them)'}"
