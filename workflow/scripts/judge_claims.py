"""Judge a study's claims by its summary and its examples' scores."""

from pathlib import Path

from longwatt import job
from longwatt.claim_pages import write_claims
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        write_claims(
            Path(snakemake.input.summary),
            Path(snakemake.output.verdicts),
            snakemake.params.settings,
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
            Path(snakemake.params.results),
        )
