"""How figures, pages and tables look."""
