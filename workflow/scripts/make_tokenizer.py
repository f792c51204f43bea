"""Train one dataset's tokenizer, or take a checkpoint's own."""

from pathlib import Path

from longwatt.jobs import log
from longwatt.provenance.stamps import stamp, write_json
from longwatt.tokens.tokenizers import make_tokenizer

if __name__ == "__main__":
    with log.logged(snakemake.log[0], fetches=True):
        made_by = stamp(
            snakemake.rule,
            snakemake.params.settings,
            snakemake.params.code,
            [snakemake.input.dataset],
        )
        folder = Path(snakemake.output.tokenizer).parent
        facts = make_tokenizer(snakemake.params.settings, Path(snakemake.input.records), folder)
        write_json(snakemake.output.provenance, {**facts, "provenance": made_by})
