"""Checks of what models read and write as texts."""
