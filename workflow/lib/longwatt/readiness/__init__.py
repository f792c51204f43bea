"""Find everything that would be refused, all of it and in seconds, without running."""
