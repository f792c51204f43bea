"""Read a study as its file and the machine's configuration are now.

The code behind its jobs belongs to what is in force.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt import shipped
from longwatt.config import documents, errors, studies
from longwatt.config.machine_settings import environment, machine_settings
from longwatt.freshness import source_checks
from longwatt.provenance.code import code_digest
from longwatt.provenance.source_files import KnownDigests
from longwatt.provenance.stamps import Stage, agrees, digest, read_stamp
from longwatt.shipped import CONFIG_SCHEMA, ROOT, SCRIPTS, STUDIES, STUDY_SCHEMA, study_file
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages

CHANGES_NO_RESULT = "It says which results count, and makes none."

MACHINE_FILE = "config.yaml"
DEPLOYED_FILE = "config/config.yaml"  # where snakedeploy puts it
OF_MODULE = "longwatt"  # its part that a workflow may keep for the module that it imports
PROJECT_MARK = "workflow/rules/root.smk"  # a folder with this holds longwatt itself


@dataclass(frozen=True)
class InForce:
    """The settings and code that artefacts must carry to count.

    Attributes:
        stages: the study's jobs.
        scripts: the folder of the rules' scripts.
        accepted: digests of older code whose artefacts count too (`accept_code`).
    """

    stages: Stages
    scripts: Path
    accepted: Sequence[str] = ()

    def code_of_rule(self, rule: str, modules: tuple[str, ...] = ()) -> str:
        """Digest the code behind a rule, once for thousands of jobs."""
        return code_digest(self.scripts / f"{rule}.py", modules)

    def codes(self, stage: Stage) -> list[str]:
        """List the code digests that an artefact may carry and be kept."""
        return [self.code_of_rule(stage.rule, stage.modules), *self.accepted]

    def code(self, stage: Stage) -> str:
        """Digest the code behind a stage, or return an accepted older digest of its artefact."""
        if self.accepted:
            artefact = Path(stage.artefact)
            if agrees(artefact, stage.settings, self.accepted):
                return str((read_stamp(artefact) or {})["code_digest"])
        return self.code_of_rule(stage.rule, stage.modules)

    def stamps(self) -> dict[str, list[str]]:
        """Return the digests that each artefact of data and cells must carry.

        These are the digests of its settings and code.

        No code is good enough for an artefact read from files that have changed since.
        """
        changed, found = self.changed_sources(), {}
        for stage in self.stages.before_summary():
            codes = [] if stage.artefact in changed else [self.code(stage)]
            found[stage.artefact] = [digest(dict(stage.settings)), *codes]
        return found

    def changed_sources(self) -> dict[str, list[str]]:
        """List the files that have changed since an artefact was read from them, by artefact."""
        return source_checks.changed(self.stages, KnownDigests(source_checks.KNOWN))

    def of_other(self, study_id: str, document: Path | None, schema: Path) -> InForce | None:
        """Read another study for this machine, None where its file is missing or unusable."""
        if document is None:
            return None
        try:
            read = studies.read_study(document, schema)
            jobs = checked_stages(study_id, read, {**self.stages.machine, "study": study_id})
        except errors.StudyError:
            return None
        return InForce(jobs, self.scripts, self.accepted)


def find(results: Path, changes: Mapping[str, Any] | None = None) -> InForce | None:
    """Read the study that a results folder belongs to, None where its file is missing.

    Args:
        results: results/{study}. The study is looked for beside `results`, here, and in longwatt's
            own folder.
        changes: settings of the command line, which replace those of the machine's configuration.

    Raises:
        longwatt.config.errors.StudyError: the study or the configuration is wrong.
    """
    roots = (results.resolve().parents[1], Path.cwd(), ROOT)
    name = results.resolve().name
    folders = [root / STUDIES for root in roots]
    document = study_file(name, folders)
    if document is None or not SCRIPTS.is_dir():
        return None
    said = {**documents.merge(_machine(roots), changes or {}), "study": name}
    machine = machine_settings(said, documents.read_yaml(CONFIG_SCHEMA), folders)
    os.environ.update(environment(machine))
    read = studies.read_study(document, STUDY_SCHEMA, folders)
    jobs = checked_stages(name, read, machine)
    return InForce(jobs, SCRIPTS, machine.get("accept_code", ()))


def asked_study(name: str | None, words: Sequence[str] = ()) -> str:
    """Return the study that a command is about.

    Args:
        name: the one that was asked for, if any.
        words: settings as given to Snakemake (KEY=VALUE), which may name one.

    Returns:
        The name, by default that of the machine's configuration.
    """
    if name is not None:
        return name
    roots = (Path.cwd(), Path.cwd(), shipped.ROOT)
    said = documents.merge(_machine(roots), documents.parse_changes(words))
    return str(said.get("study", documents.DEMO))


def study_of_folder(folder: Path) -> str | None:
    """Return the study that a folder's own configuration names, None where it names none.

    Raises:
        longwatt.config.errors.StudyError: the configuration cannot be read.
    """
    path = folder / MACHINE_FILE
    said = documents.read_yaml(path) if path.is_file() else None
    return str(said["study"]) if isinstance(said, Mapping) and "study" in said else None


def _machine(roots: Sequence[Path]) -> dict[str, Any]:
    """Read the machine's configuration as a run does.

    The configuration of the folder stands over that of the project that it works for.
    """
    having = [(root, found) for root in roots if (found := _configuration(root)) is not None]
    if not having:
        return {}
    (folder, own), *others = having
    alone = folder != roots[0] or (folder / PROJECT_MARK).is_file()
    projects = [found for root, found in others if (root / PROJECT_MARK).is_file()]
    below = [] if alone else projects[:1]
    return documents.merge(*map(documents.normalise, (*below, own)))


def _configuration(root: Path) -> Any:
    """Read a folder's configuration, None where it has none.

    One that snakedeploy has put there, or a workflow that imports longwatt, may hold more.
    """
    if (root / MACHINE_FILE).is_file():
        return documents.read_yaml(root / MACHINE_FILE)
    if not (root / DEPLOYED_FILE).is_file():
        return None
    read = documents.read_yaml(root / DEPLOYED_FILE)
    if not isinstance(read, Mapping):
        return None
    known = documents.read_yaml(CONFIG_SCHEMA)["properties"]
    return read.get(OF_MODULE) or {key: value for key, value in read.items() if key in known}
