"""Which results still count."""
