"""Compare two studies side by side."""

from pathlib import Path

from longwatt import job
from longwatt.compare_report import write_comparison
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        write_comparison(
            Path(snakemake.params.results),
            snakemake.params.settings,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
            snakemake.params.stamps,
        )
