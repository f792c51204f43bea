"""Compare a study's models with exits with their baselines."""

from pathlib import Path

from longwatt import job
from longwatt.exit_comparison import compare
from longwatt.provenance import stamp

if __name__ == "__main__":
    with job.logged(snakemake.log[0]):
        compare(
            Path(snakemake.params.results),
            snakemake.params.settings["cells"],
            snakemake.params.settings,
            Path(snakemake.output.exits),
            Path(snakemake.output.curve),
            Path(snakemake.output.difficulty),
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
