"""Plan what a study will take."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.plan.report import write_plan
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_plan(
            snakemake.params.settings,
            snakemake.params.stamps,
            Path(snakemake.params.results),
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
