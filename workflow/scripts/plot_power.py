"""Draw every cell's power over time on one page."""

from pathlib import Path

from longwatt import job
from longwatt.power_page import write_power
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        folder = Path(snakemake.output.report).parent
        write_power(
            folder.parent,
            folder,
            **snakemake.params.settings,
            provenance=stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
