"""A packed row as a layer with a recurrent state reads it (states.py): which tokens run in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gmpo_vl.models.packing import Segment

# Rows of different lengths share a call where padding adds at most a quarter to its tokens, or where the call
# is so small (tokens) that overhead dominates.
PADDING = 1.25
SMALL = 256
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


def _similar(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Batches of segments of similar lengths, for one call each."""
    batches: list[list[Segment]] = []
    alone = 0
    for s in sorted(segments, key=lambda s: s.length):
        together = (len(batches[-1]) + 1) * s.length if batches else 0
        if batches and together <= max(PADDING * (alone + s.length), SMALL):
            batches[-1].append(s)
            alone += s.length
        else:
            batches.append([s])
            alone = s.length
    return batches


def _prompt_rows(segments: Sequence[Segment]) -> Rows:
    length_m1, columns_Q = _columns(segments)
    offset_mQ = columns_Q - (len(columns_Q) - length_m1)
    rows = _rows(segments, offset_mQ, offset_mQ >= 0)
    return rows if bool((offset_mQ >= 0).all()) else Rows(rows.index_mQ, rows.real_N, offset_mQ >= 0)


def _response_rows(segments: Sequence[Segment], prompts: list[int]) -> Rows:
    length_m1, columns_Q = _columns(segments)
    rows = _rows(segments, columns_Q.expand(len(segments), -1), columns_Q < length_m1)
    return Rows(rows.index_mQ, rows.real_N, prompt_m=torch.tensor(prompts))


def _columns(segments: Sequence[Segment]) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths (m, 1), and the numbers of the columns (Q,)."""
    lengths = torch.tensor([s.length for s in segments])
    return lengths[:, None], torch.arange(max(SHORTEST, int(lengths.max())))


def _rows(segments: Sequence[Segment], offset_mQ: torch.Tensor, real_mQ: torch.Tensor) -> Rows:
    start_m1 = torch.tensor([s.start for s in segments])[:, None]
    index_mQ = (start_m1 + offset_mQ).where(real_mQ, torch.zeros(()).long())
    return Rows(index_mQ, real_mQ.flatten().nonzero().squeeze(1))
