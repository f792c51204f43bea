"""Write a study's summary as people read it."""

from pathlib import Path

from longwatt import job
from longwatt.provenance import sha256, stamp
from longwatt.summary import read_summary
from longwatt.tables import write_tables

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        summary = Path(snakemake.input.summary)
        write_tables(
            read_summary(summary),
            Path(snakemake.output.report).parent,
            snakemake.params.settings["titles"],
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
            summary_sha256=sha256(summary),
        )
