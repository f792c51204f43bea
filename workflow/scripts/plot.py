"""Draw a study's figures."""

from pathlib import Path

from longwatt import job
from longwatt.figures import plot_all
from longwatt.provenance import sha256, stamp
from longwatt.summary import read_summary

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        summary = Path(snakemake.input.summary)
        plot_all(
            read_summary(summary),
            Path(snakemake.output.report).parent,
            snakemake.params.settings["titles"],
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
            summary_sha256=sha256(summary),
        )
