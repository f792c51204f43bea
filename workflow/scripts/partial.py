"""Write summary and figures of what is finished, and the state of every cell."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.report.partial import write_partial

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_partial(
            Path(snakemake.params.results),
            snakemake.params.settings,
            snakemake.params.stamps,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
