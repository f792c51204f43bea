"""The lengths by which transformers chooses how BigBird-Pegasus attends."""

from __future__ import annotations

SPARSE, FULL = "block_sparse", "original_full"
OLD_PLAN = (1024, 3072, 4096)  # lengths for which transformers keeps the original authors' plan
OLD_PLAN_END = 1024  # the tokens in which that plan draws


def longest_full(random: int, size: int) -> int:
    """Return the longest input with full attention, of blocks of `size` tokens."""
    # Two global blocks, three of the window, and twice the random blocks.
    return (5 + 2 * random) * size
