"""Plan what a study will take."""

from pathlib import Path

from longwatt import job
from longwatt.plan_report import write_plan
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        write_plan(
            snakemake.params.settings,
            snakemake.params.stamps,
            Path(snakemake.params.results),
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
