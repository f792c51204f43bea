"""Define the error of a study that cannot be written."""

from __future__ import annotations


class FirstStudyError(ValueError):
    """A first study cannot be written. The message says what to do."""
