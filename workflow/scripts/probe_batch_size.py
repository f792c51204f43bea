"""Find the largest batch per device that fits."""

from longwatt.jobs import launch, log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], f"{snakemake.params.work}/failure.json"):
        launch.run_workers(
            "longwatt.training.probe_batch_size",
            spec={
                "settings": snakemake.params.settings,
                "paths": {**snakemake.input, **snakemake.output, "work": snakemake.params.work},
                "identity": {},
                "provenance": stamp(
                    snakemake.rule, snakemake.params.settings, snakemake.params.code
                ),
            },
            threads=snakemake.threads,
            work=snakemake.params.work,
            energy_log=snakemake.output.energy_log,
            label=f"probe_batch_size {snakemake.wildcards.probe}",
        )
