"""Collect a study's finished results into one table."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.results.summary import write_summary

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        summary = Path(snakemake.output.summary)
        made_by = stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code)
        write_summary(
            summary.parent, **snakemake.params.settings, target=summary, provenance=made_by
        )
