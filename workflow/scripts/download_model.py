"""Bring one model's pretrained weights into resources/."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.models.weights.download import download_model
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0], fetches=True):
        download_model(
            snakemake.params.settings,
            Path(snakemake.output.model).parent,
            stamp(snakemake.rule, snakemake.params.settings, snakemake.params.code),
        )
