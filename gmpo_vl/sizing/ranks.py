"""Which rank computes which groups: whole groups, as many on each, and as much work."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from gmpo_vl.batching.planning import Row, shapes_of
from gmpo_vl.sizing.cost import Cost, Rates, plain_cost, shared_cost, training_cost, work


def deal(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Indices for each rank: equally many, sums of costs as equal as largest differencing makes them.

    Karmarkar and Karp 1982: of the sets of partial sums dealt so far, the two with the largest spread are
    laid on top of each other, large on small. Raises ValueError where the count is no multiple of `ranks`.
    """
    if not costs or len(costs) % ranks:
        raise ValueError(f"{len(costs)} groups cannot be dealt to {ranks} ranks in equal numbers")
    order = sorted(range(len(costs)), key=lambda i: costs[i])
    heap: list[tuple[float, int, list[tuple[float, list[int]]]]] = []
    for start in range(0, len(order), ranks):
        hands = [(costs[i], [i]) for i in order[start : start + ranks]]
        heap.append((hands[0][0] - hands[-1][0], start, hands))
    heapq.heapify(heap)
    while len(heap) > 1:
        _, number, one = heapq.heappop(heap)
        _, _, other = heapq.heappop(heap)
        hands = sorted((x + y, i + j) for (x, i), (y, j) in zip(one, reversed(other)))
        heapq.heappush(heap, (hands[0][0] - hands[-1][0], number, hands))
    return [sorted(indices) for _, indices in heap[0][2]]


def group_cost(
    of: Rates,
    rows: Sequence[Row],
    share_prefix: bool = True,
    checkpointing: bool = False,
    frozen_vision: bool = False,
) -> float:
    """Work of forward and backward of one group's rows, pictures included (cost.py); 0 without rows."""
    return work(of, training_cost(_forward_cost(of, rows, share_prefix), checkpointing, frozen_vision))


def group_operations(
    of: Rates, rows: Sequence[Row], share_prefix: bool = True, frozen_vision: bool = False
) -> float:
    """Operations of forward and backward of one group's rows, as a model's use of a GPU (MFU) counts them.

    Each counts once: nothing for what is recomputed. A frozen ViT runs forward only.
    """
    return training_cost(_forward_cost(of, rows, share_prefix), frozen_vision=frozen_vision).total


def _forward_cost(of: Rates, rows: Sequence[Row], share_prefix: bool) -> Cost:
    of_shape = shared_cost if share_prefix else plain_cost
    return sum((of_shape(of, shape) for shape in shapes_of([rows])), Cost())
