"""Write a finished study as a Provenance Run Crate, a profile of Workflow Run RO-Crate.

The crate holds the workflow, its settings, what every job says of its work, and the tables and
pages. It refers to neither weights, nor predictions, nor records of data, which are large or not
the study's to give away.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longwatt import shipped
from longwatt.exports.energy_words import energy_sentence
from longwatt.exports.facts import JobFacts, StudyFacts
from longwatt.exports.known import KnownFacts, LeftOut, NothingToExport, without_unknown
from longwatt.exports.run_times import RunTime, iso, recorded_times, whole
from longwatt.exports.writing import replace_crate
from longwatt.files import PACKAGE, read_object, sha256
from longwatt.freshness.in_force import MACHINE_FILE
from longwatt.freshness.outdated import SPEAKERS
from longwatt.provenance.stamps import MADE_FROM, Stage

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate


CRATE_VERSION = "1.1"  # of RO-Crate, on which the profiles of version 0.5 build
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
WORKFLOW_PROFILE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
RUN_TERMS = "https://w3id.org/ro/terms/workflow-run/context"
COMPLETED = "http://schema.org/CompletedActionStatus"
ENERGY, KWH_UNIT = (
    "http://qudt.org/vocab/quantitykind/Energy",
    "http://qudt.org/vocab/unit/KiloW-HR",
)
ENGINE = "https://snakemake.github.io"
SCRIPTS_IN_CRATE = "workflow/scripts"
ZIP = ".zip"
# Left out of copied folders: compiled files, and the files of the workflow that a wheel holds.
NOT_IN_CRATE = ("__pycache__", "*.pyc", "workflow_files")
WORKFLOW_TYPES = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
MEDIA = {
    ".json": "application/json", ".yaml": "application/yaml", ".csv": "text/csv",
    ".html": "text/html", ".md": "text/markdown", ".py": "text/x-python", ".svg": "image/svg+xml",
    ".png": "image/png",
}  # fmt: skip


def write_crate(study: StudyFacts, target: Path, now: datetime, left_out: LeftOut) -> None:
    """Write the crate of a study whose results are complete and up to date.

    Args:
        study: its facts.
        target: a folder, or a file that ends in .zip. An earlier one is replaced at the end.
        now: when it is written.
        left_out: takes notes of what is not known.

    Raises:
        NothingToExport: no licence is declared, which Workflow RO-Crate requires.
    """
    if "license" not in study.declared:
        raise NothingToExport(
            "a Workflow RO-Crate requires a licence, which the study does not declare: add export: "
            f"{{license: cc-by-4.0}} to studies/{study.name}.yaml, and license_url with its text"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".crate-") as staging:
        copies, found = Path(staging, "copies"), Path(staging, "crate")
        _Builder(study, copies, left_out).build(now).write(found)
        if target.suffix == ZIP:
            # The archiver of rocrate leaves out folders, which the crate's list of parts names.
            found = Path(shutil.make_archive(str(found), "zip", found))
        replace_crate(found, target)


@dataclass
class _Builder:
    """The crate of one study, while it is built."""

    study: StudyFacts
    staging: Path
    left_out: LeftOut
    files: dict[str, Entity] = field(default_factory=dict)

    def build(self, now: datetime) -> ROCrate:
        """Put all entities together."""
        from rocrate.rocrate import ROCrate

        self.crate = ROCrate(version=CRATE_VERSION)
        self.stages = list(self.study.current.stages.all())
        self.times = recorded_times(Path(".snakemake", "metadata"))
        self.agent = self._agent()
        self._describe_root(now)
        workflow = self._workflow()
        inputs, outputs = self._inputs(), self._outputs()
        self._parameters(workflow, inputs, outputs)
        run = self._run(workflow, inputs, outputs)
        self._steps(workflow, run)
        return self.crate

    def _entity(self, identifier: str, **properties: Any) -> Entity:
        from rocrate.model.contextentity import ContextEntity

        known = {_key(name): value for name, value in without_unknown(properties).items()}
        return self.crate.add(ContextEntity(self.crate, identifier, properties=known))

    def _describe_root(self, now: datetime) -> None:
        crate, declared = self.crate, self.study.declared
        about = self.study.current.stages.study.get("description")
        crate.name = self.study.title
        crate.description = about or f"The results of the longwatt study {self.study.name}."
        crate.datePublished = now
        crate.metadata.extra_contexts.append(RUN_TERMS)
        crate.metadata["conformsTo"] = [
            {"@id": crate.metadata.profile},
            {"@id": WORKFLOW_PROFILE},
        ]
        profiles = [
            self._entity(address, type="CreativeWork", name=name, version=version)
            for address, (name, version) in PROFILES.items()
        ]
        crate.root_dataset["conformsTo"] = profiles
        crate.license = self._licence(declared)
        if self.agent:
            crate.root_dataset["author"] = self.agent

    def _licence(self, declared: Mapping[str, Any]) -> Any:
        if "license_url" not in declared:
            self.left_out.add(
                "the address of the licence",
                f"declare export: {{license_url: ...}} in studies/{self.study.name}.yaml",
            )
            return declared["license"]
        name = declared["license"]
        return self._entity(declared["license_url"], type="CreativeWork", name=name)

    def _agent(self) -> Entity | None:
        author = self.study.declared.get("author")
        if author is None:
            self.left_out.add(
                "author and agent",
                f"declare export: {{author: {{name: ...}}}} in studies/{self.study.name}.yaml",
            )
            return None
        organization = None
        if "organization" in author:
            name = author["organization"]
            organization = self._entity("#organization", type="Organization", name=name)
        who = {"name": author["name"], "affiliation": organization}
        return self._entity(author.get("id", "#author"), type="Person", **who)

    # What lies in the crate.

    def _file(self, path: str, source: Path | None = None, **properties: Any) -> Entity:
        """Add a file by its path in the crate, once."""
        if path not in self.files:
            there = source or Path(path)
            known = without_unknown(
                {
                    "name": path,
                    "encodingFormat": MEDIA.get(there.suffix),
                    "contentSize": str(there.stat().st_size),
                    "sha256": sha256(there),
                    **properties,
                }
            )
            self.files[path] = self.crate.add_file(there, dest_path=path, properties=known)
        return self.files[path]

    def _folder(self, path: str, source: Path, name: str) -> None:
        copy = self.staging / path
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*NOT_IN_CRATE))
        self.crate.add_dataset(copy, dest_path=path, properties={"name": name})

    def _workflow(self) -> Entity:
        version = self._version()
        workflow = self.crate.add_workflow(
            shipped.ROOT / "Snakefile",
            "Snakefile",
            main=True,
            lang="snakemake",
            properties=without_unknown(
                {
                    "@type": WORKFLOW_TYPES,
                    "name": "longwatt",
                    "version": version,
                    "encodingFormat": "text/plain",
                }
            ),
        )
        included = "workflow/Snakefile"
        self._file(included, shipped.ROOT / included, encodingFormat="text/plain")
        self._folder("workflow/rules", shipped.ROOT / "workflow" / "rules", "Rules")
        self._folder("workflow/schemas", shipped.SCHEMAS, "Schemas of settings")
        self._folder("workflow/lib/longwatt", PACKAGE, "The package behind the rules")
        return workflow

    def _version(self) -> str | None:
        """Return the version of longwatt that made the results, None if there were several."""
        stamps = (read_object(Path(one.artefact)).get("provenance") or {} for one in self.stages)
        found = {stamp.get("longwatt") for stamp in stamps}
        if len(found) > 1:
            said = ", ".join(sorted(map(str, found)))
            self.left_out.add("the workflow's version", f"several made the results: {said}")
            return None
        return found.pop()

    def _inputs(self) -> list[Entity]:
        """Add the study's file with those it extends, and the configuration of the machine."""
        here = [Path(MACHINE_FILE), shipped.ROOT / MACHINE_FILE]
        config = next((path for path in here if path.is_file()), None)
        files = [(MACHINE_FILE, config), *((f"studies/{p.name}", p) for p in self._studies())]
        return [self._file(name, path) for name, path in files if path]

    def _studies(self) -> Iterator[Path]:
        from longwatt.config.documents import read_yaml

        name: str | None = self.study.name
        while name and (path := shipped.study_file(name, shipped.study_folders())):
            yield path
            name = read_yaml(path).get("extends")

    def _outputs(self) -> list[Entity]:
        """Add what every job says of its work, and what people read."""
        for stage in self.stages:
            self._file(stage.artefact)
        return [entity for path in self._pages() for entity in [self._file(path)]]

    def _pages(self) -> Iterator[str]:
        """Name the tables, pages and figures that artefacts of the whole study list."""
        results = Path(self.study.current.stages.results)
        yield str(results / "summary.csv")
        for stage in self.stages:
            path = Path(stage.artefact)
            listed = read_object(path).get("sha256")
            if path.parent in (results, *(results / part for part in ("tables", "figures"))):
                beside = (path.with_name(name) for name in listed or () if isinstance(listed, dict))
                yield from (str(one) for one in beside if one.is_file())

    def _parameters(
        self, workflow: Entity, inputs: Iterable[Entity], outputs: Iterable[Entity]
    ) -> None:
        for side, files in (("input", inputs), ("output", outputs)):
            parameters = []
            for file in files:
                known: Any = {"type": "FormalParameter", "name": file["name"]}
                known |= {"additionalType": "File", "workExample": file}
                parameter = self._entity(f"#{side}-{file.id}", **known)
                file["exampleOfWork"] = parameter
                parameters.append(parameter)
            workflow[side] = parameters

    # What was done.

    def _run(self, workflow: Entity, inputs: list[Entity], outputs: list[Entity]) -> Entity:
        time = whole([self.times.get(stage.artefact) for stage in self.stages])
        if time is None:
            self.left_out.add(
                "begin and end of the whole run",
                "Snakemake's records (.snakemake/metadata) do not have all of its jobs",
            )
        self.whole_time = time
        run = self.crate.add_action(
            workflow,
            identifier="#run",
            object=_alone(inputs),
            result=_alone(outputs),
            properties=self._times(f"Run of the study {self.study.name}", time),
        )
        self.crate.root_dataset.append_to("mentions", run)
        return run

    def _times(self, name: str, time: RunTime | None) -> KnownFacts:
        found: KnownFacts = without_unknown(
            {
                "name": name,
                "startTime": iso(time.start) if time else None,
                "endTime": iso(time.end) if time else None,
                "actionStatus": COMPLETED,
                "agent": {"@id": self.agent.id} if self.agent else None,
            }
        )
        return found

    def _steps(self, workflow: Entity, run: Entity) -> None:
        """Add the rules as steps and tools, and every job as an action."""
        rules = list(dict.fromkeys(stage.rule for stage in self.stages))
        tools = {rule: self._tool(rule, workflow) for rule in rules}
        steps = {rule: self._step(rule, place, tools[rule]) for place, rule in enumerate(rules)}
        workflow["hasPart"], workflow["step"] = list(tools.values()), list(steps.values())
        energies = self._energies()
        controls = [
            self._job(stage, tools[stage.rule], steps[stage.rule], energies)
            for stage in self.stages
        ]
        engine = self._entity(
            ENGINE, type="SoftwareApplication", name="Snakemake", url={"@id": ENGINE}
        )
        self.left_out.add("the version of Snakemake", "no result records it")
        whole_run: Any = self._times("Orchestration by Snakemake", self.whole_time)
        self._entity(
            "#orchestration",
            type="OrganizeAction",
            instrument=engine,
            object=controls,
            result=run,
            **whole_run,
        )

    def _tool(self, rule: str, workflow: Entity) -> Entity:
        path, source = f"{SCRIPTS_IN_CRATE}/{rule}.py", shipped.SCRIPTS / f"{rule}.py"
        kinds = ["File", "SoftwareSourceCode"]
        version = workflow.get("version")
        return self._file(path, source, **{"@type": kinds, "name": rule, "version": version})

    def _step(self, rule: str, place: int, tool: Entity) -> Entity:
        return self._entity(
            f"#step-{rule}", type="HowToStep", name=rule, position=str(place + 1), workExample=tool
        )

    def _job(
        self, stage: Stage, tool: Entity, step: Entity, energies: Mapping[str, JobFacts]
    ) -> Entity:
        time = self.times.get(stage.artefact)
        name = f"{stage.rule}: {stage.artefact}"
        used = self._energy(stage.artefact, energies)
        action = self.crate.add_action(
            tool,
            identifier=f"#job-{stage.artefact}",
            object=_alone([self.files[path] for path in self._made_from(stage)]),
            result=self.files[stage.artefact],
            properties={**self._times(name, time), **({"resourceUsage": used} if used else {})},
        )
        self.crate.root_dataset.append_to("mentions", action)
        status = {"actionStatus": COMPLETED}
        control: Any = {"type": "ControlAction", "name": f"Step {name}", **status}
        return self._entity(f"#control-{stage.artefact}", instrument=step, object=action, **control)

    def _made_from(self, stage: Stage) -> list[str]:
        """Name the artefacts that speak for what a job was made from, as it recorded."""
        said = read_object(Path(stage.artefact))
        recorded = {**(said.get(MADE_FROM) or {}), **said["provenance"].get(MADE_FROM, {})}
        speakers = (self._speaker(path) for path in recorded)
        return list(dict.fromkeys(path for path in speakers if path))

    def _speaker(self, path: str) -> str | None:
        """Name the artefact that speaks for a file, None where none lies in the crate."""
        if path in self.files:
            return path
        folder, name = Path(path).parent, Path(path).name
        beside = [SPEAKERS.get(name), *SPEAKING_BESIDE.get(name, ())]
        return next((p for one in beside if one and (p := str(folder / one)) in self.files), None)

    def _energies(self) -> dict[str, JobFacts]:
        """Return trainings and inferences by their artefacts."""
        results = self.study.current.stages.results
        found = {}
        for cell in self.study.cells:
            for job in cell.jobs:
                end = (
                    f"predict/{job.point}/inference.json" if job.point else "finetune/training.json"
                )
                found[f"{results}/{cell.cell}/{end}"] = job
        return found

    def _energy(self, artefact: str, energies: Mapping[str, JobFacts]) -> KnownFacts | None:
        job = energies.get(artefact)
        sentence = energy_sentence(job) if job else None
        if job is None or sentence is None:
            if job:
                self.left_out.add(f"the energy of {artefact}", "it is not known")
            return None
        entity = self._entity(
            f"#energy-{artefact}",
            type="PropertyValue",
            name="energy",
            description=sentence,
            propertyID=ENERGY,
            unitCode=KWH_UNIT,
            unitText="kWh",
            value=job.column("energy_kwh"),
        )
        return {"@id": entity.id}


# A file that carries no stamp -> artefacts beside it that may speak for it.
SPEAKING_BESIDE = {
    "predictions.jsonl": ("inference.json",),
    "energy.jsonl.gz": ("training.json", "inference.json"),
    "examples.csv": ("scores.json",),
}


def _alone(entities: list[Entity]) -> Any:
    """Take a single entity out of its list, as RO-Crate recommends, None for none."""
    return entities if len(entities) > 1 else next(iter(entities), None)


def _key(name: str) -> str:
    return "@type" if name == "type" else name
