"""Record the logits of every classifier of one cell."""

from longwatt import job
from longwatt.provenance import deciding, stamp, work_identity

if __name__ == "__main__":
    with job.logged(snakemake.log[0], snakemake.params.failure):
        made_from = deciding(snakemake.input)
        made_by = stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code, made_from)
        job.run_workers(
            "longwatt.exit_recording",
            spec={
                "settings": snakemake.params.settings,
                "paths": {**snakemake.input, **snakemake.output, "work": snakemake.params.work},
                "identity": work_identity(made_by, snakemake.input),
                "provenance": made_by,
            },
            threads=snakemake.threads,
            work=snakemake.params.work,
            energy_log=snakemake.output.energy_log,
            label=f"record_exits {snakemake.wildcards.cell}",
        )
