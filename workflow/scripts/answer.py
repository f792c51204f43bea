"""Say which cell of a study to take, on a page and as JSON."""

from pathlib import Path

from longwatt.answer.page import write_answer
from longwatt.jobs import log
from longwatt.provenance.stamps import stamp

if __name__ == "__main__":
    with log.logged(snakemake.log[0]):
        write_answer(
            Path(snakemake.params.results),
            snakemake.params.settings,
            Path(snakemake.output.facts),
            stamp(
                snakemake.rule, snakemake.params.settings, snakemake.params.code, snakemake.input
            ),
        )
