"""Fit the threshold of one cascade."""

from longwatt.cascades.fitting import fit_cascade
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], snakemake.params.failure):
        fit_cascade(
            snakemake.params.settings,
            {**snakemake.input, **snakemake.output},
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
