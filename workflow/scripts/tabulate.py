"""Write a study's tables as people read them."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.report.tables import write_tables

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_tables(
            Path(snakemake.input.summary),
            Path(snakemake.output.report).parent,
            snakemake.params.settings,
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
