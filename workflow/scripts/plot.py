"""Draw a study's figures."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.report.figures import plot_all

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        plot_all(
            Path(snakemake.input.summary),
            Path(snakemake.output.report).parent,
            snakemake.params.settings,
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
