"""Stretches of a packed row (shared.py) as padded rows: which of them share a call, and where their tokens
are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

# Rows of different lengths share a call where padding adds at most a quarter to its cost, or where the call
# is so small that overhead dominates.
PADDING = 1.25

Item = TypeVar("Item")


def similar(
    items: Iterable[Item],
    size: Callable[[Item], tuple[int, int]],
    cost: Callable[[int, int], int],
    small: int,
) -> list[list[Item]]:
    """Batches of items of similar sizes, for one call each.

    size: (keys before, length) of an item. cost: of one row of such a size. small: of a call, in its unit.
    """
    batches: list[list[Item]] = []
    alone = longest = 0
    for item in sorted(items, key=size):
        before, length = size(item)
        if batches:
            longest = max(longest, length)
            # Items come sorted: the newest has the most keys before it.
            together = (len(batches[-1]) + 1) * cost(before, longest)
            if together <= max(PADDING * (alone + cost(before, length)), small):
                batches[-1].append(item)
                alone += cost(before, length)
                continue
        batches.append([item])
        alone, longest = cost(before, length), length
    return batches


def padded(
    rows: Sequence[Sequence[tuple[int, int]]], left: bool = False, shortest: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (m, longest) of each row's stretches (start, length) one after the other; which are real.

    Padding points at 0, on the right or the left. shortest: the least columns.
    """
    indices = [torch.cat([torch.arange(i, i + n) for i, n in row]) for row in rows]
    side = "left" if left else "right"
    index = pad_sequence(indices, batch_first=True, padding_side=side)
    real = pad_sequence([torch.ones_like(x).bool() for x in indices], batch_first=True, padding_side=side)
    more = max(0, shortest - index.shape[1])
    columns = (more, 0) if left else (0, more)
    return pad(index, columns), pad(real, columns)


def places(real_mQ: torch.Tensor) -> torch.Tensor:
    """int64 (N,): positions of the real tokens among all m * Q."""
    return real_mQ.flatten().nonzero().squeeze(1)
