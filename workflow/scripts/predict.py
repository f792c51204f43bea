"""Predict with one cell's best weights at one inference point."""

from longwatt.jobs import launch, log
from longwatt.provenance.identity import deciding_inputs, work_identity
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], snakemake.params.failure):
        made_from = deciding_inputs(snakemake.input)
        made_by = stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code, made_from)
        launch.run_workers(
            "longwatt.inference.predict",
            spec={
                "settings": snakemake.params.settings,
                "paths": {**snakemake.input, **snakemake.output, "work": snakemake.params.work},
                "identity": work_identity(made_by, snakemake.input),
                "provenance": made_by,
            },
            threads=snakemake.threads,
            work=snakemake.params.work,
            energy_log=snakemake.output.energy_log,
            label=f"predict {snakemake.wildcards.cell}",
        )
