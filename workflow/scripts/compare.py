"""Compare two studies side by side."""

from pathlib import Path

from longwatt.compare.report import write_comparison
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_comparison(
            Path(snakemake.params.results),
            snakemake.params.settings,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
            snakemake.params.stamps,
        )
