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
        """Of every row: does the hash of its group say validation? Where there are several groups, one at
        least is on each side.

        A key of its own is a hash already. The smallest of several is not evenly spread: it is hashed again.
        """
        limit = share * 2**64
        lowest, highest = min(self._drawn(), default=0), max(self._drawn(), default=0)
        if lowest < highest:
            limit = min(max(limit, lowest + 1), highest)
        return (drawn < limit for drawn in self._drawn())

    def _drawn(self) -> Iterator[int]:
        """Of every row, in order, its group's place between 0 and 2**64."""
        for group in self.groups():
            yield key_of(group.to_bytes(8, "big")) if group in self._next else group


def key_of(content: bytes) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
