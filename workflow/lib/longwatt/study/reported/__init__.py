"""Name what the reports of a study show: items, titles and published values."""
