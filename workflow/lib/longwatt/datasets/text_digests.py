"""Digests of texts, to find equal ones among many in little memory."""

from __future__ import annotations

from hashlib import blake2b

DIGEST_BYTES = 16  # no two texts of any dataset share one by chance


class Digests:
    """Digests of texts in the order they came, to find equal ones."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, *texts: str) -> None:
        """Append the digest of one text or of several together."""
        found = blake2b(digest_size=DIGEST_BYTES)
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            found.update(len(data).to_bytes(8, "little") + data)
        self._bytes += found.digest()

    def later(self) -> dict[int, list[int]]:
        """Return the positions of later equals, by the position of the first of them."""
        import numpy as np

        found = np.frombuffer(bytes(self._bytes), dtype=f"S{DIGEST_BYTES}")
        order = np.argsort(found, kind="stable")
        equals: dict[int, list[int]] = {}
        first = -1
        for place in np.flatnonzero(found[order[1:]] == found[order[:-1]]):
            one, other = int(order[place]), int(order[place + 1])
            # Equals stand together: `one` is the last that was found or the first of others.
            first = first if first in equals and equals[first][-1] == one else one
            equals.setdefault(first, []).append(other)
        return equals

    def shared_with(self, others: Digests) -> int:
        """Count how many of these stand among others."""
        import numpy as np

        both, kind = (self._bytes, others._bytes), f"S{DIGEST_BYTES}"
        own, other = (np.frombuffer(bytes(found), dtype=kind) for found in both)
        return int(np.isin(own, other).sum())
