"""Read the study and prepare what rules ask of it (no rules here)."""

import contextlib
import gc
import io
import os
import sys
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError

from longwatt import shipped
from longwatt.config import documents, machine_settings, studies
from longwatt.config.errors import StudyError
from longwatt.datasets import visibility
from longwatt.freshness import in_force, source_checks
from longwatt.freshness.outdated import StaleSummary
from longwatt.gpus import listing
from longwatt.jobs import waiting
from longwatt.layout import escaping
from longwatt.plan import urgency
from longwatt.startup import invocation, patterns, places, scored
from longwatt.startup.run import Given, Run, partial_settings
from longwatt.study import checks as study_checks
from longwatt.study import outputs
from longwatt.study.reported import report_items

# Containers see the project too, where Snakemake works in another folder.
if config.get("container"):
    seen = [ROOT, shipped.PACKAGE.resolve()]
    os.environ.update(places.container_environment(seen, os.environ))

# Jobs inherit this, also those that load torch in their script.
os.environ.update(waiting.thread_environment(os.environ))

# The jobs of a large study are millions of live objects and no garbage: looking through them while
# they are made takes 16 % of the time (1,500 cells). Once jobs run, it is done again.
# No `onstart` of a module is run.
if workflow.modifier.is_main_snakefile():
    gc.disable()


onstart:
    gc.enable()


FOLDERS = shipped.study_folders()


def options():
    """Return Snakemake's options, its profiles' included, or none without a command line."""
    if not workflow.is_main_process:
        return {}
    # It says again which profile it uses.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            asked = vars(parse_args(sys.argv[1:])[1])
        except SystemExit:
            return {}
    rules = [path.stem for path in shipped.SCRIPTS.glob("*.py")]
    return invocation.in_our_names(asked, named_here(["all", *rules]), rules)


def plain(resource):
    """Return the value of a resource; an expression stays, and is refused later."""
    try:
        return getattr(resource, "value", resource)
    except ValueError:
        return resource


def given():
    """Collect what Snakemake was given, as plain values."""
    settings = workflow.resource_settings
    limit = plain(settings.resources.get("gpu"))
    return Given(
        options=options(),
        main=workflow.is_main_process,
        cores=settings.cores,
        gpus=None if limit is None else int(limit),
        cpus_per_gpu=plain((settings.default_resources or {}).get("cpus_per_gpu")),
    )


def read_stages():
    """Read the jobs of the study that config.yaml names."""
    schema = documents.read_yaml(shipped.CONFIG_SCHEMA)
    imported = workflow.modifier.skip_configfile  # with a `config` of its own
    defaults = documents.read_yaml(ROOT / "config.yaml") if imported else {}
    given = machine_settings.module_config(defaults, config)
    machine = machine_settings.machine_settings(given, schema, FOLDERS, imported)
    os.environ.update(machine_settings.environment(machine))
    document = studies.read_study(studies.find_study(machine["study"], FOLDERS))
    found = study_checks.checked_stages(machine["study"], document, machine)
    os.environ.update(visibility.scorings_environment(scored.scorings(found)))
    return found


def gpu_limit():
    """Return the GPUs that may be used: what the user said, else the devices found here.

    None where a cluster allots them, and in its jobs: a limit here would silently lower what a job
    asks for.
    """
    if GIVEN.gpus is not None or GIVEN.on_cluster:
        return GIVEN.gpus
    limit = len(listing.list_devices())
    workflow.register_resource("gpu", limit)
    return limit


def in_report(path, kind, shown):
    """Give a figure or a table its place in the report."""
    return report(
        f"results/{{study}}/{path}",
        caption=f"../report/{shown.caption}.rst",
        category=shown.category,
        labels={kind: escaping.in_report_label(shown.label)},
    )


def figures_in_report(folder, figures):
    """List every figure as the report shows it, and as a picture."""
    shown = [in_report(f"{folder}/{n}.svg", "figure", f) for n, f in figures.items()]
    return [*shown, *(f"results/{{study}}/{folder}/{name}.png" for name in figures)]


def tables_in_report(tables):
    """List every table as the report shows it, and for other programs."""
    shown = [in_report(f"tables/{n}.html", "table", t) for n, t in tables.items()]
    kinds = [kind for kind in report_items.TABLE_KINDS if kind != "html"]
    names = [f"{name}.{kind}" for name in tables for kind in kinds]
    return [*shown, *(f"results/{{study}}/tables/{name}" for name in names)]


try:
    GIVEN = given()
    os.environ.update(invocation.binding_environment(GIVEN.on_cluster))
    if GIVEN.main:
        here = [workflow.basedir, ROOT, Path.cwd(), sys.executable]
        places.check_paths(here, GIVEN.on_cluster)
    sys.executable = places.ForShell(sys.executable)
    STAGES = read_stages()
    IN_FORCE = in_force.InForce(
        STAGES, shipped.SCRIPTS, STAGES.machine.get("accept_code", [])
    )
    RUN = Run(IN_FORCE, GIVEN, gpu_limit(), FOLDERS)
    RUN.start()
    for name, most in RUN.limits(workflow.resource_settings.resources).items():
        workflow.register_resource(name, most)
except (StudyError, listing.GpuError, StaleSummary) as error:
    # A wrong setting stops the run with its message, not with a traceback.
    raise WorkflowError(str(error))


if not GIVEN.main:
    # A time limit's early SIGTERM reaches every process of a job. Bash before 5.1 stays between
    # Snakemake and the script and would die of it. Snakemake would then end the job while the
    # script is still saving its checkpoint.
    # What an importing workflow asks for stays; Snakemake puts it in the place of its name.
    before = shell._process_prefix or "set -euo pipefail; "
    shell.prefix("trap : TERM; {before}")


wildcard_constraints:
    study=patterns.one_of([STAGES.study_id]),
    dataset=patterns.one_of(STAGES.datasets),
    tokenizer=patterns.one_of(STAGES.tokenizers),
    model=patterns.one_of(STAGES.models),
    probe=patterns.one_of(STAGES.probes),
    inference=patterns.one_of(STAGES.study["inference"]),
    part=patterns.part_of(STAGES.study["inference"]),
    cell=patterns.cell_of(STAGES.cells.values()),
