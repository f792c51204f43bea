"""Compute losses of models without holding all logits."""
