"""Train one cell."""

from longwatt import job
from longwatt.execution import MAY_CHANGE
from longwatt.provenance import deciding, stamp, work_identity

if __name__ == "__main__":
    with job.logged(snakemake.log[0], snakemake.params.failure):
        made_from = deciding(snakemake.input)
        made_by = stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code, made_from)
        job.run_workers(
            "longwatt.training",
            spec={
                "settings": snakemake.params.settings,
                "paths": {**snakemake.input, **snakemake.output, "work": snakemake.params.work},
                "identity": work_identity(made_by, snakemake.input, MAY_CHANGE),
                "execution": snakemake.params.execution,
                "provenance": made_by,
            },
            threads=snakemake.threads,
            work=snakemake.params.work,
            energy_log=snakemake.output.energy_log,
            label=f"finetune {snakemake.wildcards.cell}",
        )
