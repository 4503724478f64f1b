"""Which rows go to validation: those that share a picture stay on one side, whatever connects them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence


class Groups:
    """Rows joined by the keys (64 bits) that they share. Holds 8 bytes a row, and the keys that join others.

    A row with the keys (a, b) and one with (b, c) are in one group, as is every row with a, b or c.
    """

    def __init__(self) -> None:
        self._key_K = array("Q")  # of each row
        self._next: dict[int, int] = {}  # towards a group's smallest key; only of groups with several keys

    def __len__(self) -> int:
        return len(self._key_K)

    def add(self, keys: Sequence[int]) -> None:
        """The next row, with at least one key."""
        self._key_K.append(keys[0])
        for key in keys[1:]:
            low, high = sorted((self._smallest(keys[0]), self._smallest(key)))
            if low != high:
                self._next[high] = low
                self._next.setdefault(low, low)

    def _smallest(self, key: int) -> int:
        following = self._next
        while (up := following.get(key, key)) != key:
            following[key] = following[up]
            key = up
        return key

    def groups(self) -> Iterator[int]:
        """Of every row, in order, its group's smallest key."""
        return map(self._smallest, self._key_K)

    def in_validation(self, share: float) -> Iterator[bool]:
        """Of every row: does the hash of its group say validation?

        A key of its own is a hash already. The smallest of several is not evenly spread: it is hashed again.
        """
        for group in self.groups():
            drawn = key_of(group.to_bytes(8, "big")) if group in self._next else group
            yield drawn / 2**64 < share


def key_of(content: bytes) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
