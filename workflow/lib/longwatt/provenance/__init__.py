"""Digests, stamps, and artefacts that are checked when they are read."""
