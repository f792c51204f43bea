"""Score one inference point against its references."""

from pathlib import Path

from longwatt import job
from longwatt.provenance import stamp
from longwatt.scoring import score

if __name__ == "__main__":
    with job.logged(snakemake.log[0], snakemake.params.failure):
        score(
            snakemake.params.settings,
            **{name: Path(path) for name, path in {**snakemake.input, **snakemake.output}.items()},
            provenance=stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
