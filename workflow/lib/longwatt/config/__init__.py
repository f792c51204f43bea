"""The study file and config.yaml, read and checked."""
