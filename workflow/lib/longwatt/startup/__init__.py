"""Prepare and check what the Snakefile needs while Snakemake reads it."""
