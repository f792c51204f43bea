"""Finished results, told in the formats of others: what was measured or declared, no more."""
