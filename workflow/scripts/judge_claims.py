"""Judge a study's claims by its summary and its examples' scores."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.report.claims_page import write_claims

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_claims(
            Path(snakemake.input.summary),
            Path(snakemake.output.verdicts),
            snakemake.params.settings,
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
            Path(snakemake.params.results),
        )
