"""Draw a study's figures."""

from pathlib import Path

from longwatt import job
from longwatt.figures import plot_all
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        plot_all(
            Path(snakemake.input.summary),
            Path(snakemake.output.report).parent,
            snakemake.params.settings,
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
