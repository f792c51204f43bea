"""Fit one cell's temperatures."""

from pathlib import Path

from longwatt.exits.temperatures import calibrate
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], snakemake.params.failure):
        calibrate(
            snakemake.params.settings,
            **{name: Path(path) for name, path in {**snakemake.input, **snakemake.output}.items()},
            provenance=stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
