"""Find the largest batch per device that fits."""

from longwatt import job
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0], f"{snakemake.params.work}/failure.json"):
        job.run_workers(
            "longwatt.probing",
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
