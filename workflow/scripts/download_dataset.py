"""Read one dataset into records."""

from pathlib import Path

from longwatt.datasets.records import download
from longwatt.datasets.visibility import scored_by
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], fetches=True):
        download(
            snakemake.params.settings,
            Path(snakemake.output.dataset).parent,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
            scored_by(snakemake.wildcards.dataset),
        )
