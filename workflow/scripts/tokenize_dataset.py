"""Tokenize one dataset's whole inputs once."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp
from longwatt.tokens.tokenize import tokenize_dataset

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        tokenize_dataset(
            Path(snakemake.input.records),
            Path(snakemake.input.tokenizer).parent,
            Path(snakemake.output.tokens),
            Path(snakemake.output.report),
            stamp(
                snakemake.rule,
                snakemake.params.settings,
                snakemake.params.code,
                snakemake.input[1:],
            ),
        )
