"""Code of models that are a decoder alone, which needs torch."""
