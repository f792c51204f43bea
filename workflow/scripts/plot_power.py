"""Draw every cell's power over time on one page."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.report.power_page import write_power

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        folder = Path(snakemake.output.report).parent
        write_power(
            folder.parent,
            folder,
            **snakemake.params.settings,
            provenance=stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
