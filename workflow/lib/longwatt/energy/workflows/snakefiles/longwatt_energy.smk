# The meter's part in another workflow: `from longwatt.energy import meter; meter(workflow)`.
import importlib as _importlib

from longwatt.energy.workflows import hook as _energy

# `snakemake.shell` of the package is the class, which hides the module of this name.
_energy.install(
    *map(_importlib.import_module, ("snakemake.executors.local", "snakemake.shell"))
)


localrules:
    longwatt_energy,


rule longwatt_energy:
    """Sum up the energy of all jobs by rule, with a page, a figure and tables."""
    input:
        _energy.awaited(workflow),
    output:
        report(
            f"{_energy.settings.folder_name}/energy.html",
            category="Energy",
            labels={"energy": "of all rules and jobs"},
        ),
        report(
            f"{_energy.settings.folder_name}/energy.svg",
            category="Energy",
            labels={"energy": "figure by rule"},
        ),
        report(
            f"{_energy.settings.folder_name}/rules.csv",
            category="Energy",
            labels={"energy": "table of rules"},
        ),
        report(
            f"{_energy.settings.folder_name}/jobs.csv",
            category="Energy",
            labels={"energy": "table of jobs"},
        ),
    log:
        f"{_energy.settings.folder_name}/longwatt_energy.log",
    params:
        command=_energy.settings.command,
    shell:
        "{params.command} >{log:q} 2>&1"
