"""Reduce one job's energy log to numbers and a curve."""

from pathlib import Path

from longwatt.energy.artefacts import write_energy
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], snakemake.params.failure):
        made_by = stamp(
            snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
        )
        write_energy(
            Path(snakemake.input.energy_log),
            snakemake.params.settings,
            Path(snakemake.output.energy),
            Path(snakemake.output.power),
            made_by,
        )
