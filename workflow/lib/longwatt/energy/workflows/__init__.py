"""Energy of the jobs of any Snakemake workflow, by job and by rule."""
