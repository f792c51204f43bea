"""Token ids, tokenizers, and what predictions are compared with."""
