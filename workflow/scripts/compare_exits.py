"""Compare a study's models with exits with their baselines."""

from pathlib import Path

from longwatt.exits.comparison import compare_exits
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        compare_exits(
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
