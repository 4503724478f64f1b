"""Which examples a step takes: a pure function of (seed, position), so that a resumed run continues where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class EpochOrder:
    """Endless passes over `num_examples` examples, each in its own order when `shuffle` is set.

    A position counts the examples taken since the start of the run; it is all that a checkpoint has to keep. Nothing is
    dropped: when an epoch does not divide into batches, its last examples share a batch with the first of the next
    epoch (EasyR1 drops them). Such a batch can hold an example twice; a batch of more than `num_examples` must.
    """

    num_examples: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError("there are no examples to order")

    def epoch(self, position: int) -> int:
        """The epoch, from 0, that the example at this position belongs to."""
        return position // self.num_examples

    def take(self, position: int, count: int) -> list[int]:
        """Indices of the `count` examples from `position` on."""
        indices: list[int] = []
        while len(indices) < count:
            epoch, start = divmod(position + len(indices), self.num_examples)
            order = self._permutation(epoch)
            indices.extend(order[start : start + count - len(indices)].tolist())
        return indices

    def _permutation(self, epoch: int) -> np.ndarray:
        return (
            _permutation(self.num_examples, self.seed, epoch)
            if self.shuffle
            else np.arange(self.num_examples)
        )


@lru_cache(maxsize=4)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Sorted by random keys: numpy promises Philox's raw stream for ever, but not the stream of `shuffle`."""
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(num_examples), kind="stable")
