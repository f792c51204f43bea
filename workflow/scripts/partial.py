"""Write summary and figures of what is finished, and the state of every cell."""

from pathlib import Path

from longwatt import job
from longwatt.partial import write_partial
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        write_partial(
            Path(snakemake.params.results),
            snakemake.params.settings,
            snakemake.params.stamps,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
