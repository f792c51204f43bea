"""Fit one cell's temperatures."""

from pathlib import Path

from longwatt import job
from longwatt.provenance import stamp
from longwatt.temperatures import calibrate

if __name__ == "__main__":
    with job.logged(snakemake.log[0], snakemake.params.failure):
        calibrate(
            snakemake.params.settings,
            **{name: Path(path) for name, path in {**snakemake.input, **snakemake.output}.items()},
            provenance=stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
