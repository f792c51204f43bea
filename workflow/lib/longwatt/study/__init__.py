"""The parts of a study: cells, settings, checks, and the catalogue of jobs."""
