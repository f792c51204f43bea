"""Energy of a job: phase marks while it runs, and their reduction to numbers afterwards."""
