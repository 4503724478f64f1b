"""From groups to micro-batches, in a fixed order: mini-batches, then ranks, then micro-batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch

from gmpo_vl.types import Group, Prompt

OfGroup = TypeVar("OfGroup")  # a group, or something that stands for one


@dataclass(frozen=True)
class Shape:
    """Tokens of one prompt and its responses; grids: patches in (time, height, width) of each picture."""

    prompt: int
    responses: tuple[int, ...]
    grids: tuple[tuple[int, int, int], ...] = ()


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
    def prompt(self) -> Prompt:
        return self.group.prompt_of(self.k)

    @property
    def sharing(self) -> tuple[str, int]:
        """The same for rows of a group with one prompt, which the shared forward computes once."""
        return self.group.key, id(self.prompt)

    @property
    def weight(self) -> float:
        """In its mini-batch's mean, beside what the objective says."""
        return 1.0 if self.group.weights_G is None else float(self.group.weights_G[self.k])

    @cached_property
    def response_length(self) -> int:
        return len(self.ids_T)

    @property
    def length(self) -> int:
        """Tokens of prompt and response."""
        return len(self.prompt.ids_P) + self.response_length


def mini_batches(groups: Sequence[OfGroup], prompts_per_batch: int) -> Iterator[list[OfGroup]]:
    """Consecutive groups, `prompts_per_batch` at a time: the same at every world size and split."""
    for start in range(0, len(groups), prompts_per_batch):
        yield list(groups[start : start + prompts_per_batch])


def rows_of(groups: Sequence[Group]) -> list[Row]:
    """Every response of the groups, a group's together."""
    return [Row(group, k) for group in groups for k in range(len(group.responses))]


def tokens_saved(rows: Sequence[Row], limits: Limits) -> float:
    """Share of the tokens of one forward per rollout that sharing prompts under these limits saves."""
    alone = sum(row.length for row in rows)
    return 1 - sum(limits.tokens(batch) for batch in micro_batches(rows, limits)) / alone


def in_one_prompt(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each prompt together, in the order of their first ones: a group's all, a game's by turn."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault(row.sharing, []).append(row)
    return list(found.values())


def split_groups(batches: Sequence[Sequence[Row]]) -> tuple[int, int]:
    """How many prompts' rows lie in more than one micro-batch, and how many prompts there are."""
    parts = Counter(key for batch in batches for key in {row.sharing for row in batch})
    return sum(count > 1 for count in parts.values()), len(parts)


def shapes_of(batches: Sequence[Sequence[Row]]) -> list[Shape]:
    """What the forwards compute: each prompt's part in each micro-batch."""
    shapes = []
    for batch in batches:
        for rows in in_one_prompt(batch):
            prompt = rows[0].prompt
            grids = tuple((int(t), int(h), int(w)) for t, h, w in prompt.image_grid_thw.tolist())
            shapes.append(Shape(len(prompt.ids_P), tuple(row.response_length for row in rows), grids))
    return shapes


@dataclass(frozen=True)
class Limits:
    """What one forward may hold: `max_rows` responses and `max_tokens` tokens; None: no limit.

    share_prefix: a prompt's tokens count once (one packed row), or with each response, padded to the longest.
    """

    max_rows: int | None = None
    max_tokens: int | None = None
    share_prefix: bool = True

    def tokens(self, rows: Sequence[Row]) -> int:
        if self.share_prefix:
            prompts = {row.sharing: len(row.prompt.ids_P) for row in rows}
            return sum(prompts.values()) + sum(row.response_length for row in rows)
        return len(rows) * max(row.length for row in rows)

    def allow(self, rows: Sequence[Row]) -> bool:
        """A single row is always allowed: it cannot be made smaller."""
        if len(rows) <= 1:
            return True
        too_many = self.max_rows is not None and len(rows) > self.max_rows
        return not too_many and (self.max_tokens is None or self.tokens(rows) <= self.max_tokens)


def micro_batches(rows: Sequence[Row], limits: Limits) -> list[list[Row]]:
    """Rows that run together. Those of one prompt stay together, or have as few parts as the limits allow.

    Prompts are ordered by their longest row, so that neighbours are of similar length.
    """
    batches: list[list[Row]] = []
    ordered = sorted(
        in_one_prompt(rows), key=lambda rows: (max(r.length for r in rows), rows[0].group.key, rows[0].k)
    )
    for of_prompt in ordered:
        for part in _parts(of_prompt, limits):
            if batches and limits.allow(batches[-1] + part):
                batches[-1] = batches[-1] + part
            else:
                batches.append(part)
    return batches


def _parts(rows: list[Row], limits: Limits) -> list[list[Row]]:
    """The rows whole, or in the fewest parts that the limits allow, with equal numbers of rows up to one."""
    for count in range(1, len(rows) + 1):
        size, extra = divmod(len(rows), count)
        ends = [size * (i + 1) + min(extra, i + 1) for i in range(count)]
        parts = [rows[start:end] for start, end in zip([0, *ends], ends)]
        if all(limits.allow(part) for part in parts):
            return parts
    raise AssertionError("single rows are always allowed")
