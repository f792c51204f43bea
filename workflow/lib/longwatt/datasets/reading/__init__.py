"""Rows of data files as people have them."""
