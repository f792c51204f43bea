"""Bring the weights of a pretrained model, from wherever and in whatever form they are."""
