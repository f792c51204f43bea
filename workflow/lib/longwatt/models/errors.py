"""Errors about models, importable without torch."""


class ModelError(ValueError):
    """A model that cannot be built as asked, with the key and what would work."""
