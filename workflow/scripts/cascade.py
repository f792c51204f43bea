"""Write score against energy for all cascades of finished cells."""

from pathlib import Path

from longwatt.cascades.report import write_cascades
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_cascades(
            Path(snakemake.params.results),
            snakemake.params.settings,
            snakemake.params.stamps,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
