"""Reduce one job's phase log to energy numbers."""

from pathlib import Path

from longwatt import job
from longwatt.energy.reduction import summarize
from longwatt.provenance import stamp, write_json

if __name__ == "__main__":
    with job.logged(snakemake.log[0], snakemake.params.failure):
        made_by = stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code)
        facts = summarize(Path(snakemake.input.phases), **snakemake.params.settings)
        write_json(snakemake.output.energy, {**facts, "provenance": made_by})
