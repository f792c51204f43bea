"""Draw every cell's power over time."""

from pathlib import Path

from longwatt import job
from longwatt.energy_figures import plot_power
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        folder = Path(snakemake.output.report).parent
        plot_power(
            folder.parent,
            folder,
            **snakemake.params.settings,
            provenance=stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
