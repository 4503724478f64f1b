"""A packed row as a layer with a recurrent state reads it (states.py): which tokens run in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from gmpo_vl.models.packing import Segment
from gmpo_vl.models.padding import padded, places, similar

SMALL = 256  # tokens of a call in which overhead dominates
# A single token that continues from a state would take the kernels for decoding. They change the states in
# place, and flash-linear-attention's has no backward.
SHORTEST = 2


@dataclass(frozen=True)
class Rows:
    """Prompts or responses that go through a layer in one call. Padding points at the packed row's token 0.

    index_mQ: int64, into the packed row. real_N: int64, positions of the real tokens among all m * Q.
    real_mQ: bool, which are real; None where all are, and for responses. prompt_m: int64, whose states each
    response continues, a row of all prompts' states; None for prompts.
    """

    index_mQ: torch.Tensor
    real_N: torch.Tensor
    real_mQ: torch.Tensor | None = None
    prompt_m: torch.Tensor | None = None

    def to(self, device: torch.device) -> Rows:
        moved = (None if x is None else x.to(device) for x in vars(self).values())
        return Rows(*moved)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Order:
    """A packed row as a layer with a state reads it. inverse_L: each token's place in the calls' results."""

    prompts: tuple[Rows, ...]
    responses: tuple[Rows, ...]
    inverse_L: torch.Tensor


def reading_order(segments: Sequence[Segment], device: torch.device) -> Order:
    """The calls for a packed row's segments, none of them empty."""
    batches = _similar([s for s in segments if s.prefix_length == 0])
    prompts = [_prompt_rows(batch) for batch in batches]
    row_of = {s.start: row for row, s in enumerate(s for batch in batches for s in batch)}
    batches = _similar([s for s in segments if s.prefix_length > 0])
    responses = [_response_rows(batch, [row_of[s.prefix_start] for s in batch]) for batch in batches]
    read_L = torch.cat([rows.index_mQ.flatten()[rows.real_N] for rows in (*prompts, *responses)])
    return Order(
        tuple(rows.to(device) for rows in prompts),
        tuple(rows.to(device) for rows in responses),
        read_L.argsort().to(device),
    )


def _similar(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Batches of segments for one call each. What a layer computes grows with a row's tokens alone."""
    return similar(segments, lambda s: (0, s.length), lambda _, length: length, SMALL)


def _prompt_rows(segments: Sequence[Segment]) -> Rows:
    index_mQ, real_mQ = padded([[(s.start, s.length)] for s in segments], left=True, shortest=SHORTEST)
    return Rows(index_mQ, places(real_mQ), None if bool(real_mQ.all()) else real_mQ)


def _response_rows(segments: Sequence[Segment], prompts: list[int]) -> Rows:
    index_mQ, real_mQ = padded([[(s.start, s.length)] for s in segments], shortest=SHORTEST)
    return Rows(index_mQ, places(real_mQ), prompt_m=torch.tensor(prompts))
