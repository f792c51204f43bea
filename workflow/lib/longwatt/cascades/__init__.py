"""Cascades: thresholds, curves of score against energy, and whether they pay."""
