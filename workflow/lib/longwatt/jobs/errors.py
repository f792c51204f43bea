"""Errors of jobs that say what to change."""

from __future__ import annotations


class WorkerError(RuntimeError):
    """A worker cannot do its work here, with a message that says what is missing."""
