"""Answer which cell to take."""
