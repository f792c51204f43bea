"""Judge which results still count."""
