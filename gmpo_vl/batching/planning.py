"""From groups to micro-batches. The order is fixed: mini-batches first, then ranks, then micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gmpo_vl.rollout.types import Group


@dataclass(frozen=True)
class Row:
    """One response of a group, by its place."""

    group: Group
    k: int

    @property
    def ids_T(self) -> torch.Tensor:
        return self.group.responses[self.k].ids_T

    @property
    def advantage(self) -> torch.Tensor:
        """Scalar; the group's advantages must have been computed."""
        assert self.group.advantages_G is not None
        return self.group.advantages_G[self.k]

    @property
    def response_length(self) -> int:
        return len(self.ids_T)

    @property
    def length(self) -> int:
        """Tokens of prompt and response."""
        return len(self.group.prompt.ids_P) + self.response_length


def mini_batches(groups: Sequence[Group], prompts_per_batch: int) -> Iterator[list[Group]]:
    """Consecutive groups, `prompts_per_batch` at a time: the same at every world size and split."""
    for start in range(0, len(groups), prompts_per_batch):
        yield list(groups[start : start + prompts_per_batch])


def rows_of(groups: Sequence[Group]) -> list[Row]:
    """Every response of the groups, a group's together."""
    return [Row(group, k) for group in groups for k in range(len(group.responses))]


def micro_batches(
    rows: Sequence[Row], max_rows: int | None = None, max_tokens: int | None = None
) -> list[list[Row]]:
    """Rows that run together: at most `max_rows`, and at most `max_tokens` once padded to the longest.

    Groups stay together (their pictures and prompts are computed once) and are ordered by their longest row, so that
    little is padded. A row longer than `max_tokens` runs alone.
    """
    longest: dict[str, int] = {}
    for row in rows:
        longest[row.group.key] = max(longest.get(row.group.key, 0), row.length)
    ordered = sorted(rows, key=lambda row: (longest[row.group.key], row.group.key, row.k))
    batches: list[list[Row]] = []
    width = 0
    for row in ordered:
        current = batches[-1] if batches else []
        width_with = max(width, row.length)
        too_many = max_rows is not None and len(current) >= max_rows
        too_long = max_tokens is not None and width_with * (len(current) + 1) > max_tokens
        if not batches or (current and (too_many or too_long)):
            batches.append([row])
            width = row.length
        else:
            current.append(row)
            width = width_with
    return batches
