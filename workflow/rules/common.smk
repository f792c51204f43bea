"""Read the study, list its cells, and say what every rule may ask of them. No rules here."""

import contextlib
import gc
import inspect
import io
import os
import sys
from pathlib import Path

# Jobs of a conda environment, and workers on another node, see the same package as this process.
LIB = str(Path(workflow.basedir) / "workflow" / "lib")
sys.path.insert(0, LIB)
inherited = dict(os.environ).get("PYTHONPATH", "")
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [LIB, inherited])))

from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError

from longwatt import (
    asked,
    displays,
    escaping,
    file_times,
    gpus,
    places,
    in_force,
    machine_settings,
    outdated,
    priorities,
    provenance,
    scored,
    source_checks,
    stages,
    start_checks,
    study,
    waiting,
)
from longwatt.datasets import visibility
from longwatt.source_files import KnownDigests

# Jobs inherit it, those that load torch in their script too.
os.environ.update(waiting.environment(os.environ))

# The jobs of a large study are millions of live objects and no garbage: looking through them while they are made takes
# 16 % of the time (1,500 cells). Once jobs run, it is done again.
gc.disable()


onstart:
    gc.enable()


SCHEMAS = Path(workflow.basedir) / "workflow" / "schemas"
SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
STUDIES = Path(workflow.basedir) / "studies"
# CPU cores for each GPU on a cluster: for its process, its data and the recorder; where the profile says nothing.
CPUS_PER_GPU = 4


def options():
    """What Snakemake was asked, its profiles included, by option; nothing where it has no command line."""
    with contextlib.redirect_stderr(
        io.StringIO()
    ):  # it says again which profile it uses
        try:
            return vars(parse_args(sys.argv[1:])[1])
        except SystemExit:
            return {}


ASKED = options() if workflow.is_main_process else {}
CHANGED = {}  # files by artefact, in a dry run
# Data that were set aside: Snakemake does not miss them by itself where all that follows from them is there.
AWAITED = []
# Jobs go to a cluster's scheduler, or this process is one of its jobs.
ON_CLUSTER = asked.on_cluster(ASKED) or not workflow.is_main_process


def refuse(error):
    """A wrong setting stops the run with its message, not with a traceback."""
    raise WorkflowError(str(error))


def read_stages():
    """The jobs of the study that config.yaml names."""
    schema = study.read_yaml(SCHEMAS / "config.schema.json")
    machine = machine_settings.machine_settings(config, schema, STUDIES)
    os.environ.update(stages.machine_environment(machine))
    path = STUDIES / f"{machine['study']}.yaml"
    document = study.read_study(path, SCHEMAS / "study.schema.json")
    found = stages.Stages(machine["study"], document, machine)
    os.environ.update(visibility.environment(scored.scorings(found)))
    return found


def gpu_limit():
    """The GPUs that may be used: what the user said, else the devices found on this machine.

    None where a cluster allots them, and in its jobs: a limit here would silently lower what a job asks for.
    """
    if GPUS_GIVEN is not None:
        return GPUS_GIVEN
    if ON_CLUSTER:
        return None
    limit = len(gpus.list_devices())
    workflow.register_resource("gpu", limit)
    return limit


def gpus_given():
    """The GPUs that the user said may be used; None if nothing was said."""
    given = workflow.resource_settings.resources.get("gpu")
    given = getattr(given, "value", given)
    return None if given is None else int(given)


def plan_settings():
    """What a plan rests on beside the files there are."""
    demo, schema = STUDIES / f"{stages.DEMO}.yaml", SCHEMAS / "study.schema.json"
    return {
        **STAGES.plan_settings(),
        "gpus_given": GPUS_GIVEN,
        "gpus_found": len(gpus.list_devices()),
        "demo": study.read_study(demo, schema) if demo.exists() else None,
    }


def check_unrecorded():
    """Have artefacts checked by their own stamps that Snakemake has no record of, or would believe unseen.

    Those that were set aside are looked at too: they come back if they count again.
    """
    recorded = provenance.recorded_paths(Path(".snakemake") / "metadata")
    told = set() if asked.believes_files(ASKED) else recorded
    unrecorded = [
        s
        for s in STAGES.all()
        if s.artefact not in told or os.path.exists(s.artefact + provenance.STALE)
    ]
    aside = provenance.set_stale_aside(unrecorded, IN_FORCE.codes)
    if aside:
        names = "\n  ".join(aside)
        print(
            f"Made by other settings or code than now, to be made again:\n  {names}",
            file=sys.stderr,
        )


def check_changed():
    """Have what was made from files that have changed since made again; what a dry run must know of it.

    A real run finds such artefacts renamed. A dry run writes nothing, and goes by a parameter that differs; a touch must
    not record that parameter, or the next dry run would find nothing to do.
    """
    dry = asked.only_looks(ASKED) or bool(ASKED.get("touch"))
    known = KnownDigests(source_checks.KNOWN)
    check = source_checks.changed if dry else source_checks.set_aside
    found = check(STAGES, known)
    if found:
        print(source_checks.describe(found), file=sys.stderr)
    return found if asked.only_looks(ASKED) else {}


def check_clock():
    """After the clock was set back, let nothing be newer than now."""
    logs = Path(".snakemake") / "log"
    if file_times.clock_was_set_back(logs):
        lowered = file_times.lower_future_times(
            [Path("resources"), Path(STAGES.results), logs]
        )
        print(
            f"The clock was set back since the last run: {lowered} files from the future now have the present time.",
            file=sys.stderr,
        )


def compared_stamps():
    """The digests in force of the two studies to compare; None for one whose file is not here."""
    other, schema = STAGES.machine.get("against"), SCHEMAS / "study.schema.json"
    against = IN_FORCE.of_other(other, STUDIES / f"{other}.yaml", schema)
    return {
        STAGES.study_id: IN_FORCE.stamps(),
        other: against.stamps() if against else None,
    }


def cpus_per_gpu():
    """CPU cores that go with each GPU on a cluster: the profile's number; `workflow.cores` is unknown there."""
    given = workflow.resource_settings.default_resources or {}
    given = given.get("cpus_per_gpu")
    try:
        return int(getattr(given, "value", given) or CPUS_PER_GPU)
    except (TypeError, ValueError):
        raise study.StudyError(
            "default-resources: cpus_per_gpu must be a number: the threads of jobs follow from it"
        )


def signed(function):
    """Let Snakemake read a function's parameters off it: it asks three times a job, and inspection takes 5 % of its time."""
    function.__signature__ = inspect.signature(function)
    return function


@signed
def threads_of(wildcards):
    """The cores of a cell's jobs."""
    return threads_for(gpus_of(wildcards))


def threads_of_probe(wildcards):
    """The cores of a probe, which takes one device of its budget."""
    return threads_for(gpus_of_probe(wildcards))


def threads_for(wanted):
    """Cores of a job that wants some GPUs: an equal share with each, and one core free for scoring if there are enough.

    A job on the CPU takes all, so that trainings run one at a time and timings mean something; in a study that also uses
    GPUs, what their shares leave. On a cluster a job takes the cores that go with its GPUs, one on the CPU those of one.
    """
    if ON_CLUSTER:
        return CORES_PER_GPU * max(1, wanted)
    share = max(1, (workflow.cores - 1) // max(wanted, GPUS, 1))
    if wanted:
        return wanted * share
    return max(1, workflow.cores - GPUS * share) if STAGES.uses_gpus else workflow.cores


def reduction_priority():
    """How urgent scores and energies are: below all that needs a GPU, but for a cluster, where none waits for them.

    There they run beside Snakemake, and its limit of jobs counts them among those that it submits.
    """
    return priorities.DATA - 1 if ON_CLUSTER else priorities.REDUCTION


@signed
def gpus_of(wildcards):
    """The GPUs that a cell's jobs lease."""
    return STAGES.gpus(wildcards.cell)


def gpus_of_probe(wildcards):
    """A probe takes one device of its budget."""
    return min(1, STAGES.gpus(STAGES.probes[wildcards.probe]))


@signed
def priority_of(wildcards):
    """How urgent a job that leases GPUs is: many GPUs before few, long before short."""
    return STAGES.priority(wildcards.cell, wildcards.get("inference"))


def stage_of(rule):
    """The stage of a rule as a function of its wildcards."""
    return lambda wildcards: getattr(STAGES, rule)(
        *(value for name, value in wildcards.items() if name != "study")
    )


def settings_of(rule):
    """A rule's `settings` parameter."""
    stage = stage_of(rule)
    return signed(lambda wildcards: escaping.Undisclosed(stage(wildcards).settings))


def execution_of_finetune(wildcards, threads):
    """How a training is carried out, as the number of its threads is: Snakemake compares no parameter made from them."""
    return dict(STAGES.execution(wildcards.cell))


def changed_of(rule):
    """The files that a rule's artefact is no longer made from, as far as a dry run is to show it."""
    stage = stage_of(rule)
    return signed(lambda wildcards: CHANGED.get(stage(wildcards).artefact, []))


def code_of(rule):
    """A rule's `code` parameter."""
    stage = stage_of(rule)
    return signed(lambda wildcards: IN_FORCE.code(stage(wildcards)))


@signed
def failure_of_energy(wildcards):
    """Where a failed reduction of one part leaves its record; parts must not share one."""
    part = wildcards.part.replace(os.sep, "-")
    return f"{STAGES.results}/{wildcards.cell}/work/failure-energy-{part}.json"


@signed
def cell_inputs(wildcards):
    """Tokens, tokenizer and, for a pretrained model, the checkpoint of a cell."""
    return STAGES.inputs(wildcards.cell)


@signed
def predict_inputs(wildcards):
    """What a cell predicts with: its model, calibrated where it has several exits."""
    return STAGES.predict_inputs(wildcards.cell)


@signed
def finetune_inputs(wildcards):
    """What a cell trains on, and its batch size where that is found out."""
    return STAGES.finetune_inputs(wildcards.cell)


@signed
def score_inputs(wildcards):
    """What a cell's predictions are judged by."""
    found = cell_inputs(wildcards)
    return {
        name: found[name] for name in ("tokens", "tokenized", "tokenizer", "dataset")
    }


def probe_inputs(wildcards):
    """What the cells of a probe train on."""
    return STAGES.probe_inputs(wildcards.probe)


def dataset_facts(wildcards):
    """The statistics of every dataset and tokenizer in use."""
    facts = STAGES.dataset_facts()
    return sorted({f[kind] for f in facts for kind in ("records", "tokens")})


def in_report(path, kind, shown):
    """A figure or a table with its place in the report."""
    return report(
        f"results/{{study}}/{path}",
        caption=f"../report/{shown.caption}.rst",
        category=shown.category,
        labels={kind: escaping.in_report_label(shown.label)},
    )


def figure_outputs():
    """Every figure as the report shows it, and as a picture."""
    figures = displays.figures(STAGES.study)
    shown = [
        in_report(f"figures/{name}.svg", "figure", figure)
        for name, figure in figures.items()
    ]
    return [*shown, *(f"results/{{study}}/figures/{name}.png" for name in figures)]


def exits_outputs():
    """Every figure of models with exits as the report shows it, and as a picture."""
    figures = displays.exit_figures(STAGES.study)
    shown = [
        in_report(f"exits/figures/{name}.svg", "figure", figure)
        for name, figure in figures.items()
    ]
    return [
        *shown,
        *(f"results/{{study}}/exits/figures/{name}.png" for name in figures),
    ]


def power_output():
    """Every cell's power over time, as the report shows it."""
    return report(
        STAGES.power_page(),
        caption="../report/power.rst",
        category=stages.POWER,
        labels={"page": "all cells"},
    )


def table_outputs():
    """Every table as the report shows it, and for other programs."""
    tables = displays.tables(STAGES.study)
    shown = [
        in_report(f"tables/{name}.html", "table", table)
        for name, table in tables.items()
    ]
    kinds = [kind for kind in displays.TABLE_KINDS if kind != "html"]
    others = [
        f"results/{{study}}/tables/{name}.{kind}" for name in tables for kind in kinds
    ]
    return [*shown, *others]


def summary_inputs(wildcards):
    """Every cell's JSON artefacts, and what models with exits are beside their baselines."""
    return STAGES.summary_inputs()


try:
    if workflow.is_main_process:
        places.check_paths([workflow.basedir, Path.cwd(), sys.executable], ON_CLUSTER)
    sys.executable = places.ForShell(sys.executable)
    STAGES = read_stages()
    IN_FORCE = in_force.InForce(STAGES, SCRIPTS, config.get("accept_code", []))
    GPUS_GIVEN = gpus_given()
    GPUS = gpu_limit()
    CORES_PER_GPU = cpus_per_gpu()
    if workflow.is_main_process:  # a job on another node sees that node's GPUs alone
        if GPUS is not None and asked.leases_gpus(ASKED):
            start_checks.check_budgets(STAGES, GPUS)
        start_checks.check_against(STAGES, ASKED, STUDIES)
        if not asked.only_tells(ASKED):
            start_checks.check_sources(STAGES)
            start_checks.check_metrics(STAGES)
        if asked.fetches(ASKED):
            start_checks.check_hub(STAGES, ASKED)
        if not asked.only_looks(ASKED):
            start_checks.check_writable(STAGES)
            check_clock()
        check_unrecorded()
        if asked.fetches(ASKED):
            CHANGED = check_changed()
            AWAITED = outdated.shared_set_aside(STAGES.before_summary())
        os.environ.update(asked.job_environment(ASKED))
        if asked.reports_only(ASKED):
            start_checks.check_report(IN_FORCE)
except (study.StudyError, gpus.GpuError, start_checks.StaleReport) as error:
    refuse(error)


if not workflow.is_main_process:
    # A time limit's early SIGTERM reaches every process of a job. Bash before 5.1 stays between Snakemake and the
    # script and would die of it; Snakemake would then end the job while the script is still saving its checkpoint.
    shell.prefix("set -euo pipefail; trap : TERM; ")


wildcard_constraints:
    study=STAGES.pattern([STAGES.study_id]),
    dataset=STAGES.pattern(STAGES.datasets),
    tokenizer=STAGES.pattern(STAGES.tokenizers),
    model=STAGES.pattern(STAGES.models),
    probe=STAGES.pattern(STAGES.probes),
    inference=STAGES.pattern(STAGES.inferences),
    part=STAGES.pattern(STAGES.parts()),
    cell=STAGES.cell_pattern(),
