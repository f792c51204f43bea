"""Sensors of GPUs and processors."""
