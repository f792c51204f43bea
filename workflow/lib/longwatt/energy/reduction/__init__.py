"""From an energy log to numbers."""
