"""Draw the figures of a study's models with exits."""

from pathlib import Path

from longwatt.exits.figures import plot_exits
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        plot_exits(
            Path(snakemake.input.exits),
            Path(snakemake.input.curve),
            Path(snakemake.input.difficulty),
            dict(zip(snakemake.params.cells, map(Path, snakemake.input.calibrations), strict=True)),
            Path(snakemake.output.report).parent / "figures",
            snakemake.params.settings,
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
