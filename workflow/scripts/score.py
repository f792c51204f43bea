"""Score one inference point against its references."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.results.scoring import score

if __name__ == "__main__":
    with log.logged(snakemake.log[0], snakemake.params.failure):
        score(
            snakemake.params.settings,
            **{name: Path(path) for name, path in {**snakemake.input, **snakemake.output}.items()},
            provenance=stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
