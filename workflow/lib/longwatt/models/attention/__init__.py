"""Exact attention that computes only what its pattern asks for, over transformers' own modules."""
