"""Train one cell."""

from longwatt.jobs import launch, log
from longwatt.provenance.identity import deciding_inputs, work_identity
from longwatt.provenance.stamps import stamp
from longwatt.study.execution import MAY_CHANGE

if __name__ == "__main__":
    with log.logged(snakemake.log[0], snakemake.params.failure):
        made_from = deciding_inputs(snakemake.input)
        made_by = stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code, made_from)
        launch.run_workers(
            "longwatt.training.finetune",
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
