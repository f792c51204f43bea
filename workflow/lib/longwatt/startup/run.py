"""Decide what one run of Snakemake does, and check it before any job.

Rules ask here for threads, priorities and digests of code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from longwatt.config import documents, errors
from longwatt.config import studies as config_studies
from longwatt.energy.meters import rapl
from longwatt.freshness import outdated, source_checks
from longwatt.freshness.in_force import InForce
from longwatt.gpus import listing
from longwatt.plan import cell_cores, urgency
from longwatt.plan.cell_cores import CORES_KEY, CellCores
from longwatt.provenance import stamps
from longwatt.provenance.source_files import KnownDigests
from longwatt.provenance.stamps import Stage
from longwatt.shipped import STUDY_SCHEMA, study_file
from longwatt.startup import checks, clock, invocation
from longwatt.study.cells import device_count
from longwatt.study.reported import report_settings
from longwatt.study.stages import Stages
from longwatt.watch import announced
from longwatt.watch.outlook import StudyClock

# CPU cores for each GPU on a cluster, where the profile says nothing: its process, data, recorder.
CPUS_PER_GPU = 4
ON_CPU = "on_cpu"  # resource of rules that counts jobs of cells on the CPU
RECORDS = Path(".snakemake")  # Snakemake's own, in the folder that it works in


@dataclass(frozen=True)
class Given:
    """The inputs that Snakemake was given.

    Attributes:
        options: its options by name, those of its profiles included. Empty in a job's own process.
        main: this is the process that the user started, not one of its jobs.
        cores: usable cores of this machine, None where a cluster's scheduler decides.
        gpus: devices that the user said may be used, None if nothing was said.
        cpus_per_gpu: the profile's value, None or nothing if it has none.
    """

    options: Mapping[str, Any]
    main: bool
    cores: int | None
    gpus: int | None = None
    cpus_per_gpu: Any = None

    @property
    def on_cluster(self) -> bool:
        """True if jobs go to a cluster's scheduler, or this process is such a job."""
        return invocation.on_cluster(self.options) or not self.main

    def cores_per_gpu(self) -> int:
        """Return the CPU cores that go with each GPU on a cluster.

        Raises:
            StudyError: the profile gives no number.
        """
        try:
            return int(self.cpus_per_gpu or CPUS_PER_GPU)
        except (TypeError, ValueError):
            raise errors.StudyError(
                "default-resources: cpus_per_gpu must be a number: "
                "the threads of jobs follow from it"
            ) from None


class Run:
    """The jobs of a study as one run of Snakemake has them.

    Args:
        current: the study, and the code behind its jobs.
        given: the inputs of Snakemake.
        limit: GPUs that may be used, None where a cluster allots them.
        folders: those that a study's file is looked for in, the first that has it wins.

    Attributes:
        awaited: data that were set aside. Snakemake does not miss them by itself where all that
            follows from them is there.
    """

    def __init__(
        self, current: InForce, given: Given, limit: int | None, folders: Sequence[Path]
    ) -> None:
        self.current, self.stages = current, current.stages
        self.given, self.limit = given, limit
        self.folders = folders
        self.awaited: list[str] = []
        self._urgency = urgency.Urgency(self.stages, self._cell_threads)
        self._cores_per_gpu = given.cores_per_gpu()
        self._changed: Mapping[str, list[str]] = {}  # files by artefact, in a dry run

    # Parameters and resources of jobs.

    def code(self, stage: Stage) -> str:
        """Return the digest of a job's code, or an older one accepted for it."""
        return self.current.code(stage)

    def changed(self, stage: Stage) -> list[str]:
        """List the changed files behind an artefact, as far as a dry run shows them."""
        return self._changed.get(stage.artefact, [])

    def failure_of_energy(self, name: str, part: str) -> str:
        """Return where a failed reduction leaves its record, apart for each part of a cell."""
        file = f"failure-energy-{part.replace(os.sep, '-')}.json"
        return f"{self.stages.results}/{name}/work/{file}"

    def gpus_of_probe(self, probe: str) -> int:
        """Return the devices of a probe: one of its budget's, if that has any."""
        return min(1, self.stages.gpus(self.stages.probes[probe]))

    def threads(self, name: str) -> int:
        """Return the cores of a cell's jobs."""
        budget = self.stages.study["budgets"][self.stages.cell(name).budget]
        return self.threads_for(int(budget["gpus"]), device_count(budget))

    def threads_of_probe(self, probe: str) -> int:
        """Return the cores of a probe, which is one process."""
        return self.threads_for(self.gpus_of_probe(probe))

    def threads_for(self, wanted: int, processes: int = 1) -> int:
        """Return the cores of a job with some GPUs, or of processes on the CPU.

        A job with GPUs has an equal share of the cores for each, and one core stays free for
        scoring if there are enough. A job on the CPU has the cores that its study's cells have
        (`cell_cores`). In a study that also uses GPUs it takes what their shares leave. On a
        cluster a job takes the cores that go with its GPUs, and a job on the CPU those of one GPU.
        """
        if self.given.on_cluster:
            return self._cores_per_gpu * max(1, wanted)
        cores, limit = self.given.cores or 1, self.limit or 0
        share = max(1, (cores - 1) // max(wanted, limit, 1))
        if wanted:
            return wanted * share
        if self.stages.uses_gpus:
            return max(1, cores - limit * share)
        return self.cell_cores.of(processes)

    @cached_property
    def cell_cores(self) -> CellCores:
        """How the cells on the CPU share this machine's cores."""
        return cell_cores.of_study(self.stages, self.given.cores or 1, rapl.can_be_read())

    def on_cpu(self, gpus: int) -> int:
        """Return a job's share of the limit of jobs on the CPU at once (`most_on_cpu`)."""
        return int(not gpus)

    @property
    def most_on_cpu(self) -> int | None:
        """Most jobs of cells on the CPU at once, None where their cores alone decide."""
        alone = not (self.given.on_cluster or self.stages.uses_gpus)
        return self.cell_cores.at_once if alone else None

    def limits(self, asked: Collection[str]) -> dict[str, int]:
        """Return the limits of Snakemake's resources that nobody asked for by name."""
        known = {ON_CPU: self.most_on_cpu}
        return {name: n for name, n in known.items() if n is not None and name not in asked}

    def _cell_threads(self) -> dict[str, int]:
        """Return the threads of each process by cell, in a study without GPUs."""
        known = self.most_on_cpu is not None
        return cell_cores.threads_of(self.stages, self.cell_cores) if known else {}

    def priority(self, name: str, inference: str | None = None) -> int:
        """Return how urgent a cell's training is, or one of its inference points."""
        return self._urgency.of(name, inference)

    @property
    def reduction_priority(self) -> int:
        """How urgent scores and energies are: below all that needs a GPU.

        On a cluster none waits for them. There they run beside Snakemake, and its limit of jobs
        counts them among those that it submits: they come right behind data.
        """
        return urgency.DATA - 1 if self.given.on_cluster else urgency.REDUCTION

    # Steps before any job.

    def start(self) -> None:
        """Refuse what cannot run, and set aside what does not count any more.

        Raises:
            StudyError, StaleSummary: say what is wrong and what to do.
        """
        for step in self.steps():
            step()

    def steps(self) -> list[Callable[[], None]]:
        """List what is done before any job, in order, by what Snakemake was asked."""
        if not self.given.main:  # a job on another node sees that node's GPUs alone
            return []
        stages, options = self.stages, self.given.options
        fetches, writes = invocation.leases_gpus(options), not invocation.only_looks(options)
        leases = self.limit is not None and fetches
        in_container = invocation.uses_containers(options)
        steps: list[tuple[bool, Callable[[], None]]] = [
            (leases, partial(checks.check_budgets, stages, self.limit or 0)),
            (fetches, partial(checks.check_container, stages, in_container)),
            (True, partial(checks.check_against, stages, options, self.folders)),
            (not invocation.only_tells(options), partial(checks.check_sources, stages)),
            (not invocation.only_tells(options), partial(checks.check_metrics, stages)),
            (fetches, partial(checks.check_hub, stages, options)),
            (writes, partial(checks.check_writable, stages)),
            (writes, self.lower_future_times),
            (True, self.set_unrecorded_aside),
            (fetches, self.find_changed),
            (True, self.tell_jobs),
            (fetches, self.tell_cores),
            (fetches, self.tell_triggers),
            (fetches and writes, self.tell_watchers),
            (invocation.reports_only(options), partial(checks.check_report, self.current)),
        ]
        return [step for wanted, step in steps if wanted]

    def lower_future_times(self) -> None:
        """Let no file be newer than now after the clock was set back."""
        logs = RECORDS / "log"
        if clock.clock_was_set_back(logs):
            folders = [Path("resources"), Path(self.stages.results), logs]
            count = clock.lower_future_times(folders)
            said = f"The clock was set back since the last run: {count} files from the future now "
            print(f"{said}have the present time.", file=sys.stderr)

    def set_unrecorded_aside(self) -> None:
        """Check by their stamps the artefacts that Snakemake has no record of, or would believe.

        Those that were set aside are looked at too: they come back if they count again.
        """
        believes = invocation.believes_files(self.given.options)
        told = set() if believes else stamps.recorded_paths(RECORDS / "metadata")
        jobs = ((stage, Path(stage.artefact + stamps.STALE)) for stage in self.stages.all())
        unrecorded = [job for job, aside in jobs if job.artefact not in told or aside.exists()]
        if aside := stamps.set_stale_aside(unrecorded, self.current.codes):
            intro = "Made by other settings or code than now, to be made again:"
            print("\n  ".join([intro, *aside]), file=sys.stderr)

    def find_changed(self) -> None:
        """Have all that was made from changed files made again.

        A real run finds such artefacts renamed. A dry run writes nothing, and goes by a parameter
        that differs. A touch must not record that parameter, or the next dry run would find nothing
        to do.
        """
        looks = invocation.only_looks(self.given.options)
        keeps = looks or bool(self.given.options.get("touch"))
        check = source_checks.changed if keeps else source_checks.set_aside
        if found := check(self.stages, KnownDigests(source_checks.KNOWN)):
            print(source_checks.describe_changes(found), file=sys.stderr)
        self._changed = found if looks else {}
        self.awaited = outdated.shared_set_aside(self.stages.before_summary())

    def tell_jobs(self) -> None:
        """Put into the environment what jobs must know of Snakemake's options."""
        os.environ.update(invocation.job_environment(self.given.options))

    def tell_watchers(self) -> None:
        """Name the study to what draws its progress, and to `longwatt status`."""
        clock = None if self.given.on_cluster else self._clock
        announced.announce(announced.Announced(self.current, clock))

    def _clock(self) -> StudyClock:
        """Return the foreteller of the study's end by what this run may use."""
        runtimes = self._urgency.runtimes
        return StudyClock(self.stages, runtimes, self.limit or 0, self.most_on_cpu or 1)

    def tell_cores(self) -> None:
        """Say what a user may not expect of the cores of cells on the CPU."""
        if self.most_on_cpu is None:
            return
        shared, alike = self.cell_cores, ""
        if shared.differing:
            alike = (
                " All cells of a study have as many, so that speeds compare; "
                f"{_first(shared.differing)} would do with one."
            )
        if shared.limited or shared.differing:
            print(f"{CORES_KEY}: {shared.described()}.{alike}", file=sys.stderr)
        for line in self._idle_workers():
            print(line, file=sys.stderr)

    def tell_triggers(self) -> None:
        """Say that Snakemake's own look at code makes finished work again without need."""
        if "code" in map(str, self.given.options.get("rerun_triggers") or ()):
            print(
                "rerun-triggers: with `code` among them finished work is made again for a changed "
                "comment; take longwatt's profile, or give --rerun-triggers params input mtime "
                "software-env (docs/how-to/install.md).",
                file=sys.stderr,
            )

    def _idle_workers(self) -> list[str]:
        """Name the cells whose data loaders have only the core that their training computes on."""
        alone = [name for name, threads in self._cell_threads().items() if threads == 1]
        asked = [name for name in alone if self.stages.execution(name)["dataloader_workers"]]
        if not asked:
            return []
        return [
            f"training.dataloader_workers: each process of {_first(asked)} has one core, on which "
            "its workers gain nothing; set it to 0, or give cells more cores."
        ]

    # Settings of rules that run whenever they are asked for.

    def plan_settings(self) -> dict[str, Any]:
        """Return the inputs of a plan beside the files there are."""
        demo = study_file(documents.DEMO, self.folders)
        return {
            **self.stages.plan_settings(),
            "gpus_given": self.given.gpus,
            "gpus_found": len(listing.list_devices()),
            "demo": config_studies.read_study(demo, STUDY_SCHEMA) if demo else None,
        }

    def compare_settings(self) -> dict[str, Any]:
        """Return the settings to set two studies side by side."""
        name, stages = self.stages.study_id, self.stages
        return report_settings.compare_settings(name, stages.study, stages.machine.get("against"))

    def compared_stamps(self) -> dict[str, dict[str, list[str]] | None]:
        """Return the digests in force of both studies to compare, None for a missing one."""
        other = str(self.stages.machine.get("against"))
        against = self.current.of_other(other, study_file(other, self.folders), STUDY_SCHEMA)
        found = against.stamps() if against else None
        return {self.stages.study_id: self.current.stamps(), other: found}


def _first(names: Sequence[str]) -> str:
    """Name the first of some cells, and count the others."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def partial_settings(stages: Stages) -> dict[str, Any]:
    """Return the settings for summary, tables and figures of a part of a study."""
    shown = (stages.summarize(), stages.tabulate(), stages.plot(), stages.plot_power())
    judged = (
        stages.judge_claims(),
        stages.answer(),
        *([stages.compare_exits()] if stages.with_exits else []),
    )
    together = {name: value for stage in shown for name, value in stage.settings.items()}
    return {**together, **{stage.rule: dict(stage.settings) for stage in judged}}
