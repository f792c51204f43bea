"""Startup: what the Snakefile needs to know and to check while Snakemake reads it."""
