"""The error of a study file or of config.yaml."""

from __future__ import annotations

CHANGES_NO_RESULT = "It reads settings, which are digested themselves."


class StudyError(ValueError):
    """A setting that cannot be used.

    The message names the file, the key and what to do.
    """
